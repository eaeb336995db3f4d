import keras
import numpy as np
import pytest
import tensorflow as tf

from thesis_tf._keras.objective import Objective


@pytest.mark.parametrize("eagerly", [False, True])
def test_masks_that_are_drawn_and_not_used_do_not_matter(eagerly):
    keras.utils.set_random_seed(0)
    recurrent = keras.layers.Bidirectional(keras.layers.GRU(4, recurrent_dropout=0.25))
    lstm = keras.layers.LSTM(4, dropout=0.25, return_sequences=True)
    model = keras.Sequential([keras.Input((5, 3)), lstm, recurrent, keras.layers.Dense(2)])
    x = tf.constant(np.random.default_rng(0).normal(size=(4, 5, 3)), tf.float32)
    objective = Objective(model, "mse")
    call = objective.outputs if eagerly else tf.function(objective.outputs)
    found = call(*objective.read(), x)
    np.testing.assert_allclose(found, model.predict(x, verbose=0), rtol=1e-5, atol=1e-6)


class Always(keras.layers.Layer):
    """A layer that runs another one in training mode."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def call(self, x):
        return self.layer(x, training=True)


@pytest.mark.parametrize("eagerly", [False, True])
@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (keras.layers.Dropout(0.5), "draws random numbers"),
        (keras.layers.LSTM(4, dropout=0.5), "draws random numbers"),
        (keras.layers.BatchNormalization(), "updates a state"),
    ],
)
def test_layers_that_stay_in_training_mode_are_refused(layer, message, eagerly):
    model = keras.Sequential([keras.Input((5, 3)), Always(layer), keras.layers.Flatten()])
    model.add(keras.layers.Dense(2))
    objective = Objective(model, "mse")
    call = objective.outputs if eagerly else tf.function(objective.outputs)
    with pytest.raises(ValueError, match=message):
        call(*objective.read(), tf.zeros((4, 5, 3)))


def test_stateful_layers_have_no_losses_of_examples():
    layer = keras.layers.LSTM(4, stateful=True)
    model = keras.Sequential([keras.Input((5, 3), batch_size=4), layer, keras.layers.Dense(2)])
    with pytest.raises(ValueError, match=r"is stateful.*stateful=False"):
        Objective(model, "mse")
