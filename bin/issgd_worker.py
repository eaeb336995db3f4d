"""Measures gradient norms of blocks of examples for a master until its run ends (chapter 7).

Pass the same flags for data and model as to the master (--dataset, --data_dir, --examples, --model
and so on), and the same --run_id, --block_size and --seed; otherwise the store rejects the worker.
Start one worker per available machine or core. Workers may start before the master, join late, and
die at any moment.

    export ISSGD_STORE=redis://redis.example:6379/0
    python -m bin.issgd_worker --run_id=r1 --dataset=cifar10 --data_dir=... --model=issgd_mlp

docs/issgd has files that start many workers with Kubernetes, Slurm and Ray.
"""

import dataclasses
import os

from bin.common import configs, ends, flags
from bin.common.flags import option
from bin.jobs.issgd import config as issgd_configs
from bin.jobs.issgd import store_url
from thesis_tf.reporting import progress


@dataclasses.dataclass(frozen=True)
class Config:
    """The settings of a worker."""

    run: issgd_configs.RunSettings
    hardware: configs.Hardware
    worker_name: str | None = option(
        None, "The worker's name in the store. Default: host and process."
    )
    worker_batch_size: int = option(256, "Examples that are computed at once.", lower_bound=1)
    lease_seconds: float = option(
        30.0, "Seconds after which an unfinished block goes to another worker.", lower_bound=0.1
    )
    max_blocks: int | None = option(
        None, "Blocks after which the worker stops. Default: no limit.", lower_bound=0
    )
    parent: int | None = option(None, "A process id; the worker ends with it.", lower_bound=1)


flags.define(
    __name__,
    Config,
    store_url.StoreUrl,
    defaults={"model": "mlp"},
    leave_out=["distribution", "deterministic", "tpu"],
)


def main(argv: list[str]) -> None:
    """Flags, worker, run."""
    with ends.clean_errors(argv), store_url.clean_errors():
        config = flags.read(Config)
        config.run.check()
        url = store_url.url_of_run(config.run.run_id)
        from thesis_tf import hardware, issgd

        splits = config.run.load()
        data = issgd_configs.pairs(splits)
        hardware.configure(config.hardware)
        model = config.run.build(splits)
        worker = issgd.Worker(
            model,
            issgd_configs.loss_of(model),
            data,
            issgd.stores.open_store(url, run_id=config.run.run_id),
            name=config.worker_name,
            batch_size=config.worker_batch_size,
            block_size=config.run.block_size,
            lease_seconds=config.lease_seconds,
            log=progress.say,
        )

        def is_orphaned() -> bool:
            return config.parent is not None and os.getppid() != config.parent

        done = worker.run(blocks=config.max_blocks, stop=is_orphaned)
        print(f"{worker.name} measured {done} blocks.")


if __name__ == "__main__":
    ends.start(main)
