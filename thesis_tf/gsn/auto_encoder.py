"""Denoising auto-encoders as generative stochastic networks without hidden state (5.3.1, 5.3.2)."""

from collections.abc import Sequence
from typing import Any, Self

import keras
import numpy as np
import tensorflow as tf

from thesis_tf._core import checks
from thesis_tf._keras.loss.last_activation import bounded_activation, of_tensor
from thesis_tf.corruption import Corruption
from thesis_tf.gsn.network import SALT_AND_PEPPER, GenerativeStochasticNetwork
from thesis_tf.gsn.reconstruction import Reconstruction, check_logits
from thesis_tf.gsn.walkback import Hidden, Walkback


@keras.saving.register_keras_serializable(package="thesis_tf")
class WalkbackAutoEncoder(GenerativeStochasticNetwork):
    """A denoising auto-encoder around any Keras model; its chain draws x' ~ P(x | x~).

        model = WalkbackAutoEncoder(network, corruption=SaltAndPepper(0.4), walkback=4)
        model.compile("adam")
        model.fit(x, epochs=25, batch_size=100)

    With `walkback=1` it is a plain denoising auto-encoder. The network is called with
    `training=True` in training only: chains use neither dropout nor batch statistics.

    Args:
        network: a Keras model from x (n, ...) to distribution parameters of P(x | x~), (n, ...) or
            (n, ..., size).
        corruption, walkback, scaling, reconstruction, seed: as for `GenerativeStochasticNetwork`.
        initial_hidden, num_remembered: only "zeros" and None, since there are no hidden units.
        **kwargs: `name`, `dtype` and other arguments of `keras.Model`.

    Raises:
        TypeError: the network isn't a Keras model.
        ValueError: the shape of its outputs doesn't fit the reconstruction distribution, it ends in
            a sigmoid where the distribution takes logits, or `initial_hidden` isn't "zeros".
    """

    def __init__(
        self,
        network: keras.Model,
        *,
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
        if not isinstance(network, keras.Model):
            received = type(network).__name__
            raise checks.invalid("`network`", "a keras.Model", received, kind=TypeError)
        if self.initial_hidden != "zeros":
            advice = "A denoising auto-encoder has no hidden state."
            raise checks.invalid("`initial_hidden`", '"zeros"', repr(self.initial_hidden), advice)
        self.network = network
        inputs = getattr(network, "inputs", None)
        if network.built and inputs:
            self.build(inputs[0].shape)

    def build(self, input_shape: Sequence[int | None]) -> None:
        """Checks the shape of the outputs."""
        shape = tuple(input_shape[1:])
        size = self.reconstruction.size
        expected = shape if size == 1 else (*shape, size)
        outputs = self.network(keras.Input(shape, dtype=self.example_dtype.name))
        outputs = tuple(getattr(outputs, "shape", (None, "several outputs")))
        if outputs[1:] != expected:
            raise checks.invalid(
                "`network`",
                f"a model from {shape} to {expected}, the parameters of {self.reconstruction}",
                f"one that returns {outputs[1:]}",
            )
        check_logits("`network`", self.reconstruction, bounded_activation(self.network))
        if self.reconstruction.takes_logits and None not in shape and tf.executing_eagerly():
            # Activations that no layer names are found by outputs for inputs of any size.
            x = np.random.default_rng(0).uniform(-9, 9, (64, *map(int, filter(None, shape))))
            found = self.network(tf.constant(x, self.example_dtype), training=False)
            within = tf.reduce_all((found >= 0) & (found <= 1))
            if within and tf.reduce_max(found) > tf.reduce_min(found):
                check_logits("`network`", self.reconstruction, "that keeps outputs in [0, 1]")
        super().build(input_shape)

    def zero_hidden(self, x: tf.Tensor) -> Hidden:
        """Returns (): there are no hidden units."""
        return ()

    def update(
        self,
        x: tf.Tensor,
        hidden: Hidden | None,
        *,
        seed: tf.Tensor | None = None,
        training: bool = False,
    ) -> tuple[Hidden, tf.Tensor]:
        """Returns ((), outputs) of x (n, ...)."""
        outputs = self.network(x, training=training)
        check_logits("`network`", self.reconstruction, of_tensor(outputs))
        return (), tf.cast(outputs, self.example_dtype)

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments of the constructor."""
        network = keras.saving.serialize_keras_object(self.network)
        return {**super().get_config(), "network": network}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """Returns a model from the result of `get_config`."""
        network = keras.saving.deserialize_keras_object(config["network"])
        return super().from_config({**config, "network": network})
