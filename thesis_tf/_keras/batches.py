"""A data set in batches of one shape, the last one padded."""

import itertools
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from thesis_tf._core import checks
from thesis_tf.persistence import fingerprint

_HASHED = 8  # the batches of a tf.data.Dataset that are hashed


class Stream:
    """Batches of one static shape from arrays or a finite `tf.data.Dataset`.

    Args:
        data: an array, a structure of arrays with the same first axis, or a finite batched
            `tf.data.Dataset`.
        batch_size: examples per batch; a `tf.data.Dataset` of other batches is batched again.

    Attributes:
        in_memory: whether the data are arrays.
        examples: the number of examples; None for a `tf.data.Dataset`.
        spec: the `tf.TensorSpec`s of a batch of any number of examples.
    """

    examples: int | None

    def __init__(self, data: Any, batch_size: int) -> None:
        self.batch_size = checks.positive_integer("`batch_size`", batch_size)
        self._given: Any = None
        self._dataset: Any = None
        self._arrays: Any = None
        self.in_memory = not isinstance(data, tf.data.Dataset)
        if not self.in_memory:
            self._given, self.examples = data, None
            self._dataset = data.rebatch(self.batch_size)
            if data.cardinality() == tf.data.INFINITE_CARDINALITY:
                raise checks.invalid(
                    "The data", "a finite data set", "one that repeats", "Use take()."
                )
            spec = self._dataset.element_spec
        else:
            self._arrays = keras.tree.map_structure(_as_array, data)
            leaves = keras.tree.flatten(self._arrays)
            if not leaves or any(leaf.ndim == 0 for leaf in leaves):
                raise checks.invalid("The data", "arrays with a first axis of examples", "numbers")
            lengths = {len(leaf) for leaf in leaves}
            if len(lengths) != 1:
                raise checks.invalid("The data", "arrays of one length", sorted(lengths))
            self.examples = lengths.pop()
            if not self.examples:
                raise checks.invalid("The data", "at least one example", "none")
            spec = self._arrays
        self.spec = keras.tree.map_structure(
            lambda s: tf.TensorSpec((None, *s.shape[1:]), keras.backend.standardize_dtype(s.dtype)),
            spec,
        )

    def fingerprint(self) -> str:
        """Returns a hash of the data, as `fingerprint.of_arrays` takes it.

        Of a `tf.data.Dataset` the first batches are hashed, and the number of its batches if it is
        known: a pass over all would take as long as the work. A later change that keeps the number
        isn't seen.
        """
        if self.in_memory:
            return fingerprint.of_arrays(keras.tree.flatten(self._arrays))
        first = list(self._dataset.take(_HASHED).as_numpy_iterator())
        if not first:
            raise checks.invalid("The data", "at least one example", "an empty data set")
        return fingerprint.of_arrays([self._rough_count(), *keras.tree.flatten(first)])

    def _rough_count(self) -> np.ndarray:
        """Returns the number of examples if all batches were full, below 0 if it isn't known."""
        batches = self._given.cardinality().numpy()
        batch = next(iter(self._given.take(1).as_numpy_iterator()))
        return np.asarray(max(batches, -1) * len(keras.tree.flatten(batch)[0]))

    def changing_batch(self, *, looks: int = 2, batches: int | None = None) -> int | None:
        """Returns the number of the first batch that isn't the same in each pass; None without one.

        Args:
            looks: the number of passes.
            batches: the number of batches at the beginning that are compared; None for all.
        """
        if self.in_memory:
            return None
        few = self._dataset if batches is None else self._dataset.take(batches)
        # A generator that can be read only once leaves nothing for the other passes.
        passes = itertools.zip_longest(*(few.as_numpy_iterator() for _ in range(looks)))
        for number, (first, *others) in enumerate(passes):
            if not all(_are_equal(first, other) for other in others):
                return number
        return None

    def batches(self, start: int = 0, stop: int | None = None) -> Iterator[tuple[Any, int]]:
        """Yields (batch, count): arrays of the static shape, whose first `count` rows are examples.

        Args:
            start: the first example.
            stop: one past the last; None for the end.
        """
        if self.in_memory:
            stop = self.examples if stop is None else stop
            assert stop is not None  # of arrays it is known
            for first in range(start, stop, self.batch_size):
                count = min(self.batch_size, stop - first)
                rows = slice(first, first + count)
                yield self._padded(keras.tree.map_structure(lambda a: a[rows], self._arrays), count)  # noqa: B023
            return
        dataset = self._dataset
        if start:
            dataset = dataset.unbatch().skip(start).batch(self.batch_size)
        for batch in dataset.as_numpy_iterator():
            yield self._padded(batch, len(keras.tree.flatten(batch)[0]))

    def _padded(self, batch: Any, count: int) -> tuple[Any, int]:
        missing = self.batch_size - count
        if missing:
            # Copies of the last example, which the model can process like any other.
            batch = keras.tree.map_structure(
                lambda a: np.concatenate([a, np.repeat(a[-1:], missing, axis=0)]), batch
            )
        return batch, count


def _as_array(leaf: Any) -> np.ndarray:
    return leaf if isinstance(leaf, np.ndarray) else np.asarray(leaf)


def _are_equal(one: Any, other: Any) -> bool:
    """Returns whether two batches have the same values; NaN equals NaN."""

    def same(a: np.ndarray, b: np.ndarray) -> bool:
        if a.shape != b.shape:
            return False
        return bool((a == b).all()) if a.dtype.hasobject else a.tobytes() == b.tobytes()

    if one is None or other is None:
        return False
    pairs = zip(keras.tree.flatten(one), keras.tree.flatten(other), strict=True)
    return all(same(np.asarray(a), np.asarray(b)) for a, b in pairs)
