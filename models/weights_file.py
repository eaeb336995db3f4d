"""Keras weights files: their number of classes, and errors for files that don't fit."""

from __future__ import annotations

import os
import pathlib
from typing import Any

import h5py  # type: ignore[import-untyped]  # it has no type information

from thesis_tf.errors import invalid


def existing(path: str | os.PathLike[str]) -> pathlib.Path:
    """Returns the path of a weights file; raises ValueError if it doesn't exist or isn't HDF5."""
    path = pathlib.Path(path)
    if not path.is_file():
        raise invalid("`weights`", "none or an existing file", path)
    if not h5py.is_hdf5(path):
        raise invalid(
            "`weights`",
            "a file written by Keras' `save_weights` (.weights.h5)",
            f"{path}, which is not HDF5 or is incomplete",
        )
    return path


def classes_in(path: pathlib.Path) -> int | None:
    """Returns the number of classes of the head in a Keras weights file; None without a head."""
    with h5py.File(path) as file:
        if "layers" not in file:  # the format before Keras 3
            group = file.get("predictions")
            names = [] if group is None else [name for name in _datasets(group) if "bias" in name]
            return int(group[names[-1]].shape[0]) if names else None
        dense = [key for key in file["layers"] if key == "dense" or key.startswith("dense_")]
        if not dense:
            return None
        last = max(dense, key=lambda key: int(key.rpartition("_")[2]) if "_" in key else 0)
        return int(file[f"layers/{last}/vars/1"].shape[0])


def _datasets(group: Any) -> list[str]:
    names: list[str] = []
    group.visititems(lambda name, item: names.append(name) if hasattr(item, "shape") else None)
    return names


def unfitting(wanted: str, path: str | os.PathLike[str], error: Exception) -> Exception:
    """Returns the error for a weights file that doesn't fit.

    Args:
        wanted: a description of the network.
        path: the file.
        error: the error that Keras raised.
    """
    return invalid(
        "`weights`",
        f"a Keras weights file of {wanted}",
        f"{path}, which doesn't fit: {_reason(error).removesuffix('.')}",
    )


def _reason(error: Exception) -> str:
    """Returns Keras' message on a file that doesn't fit, which is very long, in one line."""
    head, _, rest = str(error).partition("\n")
    head, example, layer = head.partition(" Example error message for object ")
    if not example:
        return head
    detail = rest.strip().splitlines()[0].split(" Target variable")[0]
    return f"{head} {layer} {detail}"
