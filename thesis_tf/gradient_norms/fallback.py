"""The per-example gradients of any layer's weights, by mapping its own gradient over examples."""

import keras
import tensorflow as tf

from thesis_tf._keras import recording
from thesis_tf.gradient_norms.forms import Full
from thesis_tf.gradient_norms.recording import is_floating, widened


def mapped(call, variables, values):
    """Yields (variable, `Full`) of one call.

    Runs the layer again, an example at a time, under `tf.vectorized_map`, and takes the gradients
    of what it puts out with the gradients of the sum of losses for weights. Only this layer runs
    again, and a gradient is formed for every example.

    Args:
        call: a `Call`, whose tensors of unknown first axis are taken for batches.
        variables: whose gradients are wanted.
        values: their values, tensors.

    Raises:
        ValueError: the layer draws random numbers, which would be others here, or it has no batch.
    """
    layer = call.layer
    if call.training and _draws(layer):
        raise ValueError(
            f"{layer.name} has no rule for per-example gradients, and it draws random numbers in"
            " training mode, so it can't be run again. Leave out training=True, or give it a rule"
            " with thesis_tf.gradient_norms.register."
        )
    leaves = keras.tree.flatten(call.arguments)
    places = [i for i, leaf in enumerate(leaves) if _is_batch(leaf)]
    outputs = [t for t in keras.tree.flatten(call.outputs) if is_floating(t)]
    if not places or not all(_is_batch(t) for t in outputs):
        raise ValueError(
            f"{layer.name} has no rule for per-example gradients, and it can't be mapped over"
            " examples, as its inputs and outputs don't all have examples on their first axis."
            " Give it a rule with thesis_tf.gradient_norms.register."
        )
    given = [leaves[i] for i in places]
    masks = {i: getattr(leaves[i], "_keras_mask", None) for i in places}
    masks = {i: mask for i, mask in masks.items() if mask is not None}
    gradients = [call.gradients[id(t)] for t in outputs]

    def one(example):
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
            scope = _OwnReads(list(zip(variables, values, strict=True)))
            with scope, recording.recording(scope):
                result = layer(*args, **kwargs)
        result = [t for t in keras.tree.flatten(result) if is_floating(t)]
        found = tape.gradient(
            result,
            values,
            output_gradients=[g[tf.newaxis] for g in gradient],
            unconnected_gradients="zero",
        )
        return [tf.convert_to_tensor(g) for g in found]

    found = tf.vectorized_map(one, (given, masks, gradients))
    for variable, gradient in zip(variables, found, strict=True):
        yield variable, Full(widened(tf.ensure_shape(gradient, [None, *variable.shape])))


class _OwnReads(keras.StatelessScope):
    """Gives values to the reads of one call; for those of calls within it they are constants.

    Such calls are accounted for by themselves.
    """

    def __init__(self, values):
        super().__init__(values)
        self._depth = 0

    def call(self, original, operation, args, kwargs):
        self._depth += 1
        try:
            return original(operation, *args, **kwargs)
        finally:
            self._depth -= 1

    def get_current_value(self, variable):
        value = super().get_current_value(variable)
        return value if value is None or self._depth == 1 else tf.stop_gradient(value)


def _is_batch(leaf):
    return isinstance(leaf, tf.Tensor) and leaf.shape.rank and leaf.shape[0] is None


def _draws(layer):
    layers = layer._flatten_layers() if isinstance(layer, keras.layers.Layer) else [layer]
    return any(
        isinstance(v, keras.random.SeedGenerator) for one in layers for v in vars(one).values()
    )
