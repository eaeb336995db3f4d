"""MNIST, Fashion-MNIST, CIFAR-10 and CIFAR-100: from a folder, or downloaded by Keras."""

from __future__ import annotations

import dataclasses
import pathlib

import numpy as np

from thesis_tf._core.types import Array
from thesis_tf.datasets import archives, class_names
from thesis_tf.datasets.assemble import Source

CLASS_NAMES = {
    "mnist": class_names.DIGITS,
    "fashion_mnist": class_names.FASHION_MNIST,
    "cifar10": class_names.CIFAR10,
    "cifar100": class_names.CIFAR100,
}


def read(name: str, data_dir: pathlib.Path | None) -> Source:
    """Reads `data_dir/NAME.npz` if it exists, otherwise downloads it by `keras.datasets`.

    Raises:
        OSError: Keras can't download it; the message says where to put which file.
        ValueError: the archive is not one for `archives.read`.
    """
    archive = None if data_dir is None else data_dir / f"{name}.npz"
    if archive is not None and archive.exists():
        source = archives.read(archive)
    else:
        source = _download(name, archive or f"DATA_DIR/{name}.npz")
    return dataclasses.replace(source, class_names=source.class_names or CLASS_NAMES[name])


def _download(name: str, archive: pathlib.Path | str) -> Source:
    import keras

    try:
        (x_train, y_train), (x_test, y_test) = getattr(keras.datasets, name).load_data()
    except Exception as error:  # A failed download is a bare Exception in Keras.
        raise OSError(
            f"keras.datasets.{name} could not be downloaded: {error}. "
            f"Without a network, put an archive with the arrays x_train, y_train, x_test and "
            f"y_test at {archive} and pass its folder as `data_dir`."
        ) from error
    return Source((_channels_last(x_train), y_train), test=(_channels_last(x_test), y_test))


def _channels_last(x: Array) -> Array:
    """Undoes the order that Keras gives CIFAR under `image_data_format="channels_first"`."""
    return np.moveaxis(x, 1, -1) if x.shape[1:] == (3, 32, 32) else x
