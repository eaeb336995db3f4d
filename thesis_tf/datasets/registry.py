"""Selects the reader for the name or path of a data set."""

from __future__ import annotations

import dataclasses
import functools
import os
import pathlib
from collections.abc import Callable
from typing import Any

from thesis_tf._core import checks
from thesis_tf._core.seeds import checked_seed
from thesis_tf.datasets import archives, keras_datasets, svhn, tfds
from thesis_tf.datasets.assemble import Source, assemble
from thesis_tf.datasets.images import folders
from thesis_tf.datasets.splits import Splits
from thesis_tf.datasets.values import Told, checked_told

DEFAULT_IMAGE_SIZE = (224, 224)


@dataclasses.dataclass(frozen=True)
class Request:
    """The checked arguments of `load` besides the data set."""

    data_dir: pathlib.Path | None
    image_size: tuple[int, int] | None
    _: dataclasses.KW_ONLY
    seed: int = 0


# Each reader takes the name or path and a Request, and returns a Source.
_NAMED: dict[str, Callable[[str, Request], Source]] = {
    "mnist_mini": lambda name, _: archives.read_bundled(name),
    **dict.fromkeys(
        keras_datasets.CLASS_NAMES,
        lambda name, request: keras_datasets.read(name, request.data_dir),
    ),
    "svhn": lambda _, request: svhn.read(request.data_dir),
}
_PREFIXED: dict[str, Callable[[str, Request], Source]] = {
    "tfds": lambda name, request: tfds.read(name, request.data_dir, image_size=request.image_size),
}
NAMES = tuple(_NAMED)


def knows(name_or_path: str | os.PathLike[str]) -> bool:
    """Returns whether this is the name of a data set, or a path; False for an unknown name."""
    if not isinstance(name_or_path, str):
        return True
    prefix, colon, _ = name_or_path.partition(":")
    if name_or_path in _NAMED or (colon and prefix in _PREFIXED):
        return True
    path = pathlib.Path(name_or_path).expanduser()
    is_path = len(path.parts) > 1 or path.suffix == ".npz" or path.exists()
    return bool(name_or_path) and is_path


def load(
    name_or_path: str | os.PathLike[str],
    *,
    data_dir: str | os.PathLike[str] | None = None,
    image_size: tuple[int, int] | None = None,
    value_range: Told = None,
    seed: int = 0,
) -> Splits:
    """Loads a data set into memory and splits it into train, validation and test.

    `name_or_path` is one of

    - `mnist_mini`: the first 9,000 training and 1,000 test images of MNIST, part of this package;
    - `mnist`, `fashion_mnist`, `cifar10`, `cifar100`: `data_dir/NAME.npz` if it exists, otherwise a
      download by Keras;
    - `svhn`: `data_dir/train_32x32.mat` and `test_32x32.mat` if they exist, otherwise a download by
      tensorflow_datasets, if that is installed;
    - `PATH.npz`: an archive of x_train, y_train (or x, y) and optionally x_validation,
      y_validation, x_test, y_test and class_names (strings). x are finite numbers of shape (n,
      ...), y integers of shape (n,) or (n, 1);
    - a folder with one sub-folder of images per class, or train/, validation/ and test/ with such
      sub-folders: see `images.folders.read`. It is decoded into memory: 147 KiB per image at 224 x
      224, so 1.4 GiB for 10,000, and twice that while splits are drawn;
    - `tfds:NAME`: image classification in tensorflow_datasets, with the extra `thesis_tf[tfds]`.

    Splits may also be called training; valid, val, dev or eval; and testing, in any letter case. A
    missing validation or test set is replaced by a tenth of the training set, drawn without
    replacement with `seed`: class by class from an archive, a folder or `tfds:NAME`. Images are not
    scaled; `Splits.values` says which values are black and white. Gray images without a channel
    axis get one, if they are uint8 or their values are pixels.

    Args:
        name_or_path: a str, or a path-like object, which is always a path.
        data_dir: the folder of downloaded data; it must exist. Keras' downloads go to Keras' cache.
        image_size: (height, width) to which the images of a folder or of `tfds:NAME` are resized;
            None is (224, 224) for a folder, and keeps the stored size otherwise.
        value_range: (black, white) of the stored values, for example (0, 16); "none" for values
            that are no pixels; None judges by the format and the values: see `Splits.values`.
        seed: a non-negative integer that determines the held-out splits and the order of a folder's
            images.

    Returns:
        Splits.

    Raises:
        FileNotFoundError: a path, `data_dir`, or a required file doesn't exist.
        OSError: a download fails; the message says where to put which file.
        ImportError: `tfds:NAME` is requested without tensorflow_datasets.
        TypeError: an argument has the wrong type.
        ValueError: the name is unknown, or the data are invalid: images that can't be decoded,
            pickled or damaged archives, examples that aren't finite numbers of one shape, labels
            out of range, only one class, or too few examples to split.
    """
    told = checked_told(value_range)
    name, source = read(name_or_path, data_dir=data_dir, image_size=image_size, seed=seed)
    source = _without_unlabeled(name, source)
    splits = assemble(name, source, value_range=told, seed=seed)
    _check_stored_size(splits, _checked_size(image_size))
    return splits


def read(
    name_or_path: str | os.PathLike[str],
    *,
    data_dir: str | os.PathLike[str] | None = None,
    image_size: tuple[int, int] | None = None,
    seed: int = 0,
) -> tuple[str, Source]:
    """Returns the name of a data set, and what its reader found; see `load`."""
    reader, name = _reader(name_or_path)
    request = Request(_checked_folder(data_dir), _checked_size(image_size), seed=checked_seed(seed))
    return name, reader(request)


def _without_unlabeled(name: str, source: Source) -> Source:
    """Leaves out splits without labels, whose labels are None."""
    given = {split: getattr(source, split) for split in ("validation", "test")}
    bare = [split for split, pair in given.items() if pair is not None and pair[1] is None]
    if source.train[1] is None:
        raise checks.invalid(name, "a data set with labels of its training examples", "none")
    notes = tuple(f"left out {split}, which has no labels" for split in bare)
    nothing: dict[str, Any] = dict.fromkeys(bare)
    return dataclasses.replace(source, **nothing, notes=source.notes + notes)


def _reader(name_or_path: Any) -> tuple[Callable[[Request], Source], str]:
    """Returns a function from a `Request` to a `Source`, and the name of the data set."""
    if not isinstance(name_or_path, str | os.PathLike):
        raise checks.invalid(
            "`name_or_path`", "a name or a path", repr(name_or_path), kind=TypeError
        )
    if isinstance(name_or_path, str):
        prefix, _, rest = name_or_path.partition(":")
        if name_or_path in _NAMED:
            return functools.partial(_read_named, name_or_path), name_or_path
        if prefix in _PREFIXED:
            return functools.partial(_PREFIXED[prefix], rest), name_or_path
    path = pathlib.Path(name_or_path).expanduser()
    # An empty name, such as that of an unset flag, would otherwise be the current folder.
    if name_or_path and path.is_dir():
        return functools.partial(_read_folder, path), path.resolve().name
    if path.suffix == ".npz":
        return lambda _: archives.read(path), path.stem
    raise _not_a_data_set(name_or_path, path)


def _read_named(name: str, request: Request) -> Source:
    return dataclasses.replace(_NAMED[name](name, request), stratified=False)


def _read_folder(path: pathlib.Path, request: Request) -> Source:
    return folders.read(path, request.image_size or DEFAULT_IMAGE_SIZE, seed=request.seed)


def _not_a_data_set(name_or_path: Any, path: pathlib.Path) -> Exception:
    """Returns the exception for a value that isn't a name, an archive or a folder."""
    if name_or_path and path.exists():
        return checks.invalid("`name_or_path`", "a folder or an .npz archive", f"the file {path}")
    if knows(name_or_path):
        return checks.invalid(
            "`name_or_path`", "a name or a path that exists", path, kind=FileNotFoundError
        )
    return checks.invalid(
        "`name_or_path`",
        f"one of {', '.join(NAMES)}, tfds:NAME, or the path of an .npz archive or a folder",
        repr(name_or_path),
        checks.nearest(name_or_path, NAMES),
    )


def _checked_folder(data_dir: Any) -> pathlib.Path | None:
    if data_dir is None:
        return None
    if not isinstance(data_dir, str | os.PathLike):
        raise checks.invalid("`data_dir`", "a path", repr(data_dir), kind=TypeError)
    folder = pathlib.Path(data_dir).expanduser()
    if not folder.is_dir():
        raise checks.invalid("`data_dir`", "an existing folder", folder, kind=FileNotFoundError)
    return folder


def _checked_size(image_size: Any) -> tuple[int, int] | None:
    if image_size is None:
        return None
    try:
        height, width = image_size
    except (TypeError, ValueError):
        raise checks.invalid(
            "`image_size`", "(height, width)", repr(image_size), kind=TypeError
        ) from None
    return (
        checks.positive_integer("The height in `image_size`", height),
        checks.positive_integer("The width in `image_size`", width),
    )


def _check_stored_size(splits: Splits, image_size: tuple[int, int] | None) -> None:
    """Raises if a source without resizing doesn't have the requested size."""
    shape = splits.train.x.shape[1:]
    if image_size is None or (len(shape) == 3 and shape[:2] == image_size):
        return
    raise checks.invalid(
        "`image_size`",
        f"None for {splits.name}, whose examples are stored with shape {shape}",
        image_size,
        "Only images of a folder or of `tfds:NAME` can be resized.",
    )
