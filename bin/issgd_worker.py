"""Measures gradient norms of blocks of examples for a master, until its run is over (chapter 7).

Give it the master's flags for data and model (--dataset, --data_dir, --examples, --model and so
on), and the same --run_id, --block_size and --seed: the store refuses what does not fit. As many as
there are machines or cores to spare may run; they may start before the master, die at any moment,
and join late.

    export ISSGD_STORE=redis://redis.example:6379/0
    python -m bin.issgd_worker --run_id=r1 --dataset=cifar10 --data_dir=... --model=issgd_mlp

docs/issgd has working files for Kubernetes, Slurm and Ray that start many.
"""

import os

from absl import app, flags

from bin.common import configs, runs
from bin.jobs.issgd import common

FLAGS = flags.FLAGS
flags.DEFINE_string("worker_name", None, "By which the master knows it. Default: host and process.")
flags.DEFINE_integer("worker_batch_size", 256, "Examples that are computed at once.", 1)
flags.DEFINE_float("lease_seconds", 30.0, "Time after which an unfinished block is another's.", 0.1)
flags.DEFINE_integer("max_blocks", None, "Blocks to measure at most. Default: no end.", 0)
flags.DEFINE_integer("parent", None, "Process with whose end this one is to end.", 1)
configs.use(
    __name__,
    configs.DATA,
    configs.MODEL,
    common.RUN,
    ("num_virtual_devices", "precision", "seed"),
)


def main(argv):
    """Flags, worker, run."""
    with runs.clean_errors(argv), common.clean_store_errors():
        wanted, url = common.run_from_flags(), common.store_url()
        from thesis_tf import hardware, issgd

        data, classes = wanted.load()
        hardware.configure(configs.hardware())
        worker = issgd.Worker(
            wanted.build(data, classes),
            common.loss(),
            data,
            issgd.open_store(url, wanted.run_id),
            name=FLAGS.worker_name,
            batch_size=FLAGS.worker_batch_size,
            block_size=wanted.block_size,
            lease_seconds=FLAGS.lease_seconds,
            log=common.log,
        )
        done = worker.run(blocks=FLAGS.max_blocks, stop=_orphaned, progress=True)
        print(f"{worker.name} measured {done} blocks.")


def _orphaned():
    return FLAGS.parent is not None and os.getppid() != FLAGS.parent


if __name__ == "__main__":
    FLAGS.set_default("model", "mlp")
    app.run(main)
