"""Checks of examples and labels before long computations."""

import keras
import numpy as np
import tensorflow as tf

from thesis_tf._keras.batches import Stream
from thesis_tf._keras.loss.classes import ClassCheck
from thesis_tf._keras.objective import Objective


def check_labels(objective: Objective, stream: Stream) -> None:
    """Raises ValueError if labels aren't classes of the outputs."""
    for (x, _), _ in stream.batches():
        ClassCheck(objective, x)(
            tf.nest.map_structure(lambda a: a[:count], y)  # noqa: B023
            for (_, y), count in stream.batches()
        )
        return


def not_finite(stream: Stream) -> str:
    """Returns a sentence on the examples that aren't finite; "" if all are."""
    first, found, examples = 0, 0, 0
    for batch, count in stream.batches():
        bad = np.zeros(count, bool)
        for leaf in keras.tree.flatten(batch):
            if leaf is not None and np.issubdtype(leaf.dtype, np.floating):
                bad |= ~np.isfinite(leaf[:count].reshape(count, -1)).all(axis=1)
        if bad.any() and not found:
            first = examples + int(bad.argmax())
        found, examples = found + int(bad.sum()), examples + count
    if not found:
        return ""
    return (
        f"NaN or infinity is in {found} of {examples} examples, the first at {first}: remove these"
        " examples or repair them."
    )
