"""One step of the chain of a network as a transition kernel, and the state of its chains."""

from typing import TYPE_CHECKING, Any, NamedTuple

import tensorflow as tf

from thesis_tf._core import checks
from thesis_tf._core.types import TensorLike
from thesis_tf.gsn.reconstruction import Reconstruction
from thesis_tf.mcmc.transition_kernels import SimpleKernel

if TYPE_CHECKING:
    from thesis_tf.gsn.network import GenerativeStochasticNetwork

ALPHAS = ("first", "random")


class State(NamedTuple):
    """The state of several chains, one per row.

    Attributes:
        x: (chains, ...), the visible units.
        hidden: a tuple of tensors (chains, ...), the hidden units that the next step needs.
        distribution_parameters: the network's outputs for the P(x | h) that x was drawn from.
    """

    x: tf.Tensor
    hidden: tuple[tf.Tensor, ...]
    distribution_parameters: tf.Tensor


def known_or_neutral(x: TensorLike, reconstruction: Reconstruction) -> tf.Tensor:
    """Returns x in which values that are NaN, which are unknown, are neutral."""
    x = tf.convert_to_tensor(x)
    return tf.where(tf.math.is_nan(x), tf.constant(reconstruction.unknown_value, x.dtype), x)


class NetworkKernel(SimpleKernel):
    """One step of the chain of a network, from a `State` to a `State`.

    Args:
        network: a `GenerativeStochasticNetwork`.
        alpha: as for `GenerativeStochasticNetwork.transition_kernel`.

    Raises:
        ValueError: `alpha` is neither "first" nor "random".
    """

    def __init__(self, network: "GenerativeStochasticNetwork", *, alpha: str = "first") -> None:
        self.network = network
        self.alpha = checks.one_of("`alpha`", alpha, ALPHAS)

    @property
    def parameters(self) -> dict[str, Any]:
        """The arguments of the constructor."""
        return {"network": self.network, "alpha": self.alpha}

    def initial_state(self, x: TensorLike) -> State:
        """Returns the `State` of chains that begin at x (chains, ...)."""
        return self.network.initial_state(x)

    def check(self, x: tf.Tensor) -> None:
        """Raises unless x (chains, ...) has an example's shape and is in P(x | h)'s support."""
        self.network.check_shape(x)
        self.network.reconstruction.check(x)

    def step(self, state: State, seed: tf.Tensor) -> State:
        """Returns the next `State`, which is determined by `state` and `seed`, a pair of int32."""
        fold, network = tf.random.experimental.stateless_fold_in, self.network
        hidden, parameters = network.advance(state.x, state.hidden, fold(seed, 0))
        alpha = self._alpha(state.x, fold(seed, 2))
        x = network.reconstruction.sample(parameters, fold(seed, 1), alpha=alpha)
        return State(tf.cast(x, state.x.dtype), hidden, parameters)

    def mean(self, state: State) -> tf.Tensor:
        """Returns E[x | h] (chains, ...) of a state: x without the noise of drawing it."""
        mean = self.network.reconstruction.mean(state.distribution_parameters)
        return tf.cast(mean, state.x.dtype)

    def distribution_parameters(self, state: State) -> tf.Tensor:
        """Returns the parameters of the P(x | h) from which the state's x was drawn."""
        return state.distribution_parameters

    def _alpha(self, x: tf.Tensor, seed: tf.Tensor) -> tf.Tensor | None:
        if self.alpha == "first" or self.network.log_alpha is None:
            return None
        alphas, chains = self.network.alphas, tf.shape(x)[0]
        number = tf.random.stateless_uniform([chains], seed, 0, alphas.shape[0], tf.int32)
        ones = [1] * (x.shape.rank - 1)
        return tf.reshape(tf.gather(alphas, number), [-1, *ones])
