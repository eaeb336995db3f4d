"""Batches that are divided among the replicas of a `tf.distribute` strategy."""

from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from thesis_tf._core import checks
from thesis_tf._core.types import Data
from thesis_tf._keras.batches import Stream
from thesis_tf._keras.loss.example_loss import with_weights


class Replicas:
    """The replicas of a strategy, each of which takes an equal part of every batch.

    Args:
        strategy: a `tf.distribute.Strategy`; None for the current strategy, which is that of a
            single device outside of any scope.

    Attributes:
        count: the number of replicas, over all processes.
    """

    def __init__(self, strategy: "tf.distribute.Strategy | None" = None) -> None:
        self._strategy = strategy or tf.distribute.get_strategy()
        self.count: int = self._strategy.num_replicas_in_sync
        # A strategy of a single replica (one TPU core, say) still places what it runs.
        with self._strategy.scope():
            self._has_strategy = tf.distribute.has_strategy()

    def round_up(self, batch_size: int) -> int:
        """Returns the smallest multiple of the number of replicas that is at least `batch_size`."""
        return -(-batch_size // self.count) * self.count

    def divide(self, arrays: Any) -> Any:
        """Gives each replica its rows of a structure of arrays (count * n, ...).

        Where the number of rows isn't a multiple of `count`, the first replicas have one row more.

        Returns:
            The structure of per-replica tensors (n, ...); of plain tensors on one device.
        """
        if not self._has_strategy:
            return keras.tree.map_structure(tf.convert_to_tensor, arrays)

        def divided(array: np.ndarray) -> Any:
            size, more = divmod(len(array), self.count)

            def rows(context: "tf.distribute.ValueContext") -> "tf.Tensor":
                replica = context.replica_id_in_sync_group
                first = replica * size + min(replica, more)
                return tf.convert_to_tensor(array[first : first + size + (replica < more)])

            return self._strategy.experimental_distribute_values_from_function(rows)

        return keras.tree.map_structure(divided, arrays)

    def own_rows(self, tensors: Any) -> Any:
        """Returns the rows (n, ...) of a structure of tensors (count * n, ...) of this replica.

        Call it in a function that `on_each` runs, whose arguments are whole batches.
        """
        if self.count == 1:
            return tensors
        replica = tf.distribute.get_replica_context().replica_id_in_sync_group

        def rows(tensor: "tf.Tensor") -> "tf.Tensor":
            size = tensor.shape[0] // self.count
            return tensor[replica * size : (replica + 1) * size]

        return keras.tree.map_structure(rows, tensors)

    def on_each(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Makes a function of tensors run on every replica, on that replica's values."""
        if not self._has_strategy:
            return function
        return tf.function(lambda *args: self._strategy.run(function, args), autograph=False)

    def local(self, value: Any) -> tuple["tf.Tensor", ...]:
        """Returns a per-replica value's tensors on the replicas of this process."""
        tensors: tuple[tf.Tensor, ...] = self._strategy.experimental_local_results(value)
        return tensors

    def size_of(self, values: Any) -> int:
        """Returns the bytes of a structure of per-replica tensors, on this process' replicas."""
        tensors = (tensor for value in tf.nest.flatten(values) for tensor in self.local(value))
        return sum(tensor.shape.num_elements() * tensor.dtype.size for tensor in tensors)

    def total(self, values: Any) -> Any:
        """Returns the sum of a per-replica value over the replicas of all processes."""
        if not self._has_strategy:
            return values
        return self._strategy.reduce(tf.distribute.ReduceOp.SUM, values, axis=None)


class ShardedData:
    """Batches (x, y, weights) of one static shape, whose rows are divided among replicas.

    Create it in a strategy's scope, or outside of any scope for a single device. With
    `MultiWorkerMirroredStrategy`, every process passes the same data and uses only its rows.

    Args:
        data: (x, y) or (x, y, sample_weight), arrays or structures of arrays, or a finite
            `tf.data.Dataset` of such. Labels with weights are `WeightedLabels`.
        batch_size: examples per batch over all replicas; rounded up to a multiple of their number,
            and no larger than the data need.

    Attributes:
        replicas: the `Replicas`.
        stream: the whole batches.

    Raises:
        ValueError: the data are not of these forms, not finite, or empty.
    """

    def __init__(self, data: Data, batch_size: int) -> None:
        received: str
        if isinstance(data, tf.data.Dataset):
            parts = data.element_spec
            received = f"a tf.data.Dataset of {parts}"
        else:
            parts = data
            received = type(data).__name__
            if isinstance(data, (tuple, list)):
                received += f" of {len(data)}"
        if not isinstance(parts, (tuple, list)) or len(parts) not in (2, 3):
            raise checks.invalid(
                "`data`",
                "(x, y) or (x, y, sample_weight), of arrays or as a tf.data.Dataset",
                received,
            )
        if isinstance(data, tf.data.Dataset) and any(
            spec.shape.rank == 0 for spec in tf.nest.flatten(parts)
        ):
            raise checks.invalid("`data`", "a batched tf.data.Dataset", parts, "Use batch().")
        self.replicas = Replicas()
        batch_size = checks.positive_integer("`batch_size`", batch_size)
        if isinstance(data, tf.data.Dataset):
            if len(parts) == 3:
                data = data.map(lambda *parts: with_weights(parts))
        else:
            data = with_weights(data)
            examples = Stream(data, 1).examples
            assert examples is not None  # of arrays it is known
            batch_size = min(batch_size, examples)
        self.stream = Stream(data, self.replicas.round_up(batch_size))
        self._local = self.stream.batch_size // self.replicas.count

    def spec(self) -> tuple[Any, Any, "tf.TensorSpec"]:
        """Returns the `tf.TensorSpec`s (x, y, weights) of one replica's rows of a batch."""

        def local(spec: "tf.TensorSpec") -> "tf.TensorSpec":
            return tf.TensorSpec((self._local, *spec.shape[1:]), spec.dtype)

        x, y = tf.nest.map_structure(local, self.stream.spec)
        return x, y, tf.TensorSpec((self._local,), tf.float32)

    def batches(self, start: int = 0) -> Iterator[tuple[tuple[Any, Any, Any], int]]:
        """Yields ((x, y, weights), count): weights are 1 for examples and 0 for padding.

        Args:
            start: the first example.
        """
        for (x, y), count in self.stream.batches(start):
            weights = (np.arange(self.stream.batch_size) < count).astype(np.float32)
            yield self.replicas.divide((x, y, weights)), count
