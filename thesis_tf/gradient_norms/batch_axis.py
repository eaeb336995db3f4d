"""Tells which tensors of a graph have a batch's examples on their first axis.

The size of an axis alone doesn't tell it: six positions look like a batch of six examples. So the
shapes of the whole graph are inferred again for a batch of a size that is no product of other axes.
"""

import functools
from collections.abc import Iterable
from typing import Any

import keras
import tensorflow as tf

from thesis_tf._core.types import Structure

# Divisible by small numbers, for layers that divide a batch, and by a large prime.
SIZE = 48 * 1009


class BatchAxis:
    """The places of the batch's axis in the graph that is being traced.

    Args:
        inputs: the model's inputs: placeholders of the graph, whose first axis is unknown.
    """

    def __init__(self, inputs: Structure) -> None:
        self._inputs: list[tf.Tensor] = keras.tree.flatten(inputs)
        self._graph = self._inputs[0].graph

    def holds_examples(self, tensor: Any) -> bool:
        """Returns whether a tensor has one row for each example of the batch."""
        if not self.is_in_graph(tensor) or not tensor.shape.rank or tensor.shape[0] is not None:
            return False
        sizes = self._sizes(tensor)
        return sizes is None or (sizes[0] in (None, SIZE) and not _any_multiple(sizes[1:]))

    def is_sized_by_batch(self, tensor: object) -> bool:
        """Returns whether an axis of a tensor is as long as the batch, or a multiple of it."""
        if not isinstance(tensor, tf.Tensor) or tensor.shape.is_fully_defined():
            return False
        sizes = self._sizes(tensor) if self.is_in_graph(tensor) else None
        return sizes is None or _any_multiple(sizes) or None in sizes

    def is_constant(self, tensor: object) -> bool:
        """Returns whether a tensor depends neither on the inputs' values nor on their shapes."""
        if not isinstance(tensor, tf.Tensor) or not tf.is_symbolic_tensor(tensor):
            return True
        return self.is_in_graph(tensor) and tensor.op not in self._dependent

    def is_in_graph(self, tensor: Any) -> bool:
        """Returns whether a tensor is one of this graph, not of a loop's or function's own."""
        return bool(tf.is_symbolic_tensor(tensor)) and tensor.graph is self._graph

    def _sizes(self, tensor: tf.Tensor) -> list[int | None] | None:
        """Returns the axes of a tensor for a batch of `SIZE` examples; None if they are unknown."""
        shape = self._inferred.get_tensor_by_name(tensor.name).shape
        return None if shape.rank is None else shape.as_list()

    @functools.cached_property
    def _inferred(self) -> tf.Graph:
        graph = tf.Graph()
        with graph.as_default():
            known = {
                t.name: tf.compat.v1.placeholder(t.dtype, [SIZE, *t.shape[1:]])
                for t in self._inputs
            }
            for op in self._graph.get_operations():
                if op.type == "ReadVariableOp":
                    (value,) = op.outputs
                    known[value.name] = tf.compat.v1.placeholder(value.dtype, value.shape)
            tf.graph_util.import_graph_def(self._graph.as_graph_def(), input_map=known, name="")
        return graph

    @functools.cached_property
    def _dependent(self) -> set[tf.Operation]:
        """The operations that depend on the inputs, be it on a shape only."""
        found: set[tf.Operation] = set()
        waiting = [op for tensor in self._inputs for op in tensor.consumers()]
        while waiting:
            op = waiting.pop()
            if op not in found:
                found.add(op)
                waiting += [user for tensor in op.outputs for user in tensor.consumers()]
        return found


def _any_multiple(sizes: Iterable[int | None]) -> bool:
    return any(size and size % SIZE == 0 for size in sizes)
