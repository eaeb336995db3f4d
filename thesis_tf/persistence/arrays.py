"""Named arrays in one .npz file: written atomically, read without pickle."""

import os
import zipfile
import zlib
from collections.abc import Callable, Mapping

import numpy as np

from thesis_tf.persistence import files


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


def load(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """Reads all arrays of an .npz file.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it isn't an .npz file, is incomplete, or holds Python objects, which are not
            read.
    """
    try:
        file = np.load(path, allow_pickle=False)
        if not isinstance(file, np.lib.npyio.NpzFile):
            raise ValueError("it holds a single array")
        with file:
            return dict(file)
    except FileNotFoundError:
        raise
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(
            f"{os.fspath(path)} must be a complete .npz file of arrays; it was cut short, or is"
            f" another kind of file: {error}."
        ) from error
