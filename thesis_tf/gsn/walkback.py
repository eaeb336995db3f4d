"""Walkback: training on several rounds of corruption and reconstruction per example (5.3.2)."""

import dataclasses
import functools
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

import keras
import tensorflow as tf

from thesis_tf._core import checks

if TYPE_CHECKING:
    from thesis_tf.gsn.network import GenerativeStochasticNetwork

# The hidden units that one step of the chain passes to the next.
Hidden: TypeAlias = tuple[tf.Tensor, ...]

LOSSES = ("every", "last")


@keras.saving.register_keras_serializable(package="thesis_tf")
@dataclasses.dataclass(frozen=True)
class Walkback:
    """Settings of walkback: k rounds of corruption and reconstruction from each example.

    The loss compares reconstructions with the example. The number of rounds k is drawn for each
    batch and is the same for all of its examples. So no rounds are computed in vain, and all shapes
    are static.

    Attributes:
        steps: the number k of rounds, the thesis' walkback steps; or a pair (low, high), for k
            uniform in low ... high.
        stop: the probability p to stop after each round, for a geometric k (0.5 in Algorithm 1 of
            5.3.2). `steps` is then a number, and the maximum of k. None: k isn't geometric.
        loss: "every" adds the losses of all rounds and divides by the expected k, so that each
            round is weighted by how often it occurs; "last" uses only the loss of the last round.
    """

    steps: int | tuple[int, int] = 4
    _: dataclasses.KW_ONLY
    stop: float | None = None
    loss: str = "every"

    def __post_init__(self) -> None:
        """Raises TypeError or ValueError if the settings aren't valid."""
        if isinstance(self.steps, tuple | list):
            if len(self.steps) != 2:
                raise checks.invalid("`steps`", "a number, or (low, high)", self.steps)
            low, high = (checks.positive_integer("`steps`", n) for n in self.steps)
            if low > high:
                raise checks.invalid("`steps`", "(low, high) with low <= high", self.steps)
            if self.stop is not None:
                raise checks.invalid("`stop`", "None where `steps` are a range", self.stop)
            object.__setattr__(self, "steps", (low, high))
        else:
            checks.positive_integer("`steps`", self.steps)
        if self.stop is not None:
            checks.probability("`stop`", self.stop)
        checks.one_of("`loss`", self.loss, LOSSES)

    @classmethod
    def of(cls, value: "Walkback | int | tuple[int, int]") -> "Walkback":
        """Returns `value` if it is a `Walkback`, else a `Walkback` with `steps=value`."""
        return value if isinstance(value, Walkback) else cls(value)

    @property
    def max_steps(self) -> int:
        """The largest k."""
        return self.steps[1] if isinstance(self.steps, tuple) else self.steps

    @property
    def fixed_steps(self) -> int | None:
        """k if it is always the same, else None."""
        if self.stop is None and not isinstance(self.steps, tuple):
            return self.steps
        return self.max_steps if self.max_steps == 1 else None

    def probabilities(self) -> list[float]:
        """Returns P(k) for k = 1 ... `max_steps`, a list of floats."""
        if isinstance(self.steps, tuple):
            low, high = self.steps
            return [0.0] * (low - 1) + [1 / (high - low + 1)] * (high - low + 1)
        if self.stop is None:
            return [0.0] * (self.steps - 1) + [1.0]
        probabilities = [self.stop * (1 - self.stop) ** n for n in range(self.steps - 1)]
        return [*probabilities, 1 - sum(probabilities)]

    @property
    def mean_steps(self) -> float:
        """The expected k."""
        return sum(n * probability for n, probability in enumerate(self.probabilities(), 1))

    def draw(self, seed: tf.Tensor) -> tf.Tensor:
        """Returns k, an int32 tensor."""
        cumulative = tf.cumsum(tf.constant(self.probabilities(), tf.float32))
        u = tf.random.stateless_uniform([], seed)
        return 1 + tf.reduce_sum(tf.cast(u >= cumulative[:-1], tf.int32))

    def get_config(self) -> dict[str, Any]:
        """Returns the settings, a JSON-serializable dict."""
        return dataclasses.asdict(self)

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> "Walkback":
        """Returns a `Walkback` from the result of `get_config`."""
        return cls(**config)


def walkback_losses(
    network: "GenerativeStochasticNetwork",
    x: tf.Tensor,
    target: tf.Tensor,
    seed: tf.Tensor,
    hidden: Hidden | None,
    walkback: "Walkback",
    *,
    training: bool = False,
) -> tuple[tf.Tensor, Hidden]:
    """Runs a chain from examples and returns the reconstruction losses (Algorithm 1).

    In each round x is corrupted, hidden units are drawn, and x is drawn from P(x | h). The loss of
    a round is -log P(target | h). Gradients flow through hidden units from round to round. They
    flow through a drawn x only if both the distribution (`Normal`) and the corruption are
    reparametrized; an x that is drawn from `Bernoulli` or `NormalMixture` is a constant.

    Args:
        network: a `GenerativeStochasticNetwork`.
        x: (n, ...), where the chain begins.
        target: (n, ...), the clean examples.
        seed: a pair of int32.
        hidden: the initial hidden units, a tuple, as for `network.advance`.
        walkback: a `Walkback`.
        training: passed to `network.advance`.

    What layers of the network add to the loss (activity regularizers and `add_loss`) is weighted
    like the losses of the rounds and passed to `network.count_added`.

    Returns:
        (losses, hidden): (n,) in nats per example, and the hidden units after the last round.
    """
    follow = functools.partial(
        _followed, network, x, target, seed, hidden, walkback, training=training
    )
    if walkback.fixed_steps:
        losses, hidden, added = follow(walkback.fixed_steps)
        if tf.is_tensor(added):
            network.count_added(added)
        return losses, hidden
    # One unrolled graph for each number of rounds. A `tf.while_loop` would keep intermediate
    # results for its gradients in lists, and could not skip products in the first and last round.
    probabilities = walkback.probabilities()
    shortest = next(n for n, probability in enumerate(probabilities) if probability > 0)
    programs = [functools.partial(follow, n) for n in range(shortest + 1, walkback.max_steps + 1)]
    draw = walkback.draw(tf.random.experimental.stateless_fold_in(seed, -1))
    losses, hidden, added = tf.switch_case(draw - 1 - shortest, programs)
    network.count_added(added)
    return losses, hidden


def _followed(
    network: "GenerativeStochasticNetwork",
    x: tf.Tensor,
    target: tf.Tensor,
    seed: tf.Tensor,
    hidden: Hidden | None,
    walkback: "Walkback",
    rounds: int,
    training: bool,
) -> tuple[tf.Tensor, Any, Any]:
    reconstruction = network.reconstruction
    losses: list[tf.Tensor] = []
    added: Any = 0.0
    for number in range(rounds):
        of_round = tf.random.experimental.stateless_fold_in(seed, number)
        network.clear_added_losses()
        hidden, outputs = network.advance(x, hidden, of_round, training=training)
        alpha = network.alpha(number)
        if walkback.loss == "every" or number == rounds - 1:
            added += network.added_losses()
            losses.append(-reconstruction.log_prob(outputs, target, alpha=alpha))
        if number < rounds - 1:
            drawing = tf.random.experimental.stateless_fold_in(of_round, 1)
            x = reconstruction.sample(outputs, drawing, alpha=alpha)
            x = x if reconstruction.reparametrized else tf.stop_gradient(x)
    total = tf.add_n(losses)
    if walkback.loss == "every":
        total, added = total / walkback.mean_steps, added / walkback.mean_steps
    return total, hidden, added
