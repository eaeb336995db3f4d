"""ResNet, VGG and Inception v3 from `keras.applications`, each a flat model from pixels to logits.

Resizing and preprocessing are layers of the same functional model, so inputs are unscaled images,
and a tap has the name "conv2_block1_add" rather than "resnet50/conv2_block1_add".

With a low-precision policy, preprocessing and logits stay in float32. So do the first layers of
networks for which this was measured, since rounding errors are amplified most there. For the mean
activations of a ResNet-50 under mixed_bfloat16 (16 sums and the last ReLU, on CIFAR-10), this
reduces the relative error from 2.5 % to at most 0.6 %, for 9 % of the multiplications; for an
Inception v3's mixed blocks, from 12.6 % to 0.8 %.
"""

from __future__ import annotations

import dataclasses
import os
import warnings
from collections.abc import Callable, Sequence

import keras

from models import pixels, weights_file
from thesis_tf.errors import invalid

CAFFE_MEAN = (103.939, 116.779, 123.68)  # of ImageNet's blue, green and red, in [0, 255]
PREPROCESSING = ("default", "caffe", "tf", "unit")


@dataclasses.dataclass(frozen=True)
class Backbone:
    """A `keras.applications` network: its builder and its requirements for images.

    Layers up to `exact` compute in at least float32 under every dtype policy.
    """

    build: Callable[..., keras.Model]
    image_size: int
    smallest: int
    preprocessing: str
    _: dataclasses.KW_ONLY
    exact: str | None = None


_apps = keras.applications
BACKBONES = {
    "resnet50": Backbone(_apps.ResNet50, 224, 32, "caffe", exact="conv2_block1_out"),
    "resnet101": Backbone(_apps.ResNet101, 224, 32, "caffe", exact="conv2_block1_out"),
    "resnet152": Backbone(_apps.ResNet152, 224, 32, "caffe", exact="conv2_block1_out"),
    "vgg16": Backbone(_apps.VGG16, 224, 32, "caffe"),
    "vgg19": Backbone(_apps.VGG19, 224, 32, "caffe"),
    "inception_v3": Backbone(_apps.InceptionV3, 299, 75, "tf", exact="max_pooling2d_1"),
}


def backbone(
    architecture: str,
    input_shape: Sequence[int],
    num_classes: int | None = None,
    *,
    weights: str | os.PathLike[str] = "none",
    image_size: int | None = None,
    preprocessing: str = "default",
    auxiliary_head: bool = False,
    value_range: pixels.ValueRange = pixels.BYTES,
) -> keras.Model:
    """Builds a network of `keras.applications` that returns logits.

    Args:
        architecture: a key of `BACKBONES`.
        input_shape: (height, width, channels) of images; one channel is repeated to three.
        num_classes: the number of classes. None takes the number from the weights: 1,000 for
            "imagenet", that of the head in a file (or no head if the file has none).
        weights: "imagenet" (Keras downloads them), "none", or the path of a `.weights.h5` file of
            this network with or without its head, or of this function's model.
        image_size: the side length to which the model resizes images; None for the network's
            default (224, or 299 for Inception v3).
        preprocessing: "default" (that of Keras' pretrained weights), "caffe" (BGR minus the mean),
            "tf" (in [-1, 1]) or "unit" (in [0, 1]).
        auxiliary_head: adds the auxiliary classifier on mixed7 that Keras leaves out (Szegedy et
            al. 2016), only for Inception v3; the model then returns [logits, auxiliary logits].
        value_range: the values of black and white; a layer `bytes` makes them 0 and 255 first, if
            they are others.

    Returns:
        A functional model from images (batch, *input_shape) to logits (batch, num_classes).

    Raises:
        ValueError: the images are too small for the network, the weights don't fit it, or
            `value_range` is None: the values are no pixels.
    """
    spec = BACKBONES[architecture]
    size = image_size or spec.image_size
    if size < spec.smallest:
        raise invalid("`image_size`", f"at least {spec.smallest} for {architecture}", size)
    if len(input_shape) != 3 or input_shape[-1] not in (1, 3):
        raise invalid("`input_shape`", f"(height, width, 1 or 3) for {architecture}", input_shape)
    if auxiliary_head and architecture != "inception_v3":
        raise invalid(
            "`auxiliary_head`", f"False for {architecture}", True, "Inception v3 has one."
        )
    path = None if weights in ("imagenet", "none") else weights_file.existing(weights)
    if num_classes is None:
        num_classes = 1000 if path is None else weights_file.classes_in(path)

    inputs = keras.Input(input_shape, name="image")
    to_bytes = pixels.to_bytes(value_range, dtype=_exact())
    x = inputs if to_bytes is None else to_bytes(inputs)
    x = _preprocess(x, size, spec.preprocessing if preprocessing == "default" else preprocessing)
    base = _renamed(spec.build(weights=None, include_top=False, input_tensor=x), spec.exact)
    if num_classes is None:
        features = keras.layers.GlobalAveragePooling2D(name="avg_pool")(base.output)
        model = keras.Model(base.inputs[0], features, name=architecture)
    else:
        model = _with_top(architecture, base, num_classes, auxiliary_head)
    if weights == "imagenet":
        _load_imagenet(architecture, spec, model, base, num_classes)
    elif path is not None:
        _load(architecture, path, model, base)
    return model


def _preprocess(x: keras.KerasTensor, size: int, preprocessing: str) -> keras.KerasTensor:
    layers = keras.layers
    if x.shape[1:3] != (size, size):
        # Not `keras.layers.Resizing`: its default `training=True` would propagate to the whole
        # model, so that model(x) would update batch normalization (Keras 3.15).
        x = _named("resized", keras.ops.image.resize(x, (size, size)))
    if x.shape[-1] == 1:
        x = layers.Concatenate(name="rgb")([x, x, x])
    if preprocessing == "caffe":
        x = _named("bgr", keras.ops.flip(x, axis=-1))
        mean, variance = CAFFE_MEAN, (1, 1, 1)
        return layers.Normalization(mean=mean, variance=variance, name="pixels", dtype=_exact())(x)
    if preprocessing == "tf":
        return layers.Rescaling(1 / 127.5, offset=-1, name="pixels", dtype=_exact())(x)
    if preprocessing == "unit":
        return layers.Rescaling(1 / 255, name="pixels", dtype=_exact())(x)
    raise invalid("`preprocessing`", f"one of {', '.join(PREPROCESSING)}", repr(preprocessing))


def _named(name: str, tensor: keras.KerasTensor) -> keras.KerasTensor:
    """Names the operation of a symbolic tensor; Keras' names depend on earlier operations."""
    tensor._keras_history.operation.name = name
    return tensor


def _exact() -> str | None:
    """Returns a policy with which layers compute in at least float32; None is the global one."""
    low = keras.config.dtype_policy().compute_dtype in ("bfloat16", "float16")
    return "float32" if low else None


def _renamed(base: keras.Model, exact: str | None) -> keras.Model:
    """Numbers Inception v3's layers from 0; Keras continues from the numbers of earlier models.

    Layers up to the one whose new name is `exact` compute in at least float32.
    """
    automatic: dict[str, list[tuple[int, str]]] = {}
    for layer in base.layers:
        kind, _, number = layer.name.rpartition("_")
        if not number.isdigit():
            kind, number = layer.name, "0"
        if kind in _AUTOMATIC:
            automatic.setdefault(kind, []).append((int(number), layer.name))
    names = {
        name: f"{kind}_{index}" if index else kind
        for kind, found in automatic.items()
        for index, (_, name) in enumerate(sorted(found))
    }
    in_order = [names.get(layer.name, layer.name) for layer in base.layers]
    first = in_order[: in_order.index(exact) + 1] if exact and _exact() else []
    if not first and all(old == new for old, new in names.items()):
        return base

    def clone(layer: keras.Layer) -> keras.Layer:
        config = {**layer.get_config(), "name": names.get(layer.name, layer.name)}
        if config["name"] in first:
            config["dtype"] = _exact()
        return layer.from_config(config)

    return keras.models.clone_model(base, clone_function=clone)


_AUTOMATIC = {
    "conv2d",
    "batch_normalization",
    "activation",
    "max_pooling2d",
    "average_pooling2d",
    "concatenate",
}


def _with_top(
    architecture: str, base: keras.Model, num_classes: int, auxiliary_head: bool
) -> keras.Model:
    layers = keras.layers
    x = base.output
    if architecture.startswith("vgg"):
        x = layers.Flatten(name="flatten")(x)
        x = layers.Dense(4096, activation="relu", name="fc1")(x)
        x = layers.Dense(4096, activation="relu", name="fc2")(x)
    else:
        x = layers.GlobalAveragePooling2D(name="avg_pool")(x)
    outputs = layers.Dense(num_classes, dtype="float32", name="predictions")(x)
    if auxiliary_head:
        outputs = [outputs, _auxiliary(base.get_layer("mixed7").output, num_classes)]
    return keras.Model(base.inputs[0], outputs, name=architecture)


def _auxiliary(x: keras.KerasTensor, num_classes: int) -> keras.KerasTensor:
    """Inception v3's auxiliary classifier; its kernels are smaller for small images."""
    layers = keras.layers
    pool = min(5, *x.shape[1:3])
    x = layers.AveragePooling2D(pool, strides=3, name="aux_pool")(x)
    for name, filters, kernel in (("aux_conv1", 128, 1), ("aux_conv2", 768, x.shape[1:3])):
        x = layers.Conv2D(filters, kernel, use_bias=False, name=name)(x)
        x = layers.BatchNormalization(scale=False, name=f"{name}_bn")(x)
        x = layers.ReLU(name=f"{name}_relu")(x)
    x = layers.Flatten(name="aux_flatten")(x)
    return layers.Dense(num_classes, dtype="float32", name="aux_predictions")(x)


def _load(architecture: str, path: os.PathLike[str], model: keras.Model, base: keras.Model) -> None:
    """Loads a file into the whole model, or, if the head doesn't fit, into the other layers."""
    errors: list[Exception] = []
    for part in (model, base):
        try:
            with warnings.catch_warnings():
                # Keras warns since the layers before `base` change the depths of layers in the
                # graph; it still finds each layer by its type.
                warnings.filterwarnings("ignore", "Skipping nested container")
                part.load_weights(path)
        except (ValueError, KeyError, OSError) as error:
            errors.append(error)
        else:
            return
    raise weights_file.unfitting(architecture, path, errors[-1]) from errors[-1]


def _load_imagenet(
    architecture: str,
    spec: Backbone,
    model: keras.Model,
    base: keras.Model,
    num_classes: int | None,
) -> None:
    whole = num_classes == 1000 and len(model.outputs) == 1
    try:
        source = spec.build(weights="imagenet", include_top=whole)
    except Exception as error:
        raise invalid(
            "`weights`",
            f"a weights file of {architecture}, since Keras can't download the ImageNet weights",
            f"imagenet ({error})",
            "Create one with `save_weights` of the network from keras.applications.",
        ) from error
    (model if whole else base).set_weights(source.get_weights())
