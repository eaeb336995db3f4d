"""Networks that have learned nothing: an accuracy that needs none."""

import math

import numpy as np
import numpy.typing as npt


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


def share_of_commonest(labels: npt.NDArray[np.integer]) -> float:
    """Returns the accuracy of always naming the commonest class of the labels (n,)."""
    return float(np.bincount(labels).max()) / len(labels)
