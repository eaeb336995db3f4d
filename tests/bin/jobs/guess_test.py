import types

import keras
import numpy as np
import pytest

from bin.common import training
from bin.common.configs import Training
from bin.jobs import guess


@pytest.mark.parametrize(
    ("accuracy", "labels", "doubtful"),
    [
        (0.5, [0, 1] * 50, True),
        (0.59, [0, 1] * 50, True),  # two standard errors are .1
        (0.61, [0, 1] * 50, False),
        (0.9, [0] * 90 + [1] * 10, True),
        (0.97, [0] * 90 + [1] * 10, False),
        (None, [0, 1] * 50, False),
        (1.0, [0] * 100, True),  # one class only
    ],
)
def test_a_guess(accuracy, labels, doubtful):
    assert bool(guess.doubts(accuracy, np.array(labels))) == doubtful


@pytest.mark.parametrize("heads", [1, 2])
@pytest.mark.parametrize("scale", [1.0, 255.0])
def test_the_loss_of_a_network_is_compared_with_a_uniform_guess(heads, scale):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((4,))
    logits = keras.layers.Dense(10, kernel_regularizer=keras.regularizers.L2(100.0))
    model = keras.Model(inputs, [logits(inputs)] * heads if heads > 1 else logits(inputs))
    training.compile_for(model, Training(epochs=0))
    x, y = np.random.default_rng(0).normal(size=(50, 4)).astype("f"), np.arange(50) % 10
    loss = model.evaluate(scale * x, [y] * heads if heads > 1 else y, verbose=0)
    loss, heard = float(np.ravel(loss)[0]), []
    guess.warn_of_loss(model, loss, types.SimpleNamespace(num_classes=10), heard.append)
    assert loss > 20  # by the regularization alone
    assert len(heard) == (scale > 1)
    if heard:
        uniform = (1.0 if heads == 1 else 1.4) * np.log(10)
        assert f"nats, far worse than that of a uniform guess ({uniform:.3g})" in heard[0]
        assert heard[0].startswith(f"The network's loss is {loss - float(sum(model.losses)):.3g} ")
