"""Networks that have learned nothing: an accuracy that needs none."""

import math
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from bin.common import ends
from thesis_tf.reporting import guesses

if TYPE_CHECKING:
    import keras

    from thesis_tf.datasets import Splits


def doubts(accuracy: float | None, labels: npt.NDArray[np.integer]) -> list[str]:
    """Returns a sentence if an accuracy isn't above that of always naming the commonest class.

    Two standard errors of the accuracy are allowed for.

    Args:
        accuracy: the fraction of test examples that are classified correctly, None if unknown.
        labels: (n,) the classes of these examples.
    """
    share = share_of_commonest(labels)
    error = math.sqrt(share * (1 - share) / len(labels))
    if accuracy is None or accuracy > share + 2 * error:
        return []
    return [
        f"The network is no better than a guess: accuracy {accuracy:.4f} on test examples, where"
        f" always naming the commonest class has {share:.4f}."
    ]


def warn_of_loss(model: "keras.Model", loss: float, splits: "Splits", warn: ends.Warn) -> None:
    """Warns if the loss of a network is far worse than that of a uniform guess.

    Args:
        model: a network that `training.compile_for` compiled.
        loss: its loss on some examples, with regularization.
        splits: the data.
        warn: called with a sentence.
    """
    from bin.common import training

    added = float(sum(model.losses))
    uniform = training.loss_of_a_guess(model, splits.num_classes)
    for sentence in guesses.worse_than_uniform("The network's loss", loss - added, uniform):
        warn(sentence)


def share_of_commonest(labels: npt.NDArray[np.integer]) -> float:
    """Returns the accuracy of always naming the commonest class of the labels (n,)."""
    return float(np.bincount(labels).max()) / len(labels)
