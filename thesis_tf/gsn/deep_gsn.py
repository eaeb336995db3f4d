"""Deep generative stochastic networks with tied weights (figure 5.5)."""

import itertools
import math
from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from thesis_tf._core import checks
from thesis_tf.corruption import Corruption
from thesis_tf.gsn.network import SALT_AND_PEPPER, GenerativeStochasticNetwork
from thesis_tf.gsn.reconstruction import Reconstruction
from thesis_tf.gsn.walkback import Hidden, Walkback


@keras.saving.register_keras_serializable(package="thesis_tf")
class GSN(GenerativeStochasticNetwork):
    """The deep GSN of figure 5.5, shaped like a deep Boltzmann machine, with tied weights.

    A step updates the odd hidden layers from the layers next to them, then the even layers and x.
    A unit is h = eta_out + tanh(eta_in + a); every hidden layer except the first has noise. The
    chain's state is x and the even layers. Each step recomputes the odd layers from them.

        model = GSN([1000, 1000], noise=2.0, corruption=SaltAndPepper(0.4), walkback=4)
        model.compile("adam")
        model.fit(x, epochs=25, batch_size=100)
        chains = mcmc.sample_chain(model.transition_kernel(), x[:8], 1000, seed=0)

    Inputs are examples (n, ...), flattened; `call` returns their noiseless reconstructions.

    Args:
        layer_sizes: the number of units of each hidden layer; at least one layer.
        noise: the standard deviation of both eta_in and eta_out, or a pair of standard deviations;
            0 for no noise.
        corruption, walkback, scaling, reconstruction, initial_hidden, num_remembered, seed: as for
            `GenerativeStochasticNetwork`.
        **kwargs: `name`, `dtype` and other arguments of `keras.Model`.
    """

    def __init__(
        self,
        layer_sizes: Sequence[int],
        *,
        noise: float | Sequence[float] = 2.0,
        corruption: Corruption | None = SALT_AND_PEPPER,
        walkback: Walkback | int = 4,
        scaling: bool = False,
        reconstruction: Reconstruction | None = None,
        initial_hidden: str | int = "zeros",
        num_remembered: int | None = None,
        seed: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            corruption=corruption,
            walkback=walkback,
            scaling=scaling,
            reconstruction=reconstruction,
            initial_hidden=initial_hidden,
            num_remembered=num_remembered,
            seed=seed,
            **kwargs,
        )
        if not isinstance(layer_sizes, list | tuple) or not layer_sizes:
            raise checks.invalid("`layer_sizes`", "a list of at least one size", layer_sizes)
        self.layer_sizes = [checks.positive_integer("`layer_sizes`", n) for n in layer_sizes]
        pair = tuple(noise) if isinstance(noise, tuple | list) else (noise, noise)
        if len(pair) != 2 or not all(0 <= float(sigma) < math.inf for sigma in pair):
            expected = "a standard deviation of at least 0, or a pair of them"
            raise checks.invalid("`noise`", expected, noise)
        self.noise = tuple(map(float, pair))

    def build(self, input_shape: Sequence[Any]) -> None:
        """Creates the kernels (below, above) and the biases of all layers."""
        sizes = [math.prod(input_shape[1:]), *self.layer_sizes]
        self._kernels = [
            self.add_weight(shape=pair, initializer="glorot_uniform", name=f"kernel_{i}")
            for i, pair in enumerate(itertools.pairwise(sizes), 1)
        ]
        self._biases = [
            self.add_weight(shape=(size,), initializer="zeros", name=f"bias_{i}")
            for i, size in enumerate(sizes)
        ]
        # Of several distribution parameters per value, only the first one has tied weights. The
        # weights of the others are initialized to zero.
        more = self.reconstruction.size - 1
        self._head = None
        if more:
            self._head = self.add_weight(
                shape=(sizes[1], sizes[0] * more), initializer="zeros", name="head"
            )
        super().build(input_shape)

    def zero_hidden(self, x: tf.Tensor) -> Hidden:
        """Returns zeros for the even hidden layers, for x (n, ...)."""
        dtype = self.compute_dtype
        return tuple(tf.zeros((tf.shape(x)[0], size), dtype) for size in self.layer_sizes[1::2])

    def update(
        self,
        x: tf.Tensor,
        hidden: Hidden | None,
        *,
        seed: tf.Tensor | None = None,
        training: bool = False,
    ) -> tuple[Hidden, tf.Tensor]:
        """Updates odd layers, then even ones; returns (even layers, outputs)."""
        last = len(self.layer_sizes)
        layers = {0: tf.reshape(tf.cast(x, self.compute_dtype), (-1, self._kernels[0].shape[0]))}
        if hidden is not None:
            layers |= dict(zip(range(2, last + 1, 2), hidden, strict=True))
        for number in [*range(1, last + 1, 2), *range(2, last + 1, 2)]:
            layers[number] = self._activated(number, layers, seed)
        return tuple(layers[i] for i in range(2, last + 1, 2)), self._outputs(layers[1])

    def _activated(
        self, number: int, layers: dict[int, tf.Tensor], seed: tf.Tensor | None
    ) -> tf.Tensor:
        """Returns h of a layer from the adjacent layers; an absent layer counts as zeros."""
        a = self._used(self._biases[number])
        if number - 1 in layers:
            a = tf.matmul(layers[number - 1], self._used(self._kernels[number - 1])) + a
        else:
            a = tf.broadcast_to(a, (tf.shape(layers[0])[0], self.layer_sizes[number - 1]))
        if number + 1 in layers:
            a += self._down(layers[number + 1], number)
        if seed is None or number == 1:
            return tf.tanh(a)
        noise_in, noise_out = (
            self._noise(a, sigma, tf.random.experimental.stateless_fold_in(seed, 2 * number + i))
            for i, sigma in enumerate(self.noise)
        )
        return tf.tanh(a + noise_in) + noise_out

    @staticmethod
    def _noise(a: tf.Tensor, sigma: float, seed: tf.Tensor) -> tf.Tensor | float:
        if sigma == 0:
            return 0.0
        return sigma * tf.random.stateless_normal(tf.shape(a), seed, dtype=a.dtype)

    def _outputs(self, h: tf.Tensor) -> tf.Tensor:
        dtype = self.example_dtype
        outputs = self._down(h, 0)
        outputs = tf.cast(outputs, dtype) + tf.cast(self._biases[0].value, dtype)
        shape = (-1, *self.example_shape)
        if self._head is None:
            return tf.reshape(outputs, shape)
        rest = tf.cast(tf.matmul(h, self._used(self._head)), dtype)
        outputs = tf.reshape(outputs, (*shape, 1))
        return tf.concat([outputs, tf.reshape(rest, (*shape, self.reconstruction.size - 1))], -1)

    def _down(self, h: tf.Tensor, number: int) -> tf.Tensor:
        return tf.matmul(h, self._used(self._kernels[number]), transpose_b=True)

    def _used(self, variable: keras.Variable) -> tf.Tensor:
        return tf.cast(variable.value, self.compute_dtype)

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments of the constructor."""
        own = {"layer_sizes": self.layer_sizes, "noise": self.noise}
        return {**super().get_config(), **own}
