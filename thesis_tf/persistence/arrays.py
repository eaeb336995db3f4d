"""Named arrays in one .npz file: written atomically, read without pickle."""

import contextlib
import os
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from thesis_tf._core import checks
from thesis_tf.persistence import files

# {version of the format: function that reads an array's header}.
_HEADERS: dict[tuple[int, int], Callable[[Any], Any]] = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}
# What NumPy and `zipfile` raise for a file that is damaged, encrypted or no .npz file.
_UNREADABLE = (
    OSError, ValueError, EOFError, KeyError, RuntimeError, zipfile.BadZipFile, zlib.error,
)  # fmt: skip


def save(
    path: str | os.PathLike[str], arrays: Mapping[str, np.ndarray], *, compressed: bool = False
) -> None:
    """Writes named arrays to an .npz file, atomically.

    Args:
        path: the file.
        arrays: {name: array}.
        compressed: whether to compress them.

    Raises:
        ValueError: an array holds Python objects, which would be pickled.
    """
    # NumPy before 2.2 has no `allow_pickle` here, and would write an array of this name.
    for name, array in arrays.items():
        if np.asarray(array).dtype.hasobject:
            raise ValueError(f"Array {name!r} holds Python objects, which are not saved.")
    write: Callable[..., None] = np.savez_compressed if compressed else np.savez
    with files.atomic(path) as partial, partial.open("wb") as file:
        write(file, **arrays)


def names(path: str | os.PathLike[str]) -> list[str]:
    """Returns the names of the arrays of an .npz file.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it isn't an .npz file, or is incomplete.
    """
    with _opened(path) as file:
        return list(file.files)


def load(
    path: str | os.PathLike[str], *, names: Iterable[str] | None = None
) -> dict[str, np.ndarray]:
    """Reads arrays of an .npz file.

    Args:
        path: the file.
        names: the names of the arrays, which the file must have; None for all of them.

    Returns:
        {name: array}.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it isn't an .npz file, is incomplete, or one of these arrays holds Python
            objects, which are not read.
    """
    with _opened(path) as file:
        wanted = list(file.files if names is None else names)
        objects = [name for name in wanted if _holds_objects(file, name)]
        found = {} if objects else {name: file[name] for name in wanted}
    if objects:
        raise checks.invalid(
            os.fspath(path),
            "a file of numbers and strings",
            f"pickled Python objects ({', '.join(objects)}), which are not read because reading"
            " them can run code",
            "Save it again, with strings as np.array(strings, dtype=str).",
        )
    return found


@contextlib.contextmanager
def _opened(path: str | os.PathLike[str]) -> Iterator[np.lib.npyio.NpzFile]:
    """Opens an .npz file; converts the errors of reading it to errors that name it."""
    try:
        # NumPy takes other files for arrays or pickles, and advises to load pickles.
        with open(path, "rb") as raw:
            if not zipfile.is_zipfile(raw):
                raise zipfile.BadZipFile("it isn't a zip archive")
        file = np.load(path, allow_pickle=False)
        with file:
            yield file
    except FileNotFoundError:
        raise
    except _UNREADABLE as error:
        raise ValueError(
            f"{os.fspath(path)} must be a complete .npz file of arrays; it was cut short or"
            f" damaged, or is another kind of file: {error}."
        ) from error


def _holds_objects(file: np.lib.npyio.NpzFile, name: str) -> bool:
    """Returns whether the header of an array says that it holds pickled objects."""
    assert file.zip is not None  # as after `close`
    with file.zip.open(f"{name}.npy") as member:
        read_header = _HEADERS.get(np.lib.format.read_magic(member))
        # Version 3.0, which has no public reader, is for names of fields outside Latin 1. NumPy
        # refuses objects in it, too.
        return read_header is not None and bool(read_header(member)[2].hasobject)
