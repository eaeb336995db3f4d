"""A training in an output folder, for masters and peers."""

import functools
import pathlib
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from bin.common import configs, ends, runs
from bin.jobs.issgd.config import Config, Limits
from thesis_tf.reporting import progress

if TYPE_CHECKING:
    import keras

    from thesis_tf import issgd

_C = TypeVar("_C", bound=Config, contravariant=True)


class TrainFunction(Protocol[_C]):
    """Trains and writes to a folder; returns the metrics on the test examples.

    It calls `begin` after all checks of the arguments, before it writes anything, and `warn` if a
    diagnostic is bad.
    """

    def __call__(
        self,
        config: _C,
        limits: Limits,
        folder: pathlib.Path,
        *,
        begin: runs.Begin,
        warn: ends.Warn,
    ) -> Mapping[str, float]: ...


def run_in_folder(
    config: _C, limits: Limits, output: configs.Output, default_folder: str, run: TrainFunction[_C]
) -> None:
    """Claims the output folder, calls `run`, and prints its metrics.

    Args:
        config: the settings of the training.
        limits: when this call ends.
        output: where to write.
        default_folder: the folder if --output_dir isn't given.
        run: the function that trains.
    """
    folder = runs.claim(output.output_dir or default_folder, config, output.overwrite)
    begin = functools.partial(runs.begin, folder, config, overwrite=output.overwrite)
    doubts: list[str] = []
    metrics = run(config, limits, folder, begin=begin, warn=doubts.append)
    shown = ", ".join(f"{name} {value:.4f}" for name, value in metrics.items())
    print(f"Test examples: {shown}. All results are in {folder}.")
    extent = {"steps": limits.steps, "max_seconds": limits.max_seconds}
    ends.conclude(folder, doubts, extent=extent)


def trainer(
    config: Config,
    limits: Limits,
    folder: pathlib.Path,
    model: "keras.Model",
    data: Mapping[str, Any],
    proposal: "issgd.Proposal",
    synchronizer: "issgd.Synchronizer | None",
    *,
    on_sync: "Callable[[issgd.Record], None]",
) -> "issgd.Trainer":
    """Returns the `Trainer` of a config, which keeps its state in `folder`."""
    from thesis_tf import issgd

    return issgd.Trainer(
        model,
        data,
        proposal=proposal,
        synchronizer=synchronizer,
        batch_size=config.training.batch_size,
        sync_every=config.training.sync_every,
        checkpoint_every=limits.checkpoint_every,
        folder=folder,
        log=progress.say,
        on_sync=on_sync,
    )
