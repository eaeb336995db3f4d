"""The labels of a data set of pairs, which a store keeps beside the features."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from thesis_tf._core import checks
from thesis_tf._keras.batches import Stream

# How a shuffled data set is found: by several looks at its first batches.
_LOOKS, _BATCHES = 4, 3


def paired(x: Any) -> Any:
    """Returns data as pairs (inputs, {name: labels}), whose labels are int64 of shape (n,).

    Of a `tf.data.Dataset` of tuples (inputs, labels, ...), integer and boolean labels of shape (n,)
    or (n, 1) are kept: under the name "" if they are one tensor, or under their keys in a dict.
    Other labels aren't; neither are those of arrays, which a caller has anyway.
    """
    if not isinstance(x, tf.data.Dataset):
        return x, {}
    if not isinstance(x.element_spec, tuple):
        return x.map(lambda inputs: (inputs, {}))
    return x.map(lambda *parts: (parts[0], _integers(parts[1]) if len(parts) > 1 else {}))


def _integers(labels: Any) -> dict[str, tf.Tensor]:
    named = labels if isinstance(labels, Mapping) else {"": labels}
    return {
        str(name): tf.cast(tf.reshape(y, [-1]), tf.int64)
        for name, y in named.items()
        if isinstance(y, tf.Tensor)
        and (y.dtype.is_integer or y.dtype.is_bool)
        and (y.shape.rank == 1 or (y.shape.rank == 2 and y.shape[1] == 1))
    }


def is_shuffled(stream: Stream) -> bool:
    """Returns whether the examples of a stream of pairs come in another order in each pass.

    Raises:
        ValueError: they do, and have no labels, so that no one can know which example has which
            features.
    """
    if stream.changing_batch(looks=_LOOKS, batches=_BATCHES) is None:
        return False
    if not stream.spec[1]:
        raise checks.invalid(
            "`x`",
            "in the same order in each pass, or pairs (inputs, labels) with integer labels of shape"
            " (n,), which the store keeps",
            "a tf.data.Dataset that changes from pass to pass: it is shuffled or augmented",
            "Leave out shuffle(), or use shuffle(..., reshuffle_each_iteration=False).",
        )
    return True
