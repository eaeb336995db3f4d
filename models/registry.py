"""All networks, by the names that `--model` takes."""

from __future__ import annotations

import difflib
import functools
import os
import pathlib
import zipfile
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import keras

from models import pixels, weights_file
from models.backbones import BACKBONES, backbone
from models.mlp import issgd_mlp, mlp, skip_mlp
from models.mnist_convnet import mnist_convnet
from thesis_tf.errors import invalid

_PLAIN: dict[str, Callable[..., keras.Model]] = {
    "mnist_convnet": mnist_convnet,
    "lenet": functools.partial(mnist_convnet, units=1024, name="lenet"),
    "mlp": mlp,
    "issgd_mlp": issgd_mlp,
    "skip_mlp": skip_mlp,
}
NAMES = (*_PLAIN, *BACKBONES)


def build(
    name: str,
    input_shape: Sequence[int],
    num_classes: int | None,
    *,
    weights: str | os.PathLike[str] = "none",
    image_size: int | None = None,
    preprocessing: str | None = None,
    auxiliary_head: bool = False,
    value_range: pixels.ValueRange = pixels.BYTES,
) -> keras.Model:
    """Builds a network by name.

    Args:
        name: one of `NAMES`, or the path of a `.keras` file, which is loaded in safe mode.
        input_shape: the shape of one example.
        num_classes: the number of classes; None takes the number from the weights.
        weights: "none", "imagenet" (backbones only) or the path of a `.weights.h5` file.
        image_size, preprocessing, auxiliary_head: options of `models.backbones.backbone`.
        value_range: the values of black and white in the data, which the first layer scales; None
            for data that are no pixels, which aren't scaled. The model of a `.keras` file takes the
            data as they are.

    Returns:
        A Keras model that returns logits; the model of a `.keras` file may return anything.

    Raises:
        ValueError: the name or an option is unknown, or the weights don't fit.
    """
    given = {
        "image_size": image_size,
        "preprocessing": preprocessing,
        "auxiliary_head": auxiliary_head,
    }
    options: dict[str, Any] = {k: value for k, value in given.items() if value not in (None, False)}
    if name.endswith(".keras"):
        if options or weights != "none":
            extra = list(options) if weights == "none" else [*options, "weights"]
            raise invalid(
                _quoted(extra),
                "left out for a .keras file",
                "a value",
                "The file holds the model's settings and weights.",
            )
        if not pathlib.Path(name).exists():
            raise invalid("`model`", f"one of {', '.join(NAMES)}, or an existing .keras file", name)
        if not zipfile.is_zipfile(name):
            raise invalid("`model`", "a .keras file", f"{name}, which isn't one or is incomplete")
        return keras.saving.load_model(name, compile=False, safe_mode=True)
    if name in BACKBONES:
        return backbone(
            name, input_shape, num_classes, weights=weights, value_range=value_range, **options
        )
    if name not in _PLAIN:
        near = difflib.get_close_matches(name, NAMES, n=3)
        raise invalid(
            "`model`",
            f"one of {', '.join(NAMES)}, or a .keras file",
            repr(name),
            f"The nearest are: {', '.join(near)}." if near else None,
        )
    if options:
        raise invalid(
            _quoted(options),
            f"left out for {name}",
            "a value",
            f"Only backbones ({', '.join(BACKBONES)}) have these options.",
        )
    if weights == "imagenet":
        raise invalid(
            "`weights`",
            f"none or a file for {name}",
            "imagenet",
            "There are no ImageNet weights for it.",
        )
    path = None if weights == "none" else weights_file.existing(weights)
    if num_classes is None and path is None:
        raise invalid("`num_classes`", f"given for {name} without weights", None)
    if num_classes is None and path is not None:
        num_classes = weights_file.classes_in(path)
    model = _PLAIN[name](input_shape, num_classes, value_range=value_range)
    if path is not None:
        try:
            model.load_weights(path)
        except (ValueError, KeyError, OSError) as error:
            wanted = f"{name} for inputs of shape {tuple(input_shape)} and {num_classes} classes"
            raise weights_file.unfitting(wanted, path, error) from error
    return model


def _quoted(names: Iterable[str]) -> str:
    """Returns the names of arguments, quoted for an error message."""
    return ", ".join(f"`{name}`" for name in names)
