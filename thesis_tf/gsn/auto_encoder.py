"""Denoising auto-encoders as generative stochastic networks without hidden state (5.3.1, 5.3.2)."""

import keras

from thesis_tf import _checks
from thesis_tf.gsn.network import GenerativeStochasticNetwork


@keras.saving.register_keras_serializable(package="thesis_tf")
class WalkbackAutoEncoder(GenerativeStochasticNetwork):
    """The chain that corrupts x and reconstructs it, x' ~ P(x | x~), with any Keras model.

        model = WalkbackAutoEncoder(network, corruption=SaltAndPepper(0.4), walkback=4)
        model.compile("adam")
        model.fit(x, epochs=25, batch_size=100)

    With `walkback=1` it is the plain denoising auto-encoder. Noise layers of the network don't act;
    noise is that of the corruption.

    Args:
        network: a Keras model from x (n, ...) to the parameters of the reconstruction, (n, ...) or
            (n, ..., size).
        corruption, walkback, scaling, reconstruction, seed: those of `GenerativeStochasticNetwork`.
        **kwargs: of `keras.Model`.

    Raises:
        TypeError: the network is no Keras model.
        ValueError: its outputs aren't shaped as the reconstruction's parameters.
    """

    def __init__(self, network, **kwargs):
        super().__init__(**kwargs)
        if not isinstance(network, keras.Model):
            received = type(network).__name__
            raise _checks.invalid("`network`", "a keras.Model", received, kind=TypeError)
        if self.start != "zeros":
            advice = "A denoising auto-encoder has no hidden units to begin with."
            raise _checks.invalid("`start`", '"zeros"', repr(self.start), advice)
        self.network = network
        if network.built and network.inputs and len(network.inputs) == 1:
            self.build(network.inputs[0].shape)

    def build(self, input_shape):
        """Checks the shape of the outputs."""
        shape = tuple(input_shape[1:])
        size = self.reconstruction.size
        expected = shape if size == 1 else (*shape, size)
        outputs = self.network(keras.Input(shape, dtype=self.example_dtype.name)).shape
        if tuple(outputs[1:]) != expected:
            raise _checks.invalid(
                "`network`",
                f"a model from {shape} to {expected}, the parameters of {self.reconstruction}",
                f"one that puts out {tuple(outputs[1:])}",
            )
        super().build(input_shape)

    def zero_hidden(self, x):
        """Returns (): there are no hidden units."""
        return ()

    def update(self, x, hidden, seed=None):
        """Returns ((), outputs) of x (n, ...)."""
        return (), self.network(x, training=False)

    def get_config(self):
        """Returns what the model was made with."""
        network = keras.saving.serialize_keras_object(self.network)
        return {**super().get_config(), "network": network}

    @classmethod
    def from_config(cls, config):
        """Returns a model as `get_config` says."""
        network = keras.saving.deserialize_keras_object(config["network"])
        return super().from_config({**config, "network": network})
