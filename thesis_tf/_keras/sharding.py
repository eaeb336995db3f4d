"""A data set in batches that are divided among the replicas of a `tf.distribute` strategy."""

import numpy as np
import tensorflow as tf

from thesis_tf._core import checks
from thesis_tf._keras.batches import Stream


class ShardedData:
    """Batches (x, y, weights) of one static shape, a part of each on every replica.

    It is made under a strategy's scope, or outside of one for a single device. With
    `MultiWorkerMirroredStrategy` every process passes the same data and takes its own part.

    Args:
        data: (x, y), arrays or structures of arrays, or a finite `tf.data.Dataset` of such pairs.
        batch_size: examples a batch over all replicas; made a multiple of their number, and no
            larger than the data need.

    Attributes:
        stream: the whole batches.

    Raises:
        ValueError: the data are not pairs, not finite, or empty.
    """

    def __init__(self, data, batch_size):
        if isinstance(data, tf.data.Dataset):
            parts = data.element_spec
            received = f"a tf.data.Dataset of {parts}"
        else:
            parts = data
            received = type(data).__name__
            if isinstance(data, (tuple, list)):
                received += f" of {len(data)}"
        advice = "Sample weights are not taken: put them into the loss." if _three(parts) else None
        if not isinstance(parts, (tuple, list)) or len(parts) != 2:
            raise checks.invalid(
                "`data`", "a pair (x, y) of arrays or a tf.data.Dataset of pairs", received, advice
            )
        if isinstance(data, tf.data.Dataset) and any(
            spec.shape.rank == 0 for spec in tf.nest.flatten(parts)
        ):
            raise checks.invalid("`data`", "a batched tf.data.Dataset", parts, "Use batch().")
        self._strategy = tf.distribute.get_strategy()
        replicas = self._strategy.num_replicas_in_sync
        batch_size = checks.positive_integer("`batch_size`", batch_size)
        if not isinstance(data, tf.data.Dataset):
            data = tuple(data)
            batch_size = min(batch_size, Stream(data, 1).examples)
        self._local = -(-batch_size // replicas)
        self.stream = Stream(data, self._local * replicas)

    def spec(self):
        """The `tf.TensorSpec`s (x, y, weights) of one replica's part of a batch."""

        def local(spec):
            return tf.TensorSpec((self._local, *spec.shape[1:]), spec.dtype)

        x, y = tf.nest.map_structure(local, self.stream.spec)
        return x, y, tf.TensorSpec((self._local,), tf.float32)

    def batches(self, start=0):
        """Yields ((x, y, weights), count): weights are 1 for examples and 0 for padding.

        Args:
            start: the first example.
        """
        for (x, y), count in self.stream.batches(start):
            weights = (np.arange(self.stream.batch_size) < count).astype(np.float32)
            yield self._shared_out((x, y, weights)), count

    def _shared_out(self, arrays):
        if self._strategy.num_replicas_in_sync == 1:
            return tf.nest.map_structure(tf.convert_to_tensor, arrays)

        leaves = []
        for leaf in tf.nest.flatten(arrays):

            def part(context, leaf=leaf):
                first = context.replica_id_in_sync_group * self._local
                return tf.convert_to_tensor(leaf[first : first + self._local])

            leaves.append(self._strategy.experimental_distribute_values_from_function(part))
        return tf.nest.pack_sequence_as(arrays, leaves)

    def on_replicas(self, function):
        """Makes a concrete function run on every replica, on that replica's values."""
        strategy = self._strategy
        if strategy.num_replicas_in_sync == 1:
            return function
        return tf.function(lambda *args: strategy.run(function, args), autograph=False)

    def size_of(self, values):
        """The bytes that the tensors of a structure take on this process' replicas."""
        tensors = (
            tensor
            for value in tf.nest.flatten(values)
            for tensor in self._strategy.experimental_local_results(value)
        )
        return sum(tensor.shape.num_elements() * tensor.dtype.size for tensor in tensors)

    def total(self, values):
        """Sums a value over the replicas, of all processes."""
        if self._strategy.num_replicas_in_sync == 1:
            return values
        return self._strategy.reduce(tf.distribute.ReduceOp.SUM, values, axis=None)


def _three(parts):
    return isinstance(parts, (tuple, list)) and len(parts) == 3
