"""Image classification data sets of TensorFlow Datasets, an optional dependency."""

from __future__ import annotations

import pathlib
from typing import Any

import numpy as np

from thesis_tf._core import checks
from thesis_tf._core.types import Array
from thesis_tf.datasets.assemble import Source
from thesis_tf.datasets.splits import SPELLINGS


def read(
    name: str, data_dir: pathlib.Path | None, *, image_size: tuple[int, int] | None = None
) -> Source:
    """Reads a data set of TensorFlow Datasets, which is downloaded and prepared if necessary.

    It must have a pair of supervised keys, or features called `image` and `label`: the first is an
    image or an array of numbers, the second a class label. With `image_size` images are resized
    bilinearly; without it all images must have the same size. Splits without labels have None.

    Args:
        name: as for `tfds.builder`: "name", "name/config" or "name:1.0.0".
        data_dir: the folder of prepared data sets; None for tfds' default folder.
        image_size: (height, width) or None.

    Raises:
        ImportError: if tensorflow_datasets is not installed.
        OSError: if the data set can't be downloaded or prepared.
        ValueError: if there is no such data set, or if it has no images and labels of this kind.
    """
    try:
        import tensorflow_datasets as tfds
    except ModuleNotFoundError as error:
        raise ImportError(
            f"tfds:{name} needs tensorflow_datasets: pip install 'thesis_tf[tfds]'."
        ) from error

    builder = _builder(tfds, name, data_dir)
    keys = _check_features(tfds, name, builder.info, image_size)
    try:
        builder.download_and_prepare()
    except Exception as error:  # any error of the downloader or of the data set's code
        raise OSError(f"tfds:{name} could not be downloaded or prepared: {error}.") from error
    there = builder.info.splits
    found = {
        split: min(
            (their for their in there if their.lower() in theirs),
            key=lambda their: theirs.index(their.lower()),
            default=None,
        )
        for split, theirs in SPELLINGS.items()
    }
    if found["train"] is None:
        raise checks.invalid(
            f"tfds:{name}", "a data set with a split `train`", ", ".join(there) or "no splits"
        )
    pairs: dict[str, Any] = {
        split: _read_split(builder, theirs, keys, image_size)
        for split, theirs in found.items()
        if theirs
    }
    image, label = (builder.info.features[key] for key in keys)
    left_out = [split for split in there if split not in found.values()]
    is_bytes = isinstance(image, tfds.features.Image) and image.np_dtype == np.uint8
    return Source(
        **pairs,
        class_names=label.names if label.num_classes else None,
        values=(0.0, 255.0) if is_bytes else None,
        notes=(f"left out the splits {', '.join(left_out)}",) if left_out else (),
    )


def _builder(tfds: Any, name: str, data_dir: pathlib.Path | None) -> Any:
    try:
        return tfds.builder(name, data_dir=data_dir)
    except tfds.core.DatasetNotFoundError as error:
        options = tfds.list_builders(with_community_datasets=False)
        raise checks.invalid(
            f"tfds:{name}",
            "a data set that tensorflow_datasets has",
            repr(name),
            checks.nearest(name, options),
        ) from error
    except Exception as error:  # A wrong version is an AssertionError, a wrong config isn't.
        raise ValueError(f"tensorflow_datasets has no data set {name!r}: {error}") from error


def _check_features(
    tfds: Any, name: str, info: Any, image_size: tuple[int, int] | None
) -> tuple[str, str]:
    """Returns the names of the features that are x and y; raises if their types don't fit."""
    features, keys = info.features, info.supervised_keys
    if not (isinstance(keys, tuple) and [type(key) for key in keys] == [str, str]):
        keys = ("image", "label")  # Supervised keys may also be nested, or a triple.
    expected = "a data set of `image` and `label`, or with a pair of supervised keys"
    if not all(key in features for key in keys):
        raise checks.invalid(f"tfds:{name}", expected, f"the features {', '.join(features)}")
    x, y = (features[key] for key in keys)
    if not isinstance(y, tfds.features.ClassLabel):
        raise checks.invalid(f"`{keys[1]}` of tfds:{name}", "a ClassLabel", repr(y))
    if not isinstance(x, tfds.features.Image | tfds.features.Tensor) or x.np_dtype in (str, object):
        raise checks.invalid(f"`{keys[0]}` of tfds:{name}", "images or numbers", repr(x))
    if image_size and not isinstance(x, tfds.features.Image):
        raise checks.invalid(
            "`image_size`", f"None, since `{keys[0]}` of tfds:{name} is not an image", image_size
        )
    if None in (x.shape[2:] if image_size else x.shape):
        raise checks.invalid(
            f"`{keys[0]}` of tfds:{name}",
            "of one shape",
            f"shape {x.shape}",
            "Pass `image_size` to resize the images." if image_size is None else None,
        )
    return keys


def _read_split(
    builder: Any, split: str, keys: tuple[str, str], image_size: tuple[int, int] | None
) -> tuple[Array, Array | None]:
    """Returns x of shape (n, ...) and y of shape (n,), in the order of the files.

    y is None if all labels are -1, which is tensorflow_datasets' number for "no label".
    """
    import tensorflow as tf

    def example(features: Any) -> tuple[Any, Any]:
        x, y = features[keys[0]], features[keys[1]]
        if image_size is not None:
            # tf.image.resize returns float32; `rint` rounds to the nearest value of the dtype.
            x = tf.image.resize(x, image_size)
        return x, y

    dataset = builder.as_dataset(split=split, shuffle_files=False)
    dataset = dataset.map(example, num_parallel_calls=tf.data.AUTOTUNE)
    size = builder.info.splits[split].num_examples
    dtype = builder.info.features[keys[0]].np_dtype
    x = np.empty((size, *dataset.element_spec[0].shape), dtype)
    y = np.empty(size, np.int64)
    for i, (image, label) in enumerate(dataset.as_numpy_iterator()):
        x[i] = np.rint(image) if image.dtype != dtype else image
        y[i] = label
    return x, None if size and (y == -1).all() else y
