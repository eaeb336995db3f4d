"""Which way time runs in the tensors of a recorded pass.

A recurrent layer with `go_backwards` returns its steps in the order in which it ran them, but its
mask as it was given. So does every layer behind it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
import tensorflow as tf

from thesis_tf._keras import recording


def differ(first: bool | None, second: bool | None) -> bool | None:
    """Returns whether two orders differ; None if one of them can't be told."""
    return None if first is None or second is None else first != second


def _runs_backwards(layer: Any) -> bool:
    """Returns whether the time axis of a recurrent layer's outputs is that of its inputs reversed.

    `Bidirectional` turns the outputs of its backward layer, and so has the order of the other.
    """
    return bool(getattr(getattr(layer, "forward_layer", layer), "go_backwards", False))


def orders(recorder: recording.Recorder) -> dict[int, bool | None]:
    """Returns {id(tensor): whether its steps are in reverse order}, None where it can't be told.

    Tensors that don't depend on the inputs aren't in it.
    """
    inputs = {id(place.tensor) for place in recorder.places if place.arguments is None}
    calls: dict[int, recording.Place] = {}
    for place in recorder.places:
        if isinstance(place.operation, (keras.layers.RNN, keras.layers.Bidirectional)):
            # A model's last layer has its tensor, but the layer is what is known.
            calls.setdefault(id(place.tensor), place)
    found: dict[int, bool | None] = {}
    for operation in recorder.places[0].tensor.graph.get_operations():
        if operation.type == "Placeholder":
            found.update({id(t): False for t in operation.outputs if id(t) in inputs})
            continue
        given = {found[id(tensor)] for tensor in operation.inputs if id(tensor) in found}
        order = _turned(operation, next(iter(given)) if len(given) == 1 else None)
        for tensor in operation.outputs:
            call = calls.get(id(tensor))
            if call is not None:
                if call.operation.return_sequences:
                    args, kwargs = call.arguments or ((), {})
                    source = keras.tree.flatten([args, kwargs])[0]
                    backwards = _runs_backwards(call.operation)
                    found[id(tensor)] = differ(found.get(id(source), False), backwards)
            elif given:
                found[id(tensor)] = order
    return found


def _turned(operation: tf.Operation, order: bool | None) -> bool | None:
    """Returns the order of an operation's outputs, whose inputs have this order."""
    if operation.type == "ReverseSequence":
        return None
    if order is None:
        return None
    if operation.type == "StridedSlice":
        strides = tf.get_static_value(operation.inputs[3])
        return None if strides is None or (strides < 0).any() else order
    if operation.type == "ReverseV2":
        axes, rank = tf.get_static_value(operation.inputs[1]), operation.inputs[0].shape.rank
        if axes is None or rank is None or {int(axis) % rank for axis in axes} != {1}:
            return None
        return differ(order, True)
    return order


def behind(recorder: recording.Recorder, sources: Mapping[int, Any]) -> dict[str, tf.Tensor]:
    """Returns {name: tensor} of the places that depend on tensors with these ids."""
    reached = set(sources)
    if reached:
        for operation in recorder.places[0].tensor.graph.get_operations():
            if any(id(tensor) in reached for tensor in operation.inputs):
                reached.update(map(id, operation.outputs))
    return {
        place.name: place.tensor
        for place in recorder.places
        if id(place.tensor) in reached and id(place.tensor) not in sources
    }
