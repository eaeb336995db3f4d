r"""Trains by importance sampling, with workers that keep the examples' gradient norms fresh.

This is chapter 7 of the thesis. With no flags but --local_workers it trains the MLP on the bundled
data with workers of its own on this machine, which meet in shared memory: a minute on two cores.

    python -m bin.issgd_master --local_workers=2

On several machines, against one Redis; workers may start first, die and join late:

    export ISSGD_STORE=rediss://user:password@redis.example:6380/0
    python -m bin.issgd_master --run_id=r1 --dataset=cifar10 --data_dir=... --model=issgd_mlp
    python -m bin.issgd_worker --run_id=r1 --dataset=cifar10 --data_dir=... --model=issgd_mlp

As in the thesis (7.4; smoothing +10 and +1 there, 5,000 examples to validate):

    python -m bin.issgd_master --local_workers=3 --dataset=cifar10 --data_dir=... \
        --examples=45000,5000,10000 --model=issgd_mlp --optimizer=sgd --learning_rate=.01 \
        --momentum=.95 --smoothing=10 --staleness_seconds=20

With --mode=exact it waits, every --sync_every steps, until every norm is of the present parameters
(figure 7.1); with --mode=uniform it draws uniformly and needs no store, as a baseline. The same
command after a kill goes on from the last checkpoint. It writes to --output_dir:

    config.json, checkpoint.npz     the run, and where it goes on
    history.jsonl, logs/            a record every --sync_every steps; the same for TensorBoard
    training.png, traces.png        losses and errors over steps and time; figure 7.4
    model.keras, metrics.json       at the end
    worker_N.log                    of --local_workers
"""

import dataclasses
import functools

from absl import app, flags

from bin import flags_common, issgd_common, runs

FLAGS = flags.FLAGS
flags.DEFINE_enum("mode", "relaxed", ["relaxed", "exact", "uniform"], "How it synchronises.")
flags.DEFINE_integer("local_workers", 0, "Workers to run on this machine.", lower_bound=0)
flags.DEFINE_float("max_seconds", None, "Seconds after which training ends, whatever --steps.", 0)
flags_common.use(
    __name__,
    flags_common.OUTPUT,
    flags_common.DATA,
    flags_common.MODEL,
    issgd_common.RUN,
    issgd_common.DRAWS,
    issgd_common.TRAINING,
    flags_common.HARDWARE,
)


@dataclasses.dataclass(frozen=True)
class Config:
    """What a run is; a folder with an equal one holds the same run."""

    run: issgd_common.Run
    draws: issgd_common.Draws
    training: issgd_common.Training
    hardware: flags_common.Hardware
    mode: str


def config_from_flags():
    """Reads FLAGS; raises runs.UsageError for a combination that makes no sense."""
    if FLAGS.distribution not in ("none", "mirrored", "tpu"):
        raise runs.UsageError("One master trains, on one machine: --distribution=none or mirrored.")
    if FLAGS.mode == "uniform" and FLAGS.local_workers:
        raise runs.UsageError("--mode=uniform has no use for --local_workers.")
    return Config(
        issgd_common.run_from_flags(),
        issgd_common.draws_from_flags(),
        issgd_common.training_from_flags(),
        flags_common.hardware(),
        FLAGS.mode,
    )


def run(config, folder, store_url, *, workers=0, seconds=None, begin=lambda: None, progress=False):
    """Trains as `config` says and writes to `folder`; returns the metrics on the test examples.

    `begin` is called once all is known to fit, before anything is written.
    """
    from bin import issgd_reports
    from thesis_tf import distribution, issgd

    data, classes = config.run.load()
    strategy = distribution.configure(config.hardware)
    with strategy.scope():
        model = config.run.build(data, classes)
        config.training.compile(model)
    proposal = config.draws.proposal(len(data["train"][1]), config.hardware.seed)
    proposal.uniform = config.mode == "uniform"
    reports = issgd_reports.Reports(folder)
    options = {
        "batch_size": config.training.batch_size,
        "sync_every": config.training.sync_every,
        "checkpoint_every": config.training.checkpoint_every,
        "folder": folder,
        "log": issgd_common.log,
        "on_sync": reports.write,
    }
    begin()
    store = None
    if config.mode == "uniform":
        master = issgd.Trainer(model, data, proposal, **options)
    else:
        store = issgd.open_store(store_url, config.run.run_id)
        options |= {"exact": config.mode == "exact", "block_size": config.run.block_size}
        master = issgd.Master(model, data, store, proposal, **options)
    with issgd_common.local_workers(workers, folder):
        history = master.train(config.training.steps, seconds=seconds, progress=progress)
    if workers and store_url.startswith("shm://"):
        store.delete()  # shared memory is memory, and nobody else is there to be told
    return reports.finish(model, history, data["test"])


def main(argv):
    """Flags, config, run."""
    with runs.clean_errors(argv), issgd_common.clean_store_errors():
        config = config_from_flags()
        folder = runs.claim(FLAGS.output_dir or "runs/issgd_master", config, FLAGS.overwrite)
        metrics = run(
            config,
            folder,
            issgd_common.store_url(),
            workers=FLAGS.local_workers,
            seconds=FLAGS.max_seconds,
            begin=functools.partial(runs.begin, folder, config),
            progress=True,
        )
        shown = ", ".join(f"{name} {value:.4f}" for name, value in metrics.items())
        print(f"Test examples: {shown}. All is in {folder}.")


if __name__ == "__main__":
    issgd_common.set_defaults()
    app.run(main)
