"""Dependency networks as generative stochastic networks (thesis, 5.3.7).

A dependency network has a conditional P(x_s | x_-s) for each of several subsets s of the values of
x. To choose a random subset and resample it is one step of a GSN whose corruption erases x_s. The
chain has a stationary distribution even if no joint distribution has all these conditionals. If the
conditionals are consistent estimators, it converges to the data's distribution (Proposition 5).
"""

from collections.abc import Callable
from typing import Any, Self

import keras
import numpy as np
import tensorflow as tf

from thesis_tf._core import arrays, checks
from thesis_tf._core.types import Array, ArrayLike, TensorLike
from thesis_tf._keras.loss import last_activation
from thesis_tf._keras.noisy_model import NoisyModel, added_losses, all_true
from thesis_tf.gsn.kernel import known_or_neutral
from thesis_tf.gsn.reconstruction import Bernoulli, Reconstruction, check_logits
from thesis_tf.mcmc.transition_kernels import SimpleKernel

ORDERS = ("random", "ordered")

fold_in = tf.random.experimental.stateless_fold_in


@keras.saving.register_keras_serializable(package="thesis_tf")
class DependencyNetwork(NoisyModel):
    """All conditionals of x in one Keras model, trained by generalized pseudo-likelihood.

        model = DependencyNetwork(network, subset_size=1)
        model.compile("adam")
        model.fit(x, epochs=5)
        chains = mcmc.sample_chain(model.transition_kernel(), x, 1000, seed=0)

    Training draws a subset s for each example and minimizes - log P(x_s | x_-s). The network also
    predicts the values outside the subset, but the loss ignores them.

    Args:
        network: a Keras model, or any function, from x with the subset's values replaced by zero to
            distribution parameters. If it takes two arguments, the second is a mask (n, ...) in the
            dtype of x that is 1 where x is given.
        subset_size: the number of values in a random subset.
        subsets: boolean (m, *example's shape), the subsets to choose from with equal probability,
            instead of all subsets of one size.
        reconstruction: P(x_i | ...), an object of `thesis_tf.gsn.reconstruction`; None is
            `Bernoulli()`.
        seed: an integer >= 0 that determines the subsets in training.
        **kwargs: `name`, `dtype` and other arguments of `keras.Model`.

    Raises:
        TypeError: the network can't be called.
        ValueError: `subsets` is empty, a value is in none of them, or the network ends in a
            sigmoid, where logits are needed.
    """

    def __init__(
        self,
        network: Callable[[Any], Any],
        *,
        subset_size: int = 1,
        subsets: ArrayLike | None = None,
        reconstruction: Reconstruction | None = None,
        seed: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(seed, **kwargs)
        if not callable(network):
            received = type(network).__name__
            raise checks.invalid("`network`", "a Keras model", received, kind=TypeError)
        self.network = network
        self.takes_mask = len(getattr(network, "inputs", None) or [None]) == 2
        self.subset_size = checks.positive_integer("`subset_size`", subset_size)
        self.subsets = None if subsets is None else _checked_subsets(subsets)
        self.reconstruction = Bernoulli() if reconstruction is None else reconstruction
        activation = last_activation.bounded_activation(network)
        check_logits("`network`", self.reconstruction, activation)
        self.built = True

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments of the constructor."""
        return {
            **super().get_config(),
            "network": keras.saving.serialize_keras_object(self.network),
            "subset_size": self.subset_size,
            "subsets": None if self.subsets is None else self.subsets.tolist(),
            "reconstruction": keras.saving.serialize_keras_object(self.reconstruction),
            "seed": self.seed,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """Returns a model from the result of `get_config`."""
        parts = {
            name: keras.saving.deserialize_keras_object(config[name])
            for name in ("network", "reconstruction")
        }
        return cls(**{**config, **parts})

    def conditionals(self, x: tf.Tensor, chosen: tf.Tensor) -> tf.Tensor:
        """Returns parameters of P(x_s | x_-s) for x (n, ...) and subsets s, booleans (n, ...).

        Only the parameters for values in s are meaningful.
        """
        given = tf.cast(~chosen, x.dtype)
        outputs = self.network([x * given, given] if self.takes_mask else x * given)
        check_logits("`network`", self.reconstruction, last_activation.of_tensor(outputs))
        return outputs

    def sample_subsets(self, x: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        """Returns a random subset for each example of x (n, ...), booleans of the same shape."""
        shape = tf.shape(x)
        if self.subsets is not None:
            numbers = tf.random.stateless_uniform([shape[0]], seed, 0, len(self.subsets), tf.int32)
            return tf.gather(tf.constant(self.subsets), numbers)
        values = int(np.prod(x.shape[1:]))
        if self.subset_size > values:
            raise checks.invalid("`subset_size`", f"at most {values}", self.subset_size)
        order = tf.argsort(tf.random.stateless_uniform([shape[0], values], seed), axis=1)
        rank = tf.argsort(order, axis=1)
        return tf.reshape(rank < self.subset_size, shape)

    def call(self, x: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Returns E[x_i] (n, ...) without evidence: all values of x (n, ...) count as unknown."""
        return self.reconstruction.mean(self.conditionals(x, tf.ones_like(x, tf.bool)))

    def example_losses(
        self,
        x: tf.Tensor,
        target: tf.Tensor | None,
        seed: tf.Tensor,
        step: tf.Tensor,
        training: bool,
    ) -> tf.Tensor:
        """Returns - log P(x_s | x_-s), (n,), for a random subset of each example."""
        chosen = self.sample_subsets(x, seed)
        outputs = self.conditionals(x, chosen)
        if isinstance(self.network, keras.Layer):
            added = added_losses(self.network)
            if added is not None:
                self.count_added(added)
        terms = self.reconstruction.log_probs(outputs, x)
        axes = list(range(1, x.shape.rank))
        return -tf.reduce_sum(tf.where(chosen, terms, 0), axes)

    @property
    def valid_examples(self) -> str:  # type: ignore[override]
        """What examples must be."""
        return self.reconstruction.support

    def are_valid(self, x: tf.Tensor, target: tf.Tensor | None) -> tf.Tensor:
        """Returns which examples are in the support of the reconstruction distribution, (n,)."""
        x = arrays.checked_points("Examples", x)
        return all_true([self.reconstruction.contains(x)], x)

    def transition_kernel(self, *, order: str = "random") -> "DependencyKernel":
        """Returns one step of the chain on x as a kernel, for `mcmc.sample_chain`.

        Args:
            order: "random" resamples one random subset, as in a GSN. "ordered" resamples each
                value, or each of `subsets`, in order (ordered pseudo-Gibbs); the stationary
                distribution then depends on the order unless all conditionals belong to one joint
                distribution.
        """
        return DependencyKernel(self, order=order)


class DependencyKernel(SimpleKernel):
    """One step of the chain of a dependency network, from x (chains, ...) to x.

    Args:
        network: a `DependencyNetwork`.
        order: as for `DependencyNetwork.transition_kernel`.
    """

    def __init__(self, network: DependencyNetwork, *, order: str = "random") -> None:
        self.network = network
        self.order = checks.one_of("`order`", order, ORDERS)

    @property
    def parameters(self) -> dict[str, Any]:
        """The arguments of the constructor."""
        return {"network": self.network, "order": self.order}

    def initial_state(self, x: TensorLike) -> tf.Tensor:
        """Returns x (chains, ...), in which NaN stands for unknown values, which become neutral."""
        return known_or_neutral(x, self.network.reconstruction)

    def check(self, x: tf.Tensor) -> None:
        """Raises unless x (chains, ...) is in the support of the conditionals."""
        self.network.reconstruction.check(x)

    def step(self, state: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        """Returns x (chains, ...) with one subset resampled, or all of them in order."""
        if self.order == "ordered":
            return self._swept(state, seed)
        chosen = self.network.sample_subsets(state, fold_in(seed, 0))
        return self._resampled(state, chosen, fold_in(seed, 1))

    def _swept(self, x: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        subsets = self.network.subsets
        if subsets is None:
            subsets = np.eye(int(np.prod(x.shape[1:])), dtype=bool).reshape(-1, *x.shape[1:])
        subsets = tf.constant(subsets)

        def body(number: tf.Tensor, x: tf.Tensor) -> tf.Tensor:
            chosen = tf.broadcast_to(subsets[number], tf.shape(x))
            after = self._resampled(x, chosen, fold_in(seed, number))
            after.set_shape(x.shape)
            return number + 1, after

        count = subsets.shape[0]
        return tf.while_loop(lambda number, _: number < count, body, (tf.constant(0), x))[1]

    def _resampled(self, x: tf.Tensor, chosen: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        network = self.network
        drawn = network.reconstruction.sample(network.conditionals(x, chosen), seed)
        return tf.where(chosen, tf.cast(drawn, x.dtype), x)


def _checked_subsets(subsets: ArrayLike) -> Array:
    subsets = np.asarray(subsets)
    if subsets.dtype != bool or subsets.ndim < 2 or not subsets.any(axis=0).all():
        raise checks.invalid(
            "`subsets`",
            "boolean (m, *example's shape), each value in at least one subset",
            f"{subsets.dtype.name} of shape {subsets.shape}",
        )
    return subsets
