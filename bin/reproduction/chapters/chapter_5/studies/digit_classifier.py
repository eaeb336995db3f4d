"""A classifier of real digits, which judges whether samples of chapter 5 look like digits."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from bin.reproduction.engine import study_cache
from bin.reproduction.engine.contract import Settings

if TYPE_CHECKING:
    import keras

_SCALE = 255.0  # the classifier takes pixels in [0, 255]; samples are in [0, 1]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(Settings):
    """The training of the classifier, the convolutional network of figure 9.2.

    Attributes:
        dataset: mnist_mini or mnist.
        examples: the numbers of (train, validation, test) examples to draw, or None for all.
        epochs: the number of epochs.
    """

    dataset: str = "mnist_mini"
    examples: tuple[int, int, int] | None = None
    epochs: int = 4


CONFIGS = {"quick": Config(), "full": Config(dataset="mnist", needs=("mnist",), epochs=2)}


@study_cache.shared
def trained(config: Config) -> dict[str, Any]:
    """Trains the classifier.

    Returns:
        {"weights": its arrays, "accuracy": its accuracy on test examples, "quality": the summary of
        `gsn.sample_quality` for test examples}.
    """
    import tempfile

    import keras

    from bin.common import configs, training
    from thesis_tf import gsn

    splits = config.sources.load(config.dataset, config.examples, config.seed)
    keras.utils.set_random_seed(config.seed)
    model, how = _network(), configs.Training(epochs=config.epochs)
    training.compile_for(model, how)
    with tempfile.TemporaryDirectory() as folder:
        training.train(model, splits, how, folder, seed=config.seed)
    p = _softmax(model, splits.test.x)
    return {
        "weights": model.get_weights(),
        "accuracy": float((p.argmax(axis=1) == splits.test.y).mean()),
        "quality": gsn.sample_quality(p).summary(),
    }


def probabilities(found: dict[str, Any]) -> Callable[[np.ndarray], np.ndarray]:
    """Returns a function from images (..., 28, 28, 1) in [0, 1] to probabilities (..., 10).

    Args:
        found: the result of `trained`.
    """
    model = _network()
    model.set_weights(found["weights"])

    def classify(x: np.ndarray) -> np.ndarray:
        flat = np.reshape(x, (-1, *x.shape[-3:]))
        return _softmax(model, _SCALE * flat).reshape(*x.shape[:-3], -1)

    return classify


def _network() -> keras.Model:
    import models

    return models.build("mnist_convnet", (28, 28, 1), 10)


def _softmax(model: keras.Model, x: np.ndarray) -> np.ndarray:
    import keras

    logits = model.predict(x, batch_size=500, verbose=0)
    return keras.ops.convert_to_numpy(keras.ops.softmax(logits))
