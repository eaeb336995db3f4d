r"""Trains by importance sampling, with workers that keep the examples' gradient norms up to date.

This is chapter 7 of the thesis. With only --local_workers it trains the MLP on the bundled data,
with workers that it starts on this machine and that use shared memory. This takes a minute on two
cores:

    python -m bin.issgd_master --local_workers=2

On several machines with one Redis server; workers may start first, die and join late:

    export ISSGD_STORE=rediss://user:password@redis.example:6380/0
    python -m bin.issgd_master --run_id=r1 --dataset=cifar10 --data_dir=... --model=issgd_mlp
    python -m bin.issgd_worker --run_id=r1 --dataset=cifar10 --data_dir=... --model=issgd_mlp

The settings of the thesis (7.4; smoothing +10 or +1, 5,000 validation examples):

    python -m bin.issgd_master --local_workers=3 --dataset=cifar10 --data_dir=... \
        --examples=45000,5000,10000 --model=issgd_mlp --optimizer=sgd --learning_rate=.01 \
        --momentum=.95 --smoothing=10 --staleness_seconds=20

With --mode=exact the master waits, every --sync_every steps, until all gradient norms have been
measured with the current parameters (figure 7.1). With --mode=uniform, a baseline, it draws
uniformly and needs no store. After a kill, the same command continues from the last checkpoint;
after the end, the same command with more --steps continues the training. The program writes to
--output_dir:

    config.json, checkpoint.npz     the run, and the state from which it continues
    history.jsonl, logs/            a record every --sync_every steps; also for TensorBoard
    training.png                    losses and errors over steps and time
    gradient_variance.png           square roots of gradient variances (figure 7.4)
    model.keras, metrics.json       at the end
    worker_N.log                    the logs of --local_workers
"""

import dataclasses
import functools
from typing import Literal

from bin.common import configs, ends, flags, runs
from bin.common.flags import option
from bin.jobs.issgd import config as issgd_configs
from bin.jobs.issgd import master, store_url, training


@dataclasses.dataclass(frozen=True)
class Config(issgd_configs.Config):
    """The settings of a master's training."""

    mode: Literal["relaxed", "exact", "uniform"] = option("relaxed", "How it synchronizes.")


@dataclasses.dataclass(frozen=True)
class Workers:
    """The workers that the master starts."""

    local_workers: int = option(0, "Workers to start on this machine.", lower_bound=0)


flags.define(
    __name__,
    Config,
    Workers,
    issgd_configs.Limits,
    store_url.StoreUrl,
    configs.Output,
    defaults=issgd_configs.DEFAULTS,
)


def config_from_flags() -> Config:
    """Reads the flags; raises UsageError for a combination that makes no sense."""
    config = flags.read(Config)
    if config.hardware.distribution not in ("none", "mirrored", "tpu"):
        raise flags.UsageError(
            "One master trains, on one machine: --distribution=none or mirrored."
        )
    if config.mode == "uniform":
        why = "--mode=uniform doesn't use workers or gradient norms"
        runs.refuse_given(("store", *flags.names(issgd_configs.Draws)), why)
        if flags.read(Workers).local_workers:
            runs.refuse(["local_workers"], why)
    config.check()
    return config


def main(argv: list[str]) -> None:
    """Flags, config, run."""
    with ends.clean_errors(argv), store_url.clean_errors():
        config, workers = config_from_flags(), flags.read(Workers).local_workers
        url = store_url.given_url()
        if url is None and not workers:
            url = store_url.url_of_run(config.run.run_id)
        shared = flags.as_arguments((*flags.names(issgd_configs.RunSettings), "precision"))
        start = functools.partial(master.run, url=url, workers=workers, worker_flags=shared)
        limits, output = flags.read(issgd_configs.Limits), flags.read(configs.Output)
        training.run_in_folder(config, limits, output, "runs/issgd_master", start)


if __name__ == "__main__":
    ends.start(main)
