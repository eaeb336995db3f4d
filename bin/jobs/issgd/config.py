"""The configs of the importance-sampling programs; their fields are flags.

The master, workers and peers of one run must have the same flags of `RunSettings`; the store
rejects a process with another model or other data.
"""

import dataclasses
import re
from typing import TYPE_CHECKING, Any

from bin.common import configs, flags
from bin.common.flags import option

if TYPE_CHECKING:
    import keras

    from thesis_tf import issgd
    from thesis_tf.datasets import Splits

# Defaults of the programs that differ from those of the options.
DEFAULTS = {"model": "mlp", "optimizer": "sgd", "learning_rate": 0.01}
_SMOOTHING = re.compile(r"(?:(relative|uniform|entropy):)?(\d*\.?\d+)")
_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
NAME_MESSAGE = "must be 1 to 64 letters, digits, '.', '_' or '-'"


def is_name(name: str | None) -> bool:
    """Returns whether a name is valid for a run or a peer; None is valid and means no name."""
    return name is None or bool(_NAME.fullmatch(name))


def _is_smoothing(value: str) -> bool:
    found = _SMOOTHING.fullmatch(value)
    if found is None:
        return False
    kind, number = found[1], float(found[2])
    if kind == "uniform":
        return number < 1
    if kind == "entropy":
        return 0 < number < 1
    return True


def steps_option() -> Any:
    """Returns the option `steps`, which several configs have."""
    return option(5000, "Steps to train, including those before a kill.", lower_bound=1)


@dataclasses.dataclass(frozen=True)
class RunSettings:
    """The data, network and sizes on which all processes of a run must agree."""

    data: configs.Data
    model: configs.Model
    run_id: str = option(
        "issgd", "Name of the run in the store.", valid=is_name, message=NAME_MESSAGE
    )
    block_size: int = option(
        2048,
        "Examples per block, the unit of work of a worker; the same for the master, workers and"
        " peers of a run.",
        lower_bound=1,
    )

    def load(self) -> "Splits":
        """Returns the `Splits`."""
        return self.data.load(self.model)

    def build(self, splits: "Splits") -> "keras.Model":
        """Returns the network; raises ValueError if it doesn't fit the data."""
        from bin.common import model_fit

        classes = splits.num_classes if self.model.weights == "none" else None
        model = self.model.build(splits, classes)
        model_fit.check(model, splits)
        return model

    def check(self) -> None:
        """Raises UsageError for a network that these programs can't train."""
        if self.model.auxiliary_head:
            raise flags.UsageError(
                "These programs train a network with one output: leave out --auxiliary_head."
            )


@dataclasses.dataclass(frozen=True)
class Draws:
    """The distribution from which examples are drawn."""

    smoothing: str = option(
        "relative:1",
        "The constant that is added to every gradient norm: X >= 0, as in the thesis (10, 1);"
        " relative:X, which is X >= 0 times the mean norm; uniform:X, with which a fraction X in"
        " [0, 1) of the draws is uniform; entropy:X, with which draws have the same entropy as"
        " uniform draws from a fraction X in (0, 1) of the examples.",
        valid=_is_smoothing,
        message="must be X or relative:X with X >= 0, uniform:X with X in [0, 1), entropy:X with X"
        " in (0, 1)",
    )
    staleness: int | None = option(
        None, "Maximum age of a gradient norm in steps. Default: no maximum.", lower_bound=0
    )
    staleness_seconds: float | None = option(
        None,
        "Maximum age of a gradient norm in seconds (20 in the thesis). Default: no maximum.",
        lower_bound=0,
    )
    min_usable: float = option(
        0.1,
        "If fewer than this fraction of the gradient norms is usable, draws are uniform.",
        lower_bound=0,
        upper_bound=1,
    )

    def rule(self) -> "issgd.Smoothing":
        """Returns the smoothing rule."""
        from thesis_tf import issgd

        found = _SMOOTHING.fullmatch(self.smoothing)
        assert found is not None
        kind, number = found[1], float(found[2])
        if kind == "relative":
            return issgd.RelativeToMean(number)
        if kind == "uniform":
            return issgd.UniformMixture(number)
        if kind == "entropy":
            return issgd.TargetEntropy(number)
        return issgd.Additive(number)

    def proposal(self, num_examples: int, seed: int) -> "issgd.Proposal":
        """Returns the `Proposal`."""
        from thesis_tf import issgd

        return issgd.Proposal(
            num_examples,
            smoothing=self.rule(),
            staleness=self.staleness,
            staleness_seconds=self.staleness_seconds,
            min_usable=self.min_usable,
            seed=seed,
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class SynchronizedTraining(configs.Optimization):
    """The optimizer, its batches, and when it exchanges with other processes."""

    momentum: float = option(
        0.0,
        "Nesterov momentum, with --optimizer=sgd (0.95 in the thesis).",
        lower_bound=0,
        upper_bound=1,
    )
    sync_every: int = option(32, "Steps between synchronizations with the store.", lower_bound=1)

    def compile(self, model: "keras.Model") -> None:
        """Compiles a model for classification."""
        from bin.common import training

        model.compile(training.optimizer_for(self, momentum=self.momentum), loss_of(model))

    def check(self) -> None:
        """Raises UsageError for a combination that makes no sense."""
        if self.momentum and self.optimizer != "sgd":
            raise flags.UsageError("--momentum requires --optimizer=sgd.")


@dataclasses.dataclass(frozen=True)
class Limits:
    """The limits of one call; another call for the same run may have other limits."""

    steps: int = steps_option()
    max_seconds: float | None = option(
        None, "Seconds after which training ends, even before --steps.", lower_bound=1e-3
    )
    checkpoint_every: int = configs.checkpoint_every()


@dataclasses.dataclass(frozen=True)
class Config:
    """The settings of a training; a folder with an equal config holds the same training."""

    run: RunSettings
    draws: Draws
    training: SynchronizedTraining
    hardware: configs.Hardware

    def check(self) -> None:
        """Raises UsageError for a combination of flags that makes no sense."""
        self.run.check()
        self.training.check()


def pairs(splits: "Splits") -> dict[str, tuple[Any, Any]]:
    """Returns {split: (x, y)}, as the library's trainers and workers take data."""
    parts = {name: getattr(splits, name) for name in ("train", "validation", "test")}
    return {name: (part.x, part.y) for name, part in parts.items()}


def loss_of(model: "keras.Model") -> "keras.losses.Loss":
    """Returns the loss that the master and peers minimize and whose gradients workers measure."""
    from bin.common import training

    return training.cross_entropies(model)[0]
