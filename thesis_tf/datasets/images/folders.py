"""A folder of images, one sub-folder per class."""

from __future__ import annotations

import collections
import os
import pathlib
import re
import unicodedata
from collections.abc import Mapping, Sequence
from concurrent import futures
from typing import Any

import numpy as np

from thesis_tf._core import checks, seeds
from thesis_tf._core.types import Array
from thesis_tf.datasets.assemble import Source
from thesis_tf.datasets.images import decoding
from thesis_tf.datasets.splits import SPELLINGS, split_of

# Words of names that are likely to mean splits, but aren't known as such, as in training_set/,
# seg_train/ or tst/, and the splits that they mean.
_WORDS = {
    "train": r"train|training|trainval|trn",
    "validation": r"valid|validation|val|dev|eval",
    "test": r"test|testing|tst|holdout|hold-out",
}
_BESIDE = r"set|data|images|imgs|split|\d+"
_LIKE_A_SPLIT = re.compile(rf"({'|'.join(_WORDS.values())})([ _.-]?({_BESIDE}))*", re.IGNORECASE)
_HAS_A_SPLIT = {
    split: re.compile(rf"(.*[ _.-])?({words})({_BESIDE})*([ _.-].*)?", re.IGNORECASE)
    for split, words in _WORDS.items()
}
_NO_DATA = ("thumbs.db", "desktop.ini")
_THREADS = min(8, os.cpu_count() or 1)
_EXPECTED = "a folder CLASS/ for each class, or train/CLASS/, validation/CLASS/ and test/CLASS/"


def read(folder: pathlib.Path, image_size: tuple[int, int], *, seed: int = 0) -> Source:
    """Reads FOLDER/CLASS/*.png, or FOLDER/SPLIT/CLASS/*.png.

    Splits are train (or training), validation (or valid, val, dev, eval) and test (or testing), in
    any letter case. A folder counts as a split if it has sub-folders, so `train` may also be the
    name of a class. Images in sub-folders of a class belong to it. A class without images is no
    class. Hidden files, files that aren't images and broken links are left out, and `notes` says
    how many.

    Formats are JPEG, PNG, BMP, GIF, WebP and TIFF: see `decoding.decode`. Images of another size
    are resized bilinearly without preserving the aspect ratio. The order of images is random and
    depends on `seed`; `names` are their paths relative to `folder`.

    All images are kept in memory as uint8, with 3 * height * width bytes each: about 147 KiB at 224
    x 224, or 1.4 GiB for 10,000. While a split is drawn from `train`, twice this memory is needed.

    Args:
        folder: a pathlib.Path.
        image_size: (height, width).
        seed: a non-negative integer.

    Raises:
        ValueError: if there are no images, an image can't be decoded or has a format that isn't
            read, a split's folder has classes that train/ lacks, or it isn't clear which folders
            are splits.
    """
    left_out: collections.Counter[str] = collections.Counter()
    parts = _split_folders(folder, left_out)
    found = {split: _classes(part, left_out) for split, part in parts.items()}
    class_names = list(found["train"])
    for split, classes in found.items():
        unknown = sorted(set(classes) - set(class_names))
        if unknown:
            raise checks.invalid(
                str(parts[split]), "a folder with only the classes of train/", ", ".join(unknown)
            )
    done: collections.Counter[str] = collections.Counter()
    pairs: dict[str, Any] = {}
    names = {}
    for stream, (split, classes) in enumerate(found.items()):
        files = [
            (path, class_names.index(name)) for name, paths in classes.items() for path in paths
        ]
        # One stream per split, so that the files in train/ don't change the order of test/.
        order = seeds.generator(seed, "order", stream).permutation(len(files))
        pairs[split], in_order = _decoded(files, order, image_size, done)
        names[split] = tuple(path.relative_to(folder).as_posix() for path in in_order)
    suffixes = collections.Counter(
        pathlib.PurePath(name).suffix.lower() for part in names.values() for name in part
    )
    return Source(
        **pairs,
        class_names=class_names,
        names=names,
        values=None if done[decoding.REDUCED] else (0.0, 255.0),
        notes=_notes(suffixes, done, left_out),
    )


def _notes(
    suffixes: Mapping[str, int], done: Mapping[str, int], left_out: Mapping[str, int]
) -> tuple[str, ...]:
    """Returns phrases about the files that were read, how, and those that weren't."""

    def several(counts: Mapping[str, int]) -> str:
        return ", ".join(f"{number:,} {what}" for what, number in sorted(counts.items()))

    said = [f"read {sum(suffixes.values()):,} files ({several(suffixes)})"]
    if any(done.values()):
        said.append(f"of which {several({what: n for what, n in done.items() if n})}")
    if left_out:
        said.append(f"left out {several(left_out)}")
    return tuple(said)


def _folders(folder: pathlib.Path) -> list[str]:
    """Returns the names of the sub-folders that aren't hidden."""
    return sorted(
        path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")
    )


def _has_images(folder: pathlib.Path) -> bool:
    return any(
        file.lower().endswith(decoding.SUFFIXES) and not file.startswith(".")
        for _, _, names in os.walk(folder)
        for file in names
    )


def _split_folders(
    folder: pathlib.Path, left_out: collections.Counter[str]
) -> dict[str, pathlib.Path]:
    """Returns the folder of each split, {"train": folder} if there are none.

    Raises:
        ValueError: two folders are the same split, there is none for training, or it isn't clear
            whether folders are splits or classes.
    """
    there = _folders(folder)
    nested = [name for name in there if _folders(folder / name)]
    parts: dict[str, pathlib.Path] = {}
    for name in nested:
        split = split_of(name)
        if split in parts:
            expected = f"a folder with one of {', '.join(SPELLINGS[split])}"
            raise checks.invalid(str(folder), expected, f"{parts[split].name} and {name}")
        if split is not None:
            parts[split] = folder / name
    others = [name for name in there if folder / name not in parts.values()]
    if parts and "train" not in parts:
        raise checks.invalid(
            str(folder),
            "a folder with train/CLASS/ in addition to its other splits",
            ", ".join(part.name for part in parts.values()),
        )
    if parts:
        beside = [name for name in others if _has_images(folder / name)]
        if beside:
            raise checks.invalid(
                str(folder),
                f"a folder with {_EXPECTED}",
                f"{', '.join(part.name for part in parts.values())}, which are splits, and beside"
                f" them the images of {', '.join(beside)}",
                "Move these to another place, or rename them.",
            )
        left_out.update({"folders beside the splits": len(others)} if others else {})
        _count_loose(folder, left_out)
        # In this order, since the order of images is drawn split by split.
        return {split: parts[split] for split in SPELLINGS if split in parts}
    like = _like_splits(there, nested)
    if like:
        raise checks.invalid(
            str(folder),
            f"a folder with {_EXPECTED}",
            f"{', '.join(like)}, which may be splits or classes",
            "Rename splits to train, validation and test, with a folder for each class in them;"
            " rename classes to something else.",
        )
    return {"train": folder}


def _like_splits(there: Sequence[str], nested: Sequence[str]) -> list[str]:
    """Returns the names of folders that may be splits, of all and of those with sub-folders."""
    like = [name for name in there if _LIKE_A_SPLIT.fullmatch(name)]
    if set(like) & set(nested) or len(like) == len(there) > 1:
        return like
    # steam_train and toy_train are classes; if each folder has a split in its name, and not all the
    # same one, as seg_train and seg_test have, they may be splits.
    found = {s for name in there for s, words in _HAS_A_SPLIT.items() if words.fullmatch(name)}
    all_have = all(any(w.fullmatch(name) for w in _HAS_A_SPLIT.values()) for name in there)
    return list(there) if all_have and len(found) > 1 else []


def _classes(
    folder: pathlib.Path, left_out: collections.Counter[str]
) -> dict[str, list[pathlib.Path]]:
    """Returns {class: its images, in order}; counts what is left out.

    Raises:
        ValueError: there are no classes or images, a class has only other files, or two classes
            have names that only differ in their code points.
    """
    present = _folders(folder)
    if not present:
        raise checks.invalid(
            str(folder), "a folder with a sub-folder of images for each class", "no sub-folders"
        )
    _count_loose(folder, left_out)
    found: dict[str, list[pathlib.Path]] = {}
    for name in present:
        others: collections.Counter[str] = collections.Counter()
        files = _images(folder / name, others)
        # The same letters may be stored as different code points, depending on the system.
        shown = unicodedata.normalize("NFC", name)
        if shown in found:
            raise checks.invalid(
                str(folder), "a folder with one folder for each class", f"two {shown}"
            )
        data = sum(number for kind, number in others.items() if kind.startswith("other"))
        if not files and data:
            raise checks.invalid(
                str(folder / name),
                f"a folder of images ({', '.join(decoding.SUFFIXES)})",
                f"only {data} other files",
                "Convert them, or move this folder to another place.",
            )
        left_out.update(others if files else {**others, "empty folders, which are no classes": 1})
        if files:
            found[shown] = files
    if not found:
        raise checks.invalid(str(folder), "a folder with images", "no images")
    return found


def _count_loose(folder: pathlib.Path, left_out: collections.Counter[str]) -> None:
    """Counts the files in a folder that should only have folders."""
    loose = [path for path in folder.iterdir() if not path.is_dir()]
    left_out.update(_kind(path) or "images outside of classes" for path in loose)


def _images(folder: pathlib.Path, others: collections.Counter[str]) -> list[pathlib.Path]:
    """Returns the images in a folder and its sub-folders, in order; counts other files."""
    found, seen = [], set()
    walk = os.walk(folder, followlinks=True)
    for place, folders, files in walk:
        # A link to a folder above would lead to its images again and again.
        if os.path.realpath(place) in seen:
            raise checks.invalid(place, "no link to a folder that is read anyway", "such a link")
        seen.add(os.path.realpath(place))
        others.update(["hidden folders"] * sum(name.startswith(".") for name in folders))
        folders[:] = [name for name in folders if not name.startswith(".")]
        for file in files:
            path = pathlib.Path(place, file)
            kind = _kind(path)
            if kind is None:
                found.append(path)
            else:
                others[kind] += 1
    return sorted(found, key=lambda path: (str(path.parent), path.name))


def _kind(path: pathlib.Path) -> str | None:
    """Returns why a file isn't read, None if it is an image.

    Raises:
        ValueError: it is an image of a format that isn't read.
    """
    if path.name.startswith("."):
        return "hidden files"
    if path.name.lower() in _NO_DATA:
        return "files of the system"
    if not path.exists():
        return "broken links"
    suffix = path.suffix.lower()
    if suffix in decoding.SUFFIXES:
        return None
    if suffix in decoding.UNREAD_SUFFIXES:
        raise checks.invalid(
            str(path),
            f"of a format that is read ({', '.join(decoding.SUFFIXES)})",
            suffix,
            "Convert it, or move it to another place.",
        )
    return f"other files ({suffix or 'without a suffix'})"


def _decoded(
    files: Sequence[tuple[pathlib.Path, int]],
    order: Array,
    image_size: tuple[int, int],
    done: collections.Counter[str],
) -> tuple[tuple[Array, Array], list[pathlib.Path]]:
    """Returns (x, y) and the files in a drawn order: file i has row `order[i]`.

    x is uint8 of shape (n, height, width, 3), y of shape (n,).
    """
    x = np.empty((len(files), *image_size, 3), np.uint8)
    y = np.empty(len(files), np.int64)
    paths = [pathlib.Path()] * len(files)

    def decode(number: int) -> list[str]:
        path, label = files[number]
        pixels, said = decoding.decode(path)
        # Each image is written to its final position, since shuffling would need a second copy.
        row = int(order[number])
        x[row], y[row], paths[row] = decoding.resized(pixels, image_size), label, path
        return said

    with futures.ThreadPoolExecutor(_THREADS) as pool:
        try:
            # In the order of the files, so that the error names the first bad one.
            for said in pool.map(decode, range(len(files))):
                done.update(said)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return (x, y), paths
