"""Checks of a network against a data set, before a program does or writes anything."""

from typing import TYPE_CHECKING

import keras
import numpy as np
import tensorflow as tf

from thesis_tf.errors import invalid

if TYPE_CHECKING:
    from thesis_tf.datasets import Splits


def check(model: keras.Model, splits: "Splits", *, labels: bool = True) -> None:
    """Checks, before anything is written, that a network can take a data set.

    Args:
        model: the network; one without declared inputs or outputs isn't checked.
        splits: the data.
        labels: whether the network is used with the labels, so that each output must have
            one value for each class.

    Raises:
        ValueError: the examples have another shape than the inputs, or a scale that the network's
            first layer doesn't have, or an output has no value for each
            class.
    """
    shape = splits.train.x.shape[1:]
    wanted = [tuple(tensor.shape[1:]) for tensor in getattr(model, "inputs", None) or ()]
    # Keras adds or drops a last axis of one.
    possible = [shape, (*shape, 1), shape[:-1] if shape[-1:] == (1,) else shape]
    if wanted and not (
        len(wanted) == 1 and any(tf.TensorShape(wanted[0]).is_compatible_with(s) for s in possible)
    ):
        raise invalid(
            "`model`",
            f"a network for examples of shape {shape}, as {splits.name} has",
            f"{model.name}, whose inputs have shape {', '.join(map(str, wanted))}",
        )
    _check_scale(model, splits)
    if not labels:
        return
    for output in getattr(model, "outputs", None) or ():
        sizes = ", ".join(map(str, output.shape[1:]))
        if len(output.shape) != 2 or (output.shape[1] or splits.num_classes) < splits.num_classes:
            raise invalid(
                "`model`",
                f"a network with outputs for the {splits.num_classes} classes of {splits.name}",
                f"{model.name}, with outputs of shape (batch, {sizes})",
                "It needs a logit or a probability for each class.",
            )


def _check_scale(model: keras.Model, splits: "Splits") -> None:
    """Raises if a network that begins with `Rescaling` does so for another range of pixels.

    A network that was trained on pixels in [0, 255] would take those in [0, 1] for black.
    """
    layers = (layer for layer in model.layers if not isinstance(layer, keras.layers.InputLayer))
    first = next(layers, None)
    pixels = None if splits.values is None else splits.values.pixels
    if not isinstance(first, keras.layers.Rescaling) or pixels is None:
        return
    scale, offset = np.mean(first.scale), np.mean(first.offset)
    low, high = (float(scale * value + offset) for value in pixels)
    # `bytes` makes pixels 0 to 255 for the next layer; others make them about 0 to 1, or -1 to 1,
    # or divide by a standard deviation.
    narrowest, widest = (250, 260) if first.name == "bytes" else (0.4, 20)
    if not narrowest <= abs(high - low) <= widest:
        raise invalid(
            "`model`",
            f"a network for pixels from {pixels[0]:g} to {pixels[1]:g}, as {splits.name} has",
            f"{model.name}, whose layer {first.name} makes them {low:.3g} to {high:.3g}",
            "Convert the examples to the range of pixels that the network was trained on.",
        )
