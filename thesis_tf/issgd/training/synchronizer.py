"""The exchange of a `Trainer` with other processes between steps; by default there is none."""

import dataclasses
from collections.abc import Callable, Mapping

import keras
import numpy as np

from thesis_tf._core.types import Array
from thesis_tf.issgd.sampling.tracker import ProposalTracker
from thesis_tf.issgd.training.examples import Examples
from thesis_tf.issgd.training.history import History


@dataclasses.dataclass(frozen=True)
class TrainerParts:
    """The parts of a `Trainer` that a synchronizer works with.

    Attributes:
        model: the compiled model.
        data: {split: `Examples`}.
        tracker: the `ProposalTracker`, which receives gradient norms.
        loss_name: a description of the loss.
        token: a unique name of the training; a resumed training keeps it.
        step: steps taken so far, when the synchronizer is connected.
        log: called with a sentence about notable events.
    """

    model: keras.Model
    data: Mapping[str, Examples]
    tracker: ProposalTracker
    loss_name: str
    token: str
    step: int
    log: Callable[[str], None]


@dataclasses.dataclass(frozen=True)
class Pulled:
    """The result of a synchronization, for the `Record` of the next steps.

    Attributes:
        losses, errors: {split: mean over its examples}, for splits with new values.
        waited: the seconds that the synchronization took, None if it never waits.
        exchanged_with: the peer whose parameters were averaged with the model's.
    """

    losses: Mapping[str, float] = dataclasses.field(default_factory=dict)
    _: dataclasses.KW_ONLY
    errors: Mapping[str, float] = dataclasses.field(default_factory=dict)
    waited: float | None = None
    exchanged_with: str | None = None


class Synchronizer:
    """The base class, which exchanges nothing: the proposal isn't updated.

    A `Trainer` calls `connect` once, when it is made. A call of `train` calls `begin`, then `pull`
    before and `publish` after every `sync_every` steps, and `close` at the end, after errors too.

    Attributes:
        needs_norms: whether the training steps compute gradient norms for `add_norms`.
    """

    needs_norms = False

    def connect(self, trainer: TrainerParts) -> None:
        """Prepares for a training; raises if it can't take part in its run."""

    def begin(self, step: int) -> None:
        """Starts the exchange."""

    def pull(self, step: int, stop: Callable[[], bool]) -> Pulled:
        """Applies data that others have published; returns information about the run.

        Args:
            step: steps taken so far.
            stop: returns whether training should stop, for a synchronizer that waits.
        """
        return Pulled()

    def add_norms(self, rows: Array, norms: np.ndarray, step: int) -> None:
        """Receives the gradient norms (n,) of the examples of the last steps, NaN if not finite."""

    def publish(self, step: int) -> None:
        """Publishes the model's parameters, or norms, after some steps."""

    def version(self, step: int) -> int:
        """Returns the version under which the parameters after `step` steps are published."""
        return step

    def close(self, history: History, *, finished: bool) -> None:
        """Ends the exchange.

        Args:
            history: the training's history.
            finished: whether the training took all its steps.
        """
