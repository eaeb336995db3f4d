"""The configs of the importance-sampling programs; their fields are flags.

Master, workers and peers of one run are given the same flags of `Run`; the store refuses a process
that has another model or other data.
"""

import dataclasses
import re
from typing import TYPE_CHECKING, Any, Literal

from bin.common import configs, flags
from bin.common.flags import option

if TYPE_CHECKING:
    import keras

    from thesis_tf import issgd

# The programs' defaults where they differ from the options'.
DEFAULTS = {"model": "mlp", "optimizer": "sgd", "learning_rate": 0.01}
_SMOOTHING = re.compile(r"(?:(relative|uniform|entropy):)?(\d*\.?\d+)")
_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
NAME_MESSAGE = "must be 1 to 64 letters, digits, '.', '_' or '-'"


def is_name(name: str | None) -> bool:
    """Whether a name can be that of a run or a peer; None stands for none."""
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


def _shared(name: str) -> Any:
    """The option of `configs.Training` of this name."""
    (field,) = (field for field in dataclasses.fields(configs.Training) if field.name == name)
    return dataclasses.field(default=field.default, metadata=field.metadata)


def steps_option() -> Any:
    """The option `steps` of several configs."""
    return option(5000, "Steps to train, those before a kill included.", lower_bound=1)


@dataclasses.dataclass(frozen=True)
class Run:
    """The data, network and sizes on which all processes of a run must agree."""

    data: configs.Data
    model: configs.Model
    run_id: str = option(
        "issgd", "Name of the run in the store.", valid=is_name, message=NAME_MESSAGE
    )
    block_size: int = option(
        2048,
        "Examples per block, of which one worker measures the gradient norms at a time; the same"
        " for master, workers and peers of a run.",
        lower_bound=1,
    )

    def load(self) -> tuple[dict[str, tuple[Any, Any]], int]:
        """Returns ({split: (x, y)}, number of classes)."""
        splits = self.data.load()
        data = {name: getattr(splits, name) for name in ("train", "validation", "test")}
        return {name: (split.x, split.y) for name, split in data.items()}, splits.num_classes

    def build(self, data: dict[str, tuple[Any, Any]], num_classes: int) -> "keras.Model":
        """Returns the network."""
        classes = num_classes if self.model.weights == "none" else None
        return self.model.build(data["train"][0].shape[1:], classes)

    def check(self) -> None:
        """Raises UsageError for a network that these programs can't train."""
        if self.model.auxiliary_head:
            raise flags.UsageError(
                "These programs train a network with one output: leave out --auxiliary_head."
            )


@dataclasses.dataclass(frozen=True)
class Draws:
    """The distribution that examples are drawn from."""

    smoothing: str = option(
        "relative:1",
        "What is added to every gradient norm: X, a constant >= 0 as in the thesis (10, 1);"
        " relative:X, X >= 0 times the mean norm; uniform:X, so that a fraction X in [0, 1) of the"
        " draws is uniform; entropy:X, so that the draws have the entropy of uniform draws from a"
        " fraction X in (0, 1) of the examples.",
        valid=_is_smoothing,
        message="must be X or relative:X with X >= 0, uniform:X with X in [0, 1), entropy:X with X"
        " in (0, 1)",
    )
    staleness: int | None = option(
        None, "How many steps old a gradient norm may be. Default: any.", lower_bound=0
    )
    staleness_seconds: float | None = option(
        None,
        "How many seconds old a gradient norm may be (thesis: 20). Default: any.",
        lower_bound=0,
    )
    min_usable: float = option(
        0.1,
        "Fraction of the gradient norms below which draws are uniform.",
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


@dataclasses.dataclass(frozen=True)
class Training:
    """How to train."""

    batch_size: int = _shared("batch_size")
    optimizer: Literal["adam", "sgd", "rmsprop"] = _shared("optimizer")
    learning_rate: float = _shared("learning_rate")
    momentum: float = option(
        0.0,
        "Nesterov momentum, with --optimizer=sgd (thesis: .95).",
        lower_bound=0,
        upper_bound=1,
    )
    sync_every: int = option(32, "Steps between synchronizations with the store.", lower_bound=1)

    def compile(self, model: "keras.Model") -> None:
        """Compiles a model for classification from logits."""
        import keras

        if self.optimizer == "sgd" and self.momentum:
            optimizer = keras.optimizers.SGD(self.learning_rate, self.momentum, nesterov=True)
        else:
            optimizer = keras.optimizers.get(
                {"class_name": self.optimizer, "config": {"learning_rate": self.learning_rate}}
            )
        model.compile(optimizer, loss())

    def check(self) -> None:
        """Raises UsageError for a combination that makes no sense."""
        if self.momentum and self.optimizer != "sgd":
            raise flags.UsageError("--momentum needs --optimizer=sgd.")


@dataclasses.dataclass(frozen=True)
class Limits:
    """When a call ends; another call of the same run may have other limits."""

    steps: int = steps_option()
    max_seconds: float | None = option(
        None, "Seconds after which training ends, whatever --steps.", lower_bound=1e-3
    )
    checkpoint_every: int = _shared("checkpoint_every")


@dataclasses.dataclass(frozen=True)
class Config:
    """A training; a folder with an equal config holds the same training."""

    run: Run
    draws: Draws
    training: Training
    hardware: configs.Hardware

    def check(self) -> None:
        """Raises UsageError for a combination of flags that makes no sense."""
        self.run.check()
        self.training.check()


def loss() -> "keras.losses.Loss":
    """Returns the loss that master, workers and peers train or measure."""
    import keras

    return keras.losses.SparseCategoricalCrossentropy(from_logits=True)
