"""A master's training, with workers on this machine or others."""

import functools
import pathlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from bin.common import contents, ends, runs
from bin.jobs.issgd import local_workers, signals, store_url, training
from bin.jobs.issgd.config import Limits, pairs

if TYPE_CHECKING:
    from bin.issgd_master import Config
    from thesis_tf import issgd
    from thesis_tf.issgd import stores


def run(
    config: "Config",
    limits: Limits,
    folder: pathlib.Path,
    *,
    url: str | None = None,
    workers: int = 0,
    worker_flags: Sequence[str] = (),
    begin: runs.Begin = runs.no_folder,
    warn: ends.Warn = ends.unheard,
) -> dict[str, float]:
    """Trains and writes to a folder.

    Args:
        config: the settings of the training.
        limits: when this call ends.
        folder: where to write.
        url: the URL of the store; None for shared memory of the folder.
        workers: the number of workers to start on this machine.
        worker_flags: the arguments of these workers, on which they agree with the master.
        begin: called after all checks of the arguments, before anything is written.
        warn: called if a diagnostic is bad.

    Returns:
        The metrics on the test examples.
    """
    from bin.jobs.issgd import reports
    from thesis_tf import hardware

    own_url = store_url.url_of_folder(folder, config.run.run_id)
    url = url or own_url
    splits = config.run.load()
    data = pairs(splits)
    strategy = hardware.configure(config.hardware)
    with strategy.scope():
        model = config.run.build(splits)
        config.training.compile(model)
    uniform = config.mode == "uniform"
    proposal = config.draws.proposal(len(data["train"][1]), config.hardware.seed)
    proposal.uniform = uniform
    report = reports.ResultWriter(folder)
    make = functools.partial(
        training.trainer, config, limits, folder, model, data, proposal, on_sync=report.write
    )
    store = None if uniform else store_url.open_store(url, config.run.run_id)
    begin(contents.of_examples(data.values()))
    own = store is not None and url == own_url
    with store_url.freed(store if own else None):
        if store is None:
            trainer = make(None)
        else:
            trainer = trainer_with_store(make, store, config, own=own)
        local = local_workers.LocalWorkers(workers, folder, url, worker_flags)
        waits = config.mode == "exact" and workers > 0
        history = train(trainer, limits, local, waits=waits)
    if store is not None and not own:
        store_url.log_what_stays(url, config.run.run_id)
    doubts = []
    if not uniform:
        doubts = [*reports.uniform_draws([history]), *reports.stale_norms(history)]
    return report.finish(model, history, data["test"], doubts=doubts, warn=warn)


def trainer_with_store(
    make: "Callable[[issgd.Synchronizer], issgd.Trainer]",
    store: "stores.Store",
    config: "Config",
    *,
    own: bool,
) -> "issgd.Trainer":
    """Returns a trainer that exchanges with workers.

    Args:
        make: a function from a synchronizer to the trainer.
        store: where they meet.
        config: the settings of the training.
        own: whether no other run uses the store.

    Raises:
        RunMismatchError: another run is in the store.
    """
    from thesis_tf import issgd

    def trainer() -> issgd.Trainer:
        exact, block_size = config.mode == "exact", config.run.block_size
        return make(issgd.MasterSynchronizer(store, exact=exact, block_size=block_size))

    try:
        return trainer()
    except issgd.stores.RunMismatchError:
        if not own:
            raise
        # A killed run, which is overwritten now, left this store.
        store.delete()
        return trainer()


def train(
    trainer: "issgd.Trainer", limits: Limits, workers: local_workers.LocalWorkers, *, waits: bool
) -> "issgd.History":
    """Trains until a limit or a signal; `waits` for local workers, which must not all have ended.

    Raises:
        RunError: they have.
    """
    with signals.stopping() as is_asked, workers as local:

        def stop() -> bool:
            if not local.any_left() and waits:
                raise ends.RunError("--mode=exact waits for workers, but all of them ended.")
            return is_asked()

        return trainer.train(limits.steps, seconds=limits.max_seconds, stop=stop)
