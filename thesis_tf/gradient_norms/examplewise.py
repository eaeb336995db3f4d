"""Maps a function over the examples of a batch, without products that TensorFlow can't compute.

With oneDNN (the default on many CPUs), TensorFlow up to 2.21 corrupts memory in products of a
tensor of rank 4, one of whose axes has size 1, with a matrix
(https://github.com/tensorflow/tensorflow/issues/117700). `tf.vectorized_map` makes such products of
the products of rank 3 for one example, since its batch has size 1.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import keras
import tensorflow as tf

from thesis_tf._core.types import Structure


def examplewise(
    one: Callable[[Any], list[tf.Tensor]], batch: Structure, results: Sequence[tf.TensorSpec]
) -> list[tf.Tensor]:
    """Returns the results of `one` for each example, stacked.

    Args:
        one: a function of an example, a structure like `batch` without its first axis.
        batch: tensors whose first axis is that of the examples.
        results: the shapes and dtypes of the results for one example.

    All examples are computed at once, unless this would need a product as described above, or an
    operation that can't be: then one after the other.
    """
    specs = keras.tree.map_structure(lambda t: tf.TensorSpec(t.shape, t.dtype), batch)
    at_once = tf.function(lambda batch: tf.vectorized_map(one, batch), autograph=False)
    try:
        traced = at_once.get_concrete_function(specs)
    except (ValueError, TypeError, NotImplementedError):  # of control flow, among others
        traced = None
    if traced is None or has_unsafe_products(traced.graph):
        return tf.map_fn(one, batch, fn_output_signature=list(results))
    return traced(batch)


def has_unsafe_products(graph: tf.Graph) -> bool:
    """Returns whether a graph may multiply a tensor of rank 4 or more with a matrix."""
    return any(True for _ in unsafe_products(graph))


def unsafe_products(graph: tf.Graph) -> Iterator[str]:
    """Yields the names of such products in a graph and the functions that it calls.

    The ranks of tensors in functions are unknown here, so each batched product in them is one.
    """
    for op in graph.get_operations():
        if _is_batched(op.type):
            ranks = {t.shape.rank for t in op.inputs}
            if None in ranks or (min(ranks) == 2 and max(ranks) > 3):
                yield op.name
    for function in graph.as_graph_def().library.function:
        yield from _batched(function.signature.name, function.node_def)


def _batched(name: str, nodes: Iterable[Any]) -> Iterator[str]:
    return (f"{name}/{node.name}" for node in nodes if _is_batched(node.op))


def _is_batched(kind: str) -> bool:
    return "BatchMatMul" in kind
