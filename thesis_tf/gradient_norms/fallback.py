"""Per-example gradients of layers without a rule, by mapping the layer over the examples."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
import tensorflow as tf

from thesis_tf._core.types import Structure
from thesis_tf._keras import recording
from thesis_tf._keras.tracing.traced_functions import inlined
from thesis_tf.gradient_norms.batch_axis import BatchAxis
from thesis_tf.gradient_norms.examplewise import examplewise
from thesis_tf.gradient_norms.forms import Full
from thesis_tf.gradient_norms.recording import LayerCall, exits, widened


def can_be_mapped(call: LayerCall, batch: BatchAxis) -> bool:
    """Returns whether a call's inputs and outputs can be taken apart into examples."""
    inputs = keras.tree.flatten(call.arguments)
    return all(map(batch.holds_examples, exits(call.outputs))) and all(
        batch.holds_examples(leaf) or not batch.is_sized_by_batch(leaf) for leaf in inputs
    )


def mapped(
    call: LayerCall,
    variables: Sequence[keras.Variable],
    values: Sequence[tf.Tensor],
    batch: BatchAxis,
    gradients: Sequence[tf.Tensor],
) -> Iterator[tuple[keras.Variable, Full]]:
    """Yields (variable, `Full`) for the variables of one call.

    Runs the layer again for each example, and multiplies the gradient of the sum of losses with
    respect to its outputs by their Jacobian. Only this layer runs again, and each example's
    gradient is computed.

    Args:
        call: a `LayerCall`, which can be mapped, or does not depend on the batch.
        variables: the variables whose gradients are requested.
        values: their values, tensors.
        batch: tells which of the call's tensors hold examples.
        gradients: those of each example with respect to each of the outputs' `exits`.

    Raises:
        ValueError: the layer draws random numbers, which would differ here.
    """
    layer = call.layer
    if call.training and draws(layer):
        raise ValueError(
            f"{layer.name} has no rule for per-example gradients, and in training mode it draws"
            " random numbers, so that it can't be run again. Leave out training=True, or register"
            " a rule with thesis_tf.gradient_norms.register."
        )
    leaves = keras.tree.flatten(call.arguments)
    places = [i for i, leaf in enumerate(leaves) if batch.holds_examples(leaf)]
    given = [leaves[i] for i in places]
    masks = {i: getattr(leaves[i], "_keras_mask", None) for i in places}
    masks = {i: mask for i, mask in masks.items() if mask is not None}
    ranks = [t.shape.rank for t in exits(call.outputs)]

    def one(example: Any) -> list[tf.Tensor]:
        inputs, masks, gradient = example
        again = list(leaves)
        for i, value in zip(places, inputs, strict=True):
            again[i] = value[tf.newaxis]
        for i, mask in masks.items():
            again[i]._keras_mask = mask[tf.newaxis]
        args, kwargs = keras.tree.pack_sequence_as(call.arguments, again)
        if getattr(layer, "_call_has_training_arg", False):
            kwargs = {**kwargs, "training": call.training}
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(values)
            scope = _OutermostReads(list(zip(variables, values, strict=True)))
            with scope, recording.recording(scope), inlined():
                result = exits(layer(*args, **kwargs))
        found = tape.gradient(
            result,
            values,
            output_gradients=[
                tf.cast(g if g.shape.rank == rank else g[tf.newaxis], t.dtype)
                for g, rank, t in zip(gradient, ranks, result, strict=True)
            ],
            unconnected_gradients="zero",
        )
        return [tf.convert_to_tensor(g) for g in found]

    results = [tf.TensorSpec(value.shape, value.dtype) for value in values]
    found = examplewise(one, (given, masks, list(gradients)), results)
    for variable, gradient in zip(variables, found, strict=True):
        yield variable, Full(widened(tf.ensure_shape(gradient, [None, *variable.shape])))


class _OutermostReads(keras.StatelessScope):
    """A scope in which only the outermost call's reads of variables are differentiated.

    For nested calls the values are constants, since these calls are recorded separately.
    """

    def __init__(self, values: list[tuple[keras.Variable, tf.Tensor]]) -> None:
        super().__init__(values)
        self._depth = 0

    def call(
        self,
        original: Callable[..., Structure],
        operation: keras.Operation,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Structure:
        self._depth += 1
        try:
            return original(operation, *args, **kwargs)
        finally:
            self._depth -= 1

    def get_current_value(self, variable: keras.Variable) -> Any:
        value = super().get_current_value(variable)
        return value if value is None or self._depth == 1 else tf.stop_gradient(value)


def draws(layer: keras.Operation) -> bool:
    """Returns whether a layer, or one inside of it, draws random numbers."""
    layers = layer._flatten_layers() if isinstance(layer, keras.layers.Layer) else [layer]
    return any(
        isinstance(v, keras.random.SeedGenerator) for one in layers for v in vars(one).values()
    )
