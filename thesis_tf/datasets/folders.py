"""A folder of images, one sub-folder per class."""

from __future__ import annotations

import pathlib
from collections.abc import Sequence

import numpy as np

from thesis_tf._core import checks, seeds
from thesis_tf._core.types import Array
from thesis_tf.datasets.assemble import Source
from thesis_tf.datasets.splits import SPELLINGS


def read(folder: pathlib.Path, image_size: tuple[int, int], *, seed: int = 0) -> Source:
    """Reads FOLDER/CLASS/*.png, or FOLDER/SPLIT/CLASS/*.png.

    Splits are train, validation (or valid or val) and test. A folder counts as a split if it has
    sub-folders, so `train` may also be the name of a class.
    Formats are JPEG, PNG, BMP and GIF (its first frame). Every image is converted to RGB; images of
    another size are resized bilinearly without preserving the aspect ratio. The order of images is
    random and depends on `seed`.

    All images are kept in memory as uint8, with 3 * height * width bytes each: about 147 KiB at 224
    x 224, or 1.4 GiB for 10,000. While a split is drawn from `train`, twice this memory is needed.

    Args:
        folder: a pathlib.Path.
        image_size: (height, width).
        seed: a non-negative integer.

    Raises:
        ValueError: if there are no images, an image can't be decoded, or a split's folder has
            classes that train/ lacks.
    """
    parts = _split_folders(folder)
    class_names = _subfolders(parts["train"])
    # One stream per split, so that the files in train/ don't change the order of test/.
    pairs = {
        split: _read_split(part, class_names, image_size, seeds.generator(seed, "order", stream))
        for stream, (split, part) in enumerate(parts.items())
    }
    return Source(**pairs, class_names=class_names)


def _subfolders(folder: pathlib.Path) -> list[str]:
    return sorted(
        path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")
    )


def _split_folders(folder: pathlib.Path) -> dict[str, pathlib.Path]:
    """Returns the folder of each split, {"train": folder} if there are none."""
    parts: dict[str, pathlib.Path] = {}
    for split, names in SPELLINGS.items():
        found = [
            name for name in names if name in _subfolders(folder) and _subfolders(folder / name)
        ]
        if len(found) > 1:
            expected = f"a folder with one of {', '.join(names)}"
            raise checks.invalid(str(folder), expected, " and ".join(found))
        if found:
            parts[split] = folder / found[0]
    if parts and "train" not in parts:
        raise checks.invalid(
            str(folder),
            "a folder with train/CLASS/ in addition to its other splits",
            ", ".join(part.name for part in parts.values()),
        )
    return parts or {"train": folder}


def _read_split(
    folder: pathlib.Path,
    class_names: Sequence[str],
    image_size: tuple[int, int],
    rng: np.random.Generator,
) -> tuple[Array, Array]:
    """Returns x, uint8 of shape (n, height, width, 3), and y of shape (n,), in `rng`'s order."""
    present = _subfolders(folder)
    if not present:
        raise checks.invalid(
            str(folder), "a folder with a sub-folder of images for each class", "no sub-folders"
        )
    unknown = sorted(set(present) - set(class_names))
    if unknown:
        raise checks.invalid(
            str(folder), "a folder with only the classes of train/", ", ".join(unknown)
        )
    import keras
    import tensorflow as tf

    dataset = keras.utils.image_dataset_from_directory(
        str(folder),
        class_names=present,
        image_size=image_size,
        batch_size=None,
        shuffle=False,
        data_format="channels_last",
        verbose=False,
    )
    files = dataset.file_paths
    x = np.empty((len(files), *image_size, 3), np.uint8)
    y = np.empty(len(files), np.int64)
    numbers = [class_names.index(name) for name in present]
    done = 0
    # Each image is written to its final position, since shuffling later would need a second copy.
    places = rng.permutation(len(files))
    try:
        for image, label in dataset.as_numpy_iterator():
            x[places[done]] = np.rint(image)
            y[places[done]] = numbers[label]
            done += 1
    except tf.errors.InvalidArgumentError as error:
        raise checks.invalid(
            files[done],
            "a JPEG, PNG, BMP or GIF image",
            f"a file that can't be decoded ({error.message})",
        ) from error
    return x, y
