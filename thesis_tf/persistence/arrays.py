"""Named arrays in one .npz file: written atomically, read without pickle."""

import os
import zipfile
import zlib
from collections.abc import Mapping

import numpy as np

from thesis_tf.persistence import files


def save(path: str | os.PathLike[str], arrays: Mapping[str, np.ndarray]) -> None:
    """Writes named arrays to an .npz file, atomically."""
    with files.atomic(path) as partial, partial.open("wb") as file:
        np.savez(file, allow_pickle=False, **arrays)


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
            f"{os.fspath(path)} must be a whole .npz file of arrays; it was cut short, or is"
            f" another kind of file: {error}."
        ) from error
