"""One call of a layer, by itself, as a function whose derivatives can be tested."""

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from thesis_tf._keras.parameter_vector import VectorLayout
from thesis_tf._keras.recording import Place
from thesis_tf._keras.tracing.traced_functions import inlined


class SingleCall:
    """A scalar function of one call of a layer, with the call's inputs and weights as parameters.

    It replaces an `Objective` when products are traced. The scalar is
    sum(c * output + output^2 / 2) with random c, which has curvature even where the call is linear.

    Args:
        place: a `Place` of `thesis_tf._keras.recording`.
        values: {id(variable): tensor} of the model's variables.

    Attributes:
        parameters: the call's floating inputs and its layer's weights, a list of tensors.
        layout: their `VectorLayout`; not set if there are none.
    """

    layout: VectorLayout

    def __init__(self, place: Place, values: Mapping[int, "tf.Tensor"]) -> None:
        self._operation, self._arguments = place.operation, place.arguments
        leaves = keras.tree.flatten(place.arguments)
        self._inputs = [i for i, leaf in enumerate(leaves) if _is_floating(leaf)]
        owned = getattr(place.operation, "variables", [])
        self._held = [(v, values[id(v)]) for v in owned if id(v) in values]
        self._moving = [(v, t) for v, t in self._held if v.trainable and _is_floating(t)]
        self.parameters = [leaves[i] for i in self._inputs] + [t for _, t in self._moving]
        if self.parameters:
            self.layout = VectorLayout(self.parameters)

    def total(
        self, parameters: Any, constants: Any, x: Any, y: Any, weights: "tf.Tensor"
    ) -> "tf.Tensor":
        """Returns the scalar; arguments but `parameters` are ignored."""
        leaves = keras.tree.flatten(self._arguments)
        for i, value in zip(self._inputs, parameters, strict=False):
            leaves[i] = value
        args, kwargs = keras.tree.pack_sequence_as(self._arguments, leaves)
        moved = [v for v, _ in self._moving]
        with inlined(), keras.StatelessScope() as scope:
            for variable, value in self._held:
                scope.add_update((variable, value))
            for variable, value in zip(moved, parameters[len(self._inputs) :], strict=True):
                scope.add_update((variable, value))
            outputs = self._operation(*args, **kwargs)
        total = tf.zeros((), tf.float64)
        for output in keras.tree.flatten(outputs):
            if _is_floating(output):
                slopes = np.random.default_rng(1).normal(size=tuple(output.shape))
                output = tf.cast(output, tf.float64)
                total += tf.reduce_sum(slopes * output + 0.5 * output**2)
        return total


def _is_floating(leaf: Any) -> bool:
    return isinstance(leaf, tf.Tensor) and bool(leaf.dtype.is_floating)
