"""Trains as one of several peers, which share gradient norms and parameters (section 7.6).

Every peer trains; there is no master and no worker. Start any number of peers, with the same
--run_id and different values of --peer_name, which determines a peer's folder and draws:

    python -m bin.issgd_peer --peer_name=a &
    python -m bin.issgd_peer --peer_name=b

Each peer pushes the gradient norms of the examples on which it trains, and draws examples by the
norms from all peers. Every --syncs_per_exchange synchronizations, it averages its parameters with
those of a random other peer. After a kill, the same command continues. A peer that joins late
begins with the parameters of another peer. The program writes the same files to --output_dir as
bin.issgd_master.
"""

import dataclasses
import functools
import pathlib
import zlib

from bin.common import configs, contents, ends, flags, runs
from bin.common.flags import option
from bin.jobs.issgd import config as issgd_configs
from bin.jobs.issgd import signals, store_url, training


@dataclasses.dataclass(frozen=True)
class Config(issgd_configs.Config):
    """The settings of a peer's training."""

    peer_name: str | None = option(
        None,
        "The name of this peer, unique in the run: letters, digits, '.', '_', '-'.",
        valid=issgd_configs.is_name,
        message=issgd_configs.NAME_MESSAGE,
    )
    syncs_per_exchange: int = option(
        1, "Synchronizations between averages of parameters.", lower_bound=1
    )
    mixing_fraction: float = option(
        0.5,
        "The fraction of the way that parameters move toward those of the other peer.",
        valid=lambda value: 0 < value <= 1,
        message="must be above 0 and at most 1",
    )


flags.define(
    __name__,
    Config,
    issgd_configs.Limits,
    store_url.StoreUrl,
    configs.Output,
    defaults=issgd_configs.DEFAULTS,
    leave_out=["distribution", "tpu"],
)


def config_from_flags() -> Config:
    """Reads the flags; raises UsageError for a combination that makes no sense."""
    config = flags.read(Config)
    if not config.peer_name:
        raise flags.UsageError("--peer_name is required: a name that is unique in the run.")
    config.check()
    return config


def run(
    config: Config,
    limits: issgd_configs.Limits,
    folder: pathlib.Path,
    *,
    url: str,
    begin: runs.Begin = runs.no_folder,
    warn: ends.Warn = ends.unheard,
) -> dict[str, float]:
    """Trains and writes to a folder; returns the metrics on the test examples.

    `begin` is called after all checks of the arguments, before anything is written; `warn` if a
    diagnostic is bad.
    """
    from bin.jobs.issgd import reports
    from thesis_tf import hardware, issgd

    splits = config.run.load()
    data = issgd_configs.pairs(splits)
    hardware.configure(config.hardware)
    model = config.run.build(splits)
    config.training.compile(model)
    seed = zlib.crc32(f"{config.hardware.seed} {config.peer_name}".encode())
    report = reports.ResultWriter(folder)
    synchronizer = issgd.PeerSynchronizer(
        store_url.open_store(url, run_id=config.run.run_id),
        str(config.peer_name),
        syncs_per_exchange=config.syncs_per_exchange,
        mixing_fraction=config.mixing_fraction,
        block_size=config.run.block_size,
    )
    proposal = config.draws.proposal(len(data["train"][1]), seed)
    begin(contents.of_examples(data.values()))
    trainer = training.trainer(
        config, limits, folder, model, data, proposal, synchronizer, on_sync=report.write
    )
    with signals.stopping() as stop:
        history = trainer.train(limits.steps, seconds=limits.max_seconds, stop=stop)
    store_url.log_what_stays(url, config.run.run_id)
    doubts = [*reports.uniform_draws([history]), *reports.lonely(history)]
    return report.finish(model, history, data["test"], doubts=doubts, warn=warn)


def main(argv: list[str]) -> None:
    """Flags, config, run."""
    with ends.clean_errors(argv), store_url.clean_errors():
        config = config_from_flags()
        start = functools.partial(run, url=store_url.url_of_run(config.run.run_id))
        limits, output = flags.read(issgd_configs.Limits), flags.read(configs.Output)
        default = f"runs/issgd_peer_{config.peer_name}"
        training.run_in_folder(config, limits, output, default, start)


if __name__ == "__main__":
    ends.start(main)
