"""Atomic writing of SavedModels, which never overwrites other files."""

import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import tensorflow as tf

from thesis_tf._core import checks
from thesis_tf._core.types import Path
from thesis_tf.persistence import files


def check_path(path: Path) -> None:
    """Raises FileExistsError if `path` holds something other than a SavedModel."""
    path = pathlib.Path(path)
    if not path.exists() or (path / "saved_model.pb").exists():
        return
    if not path.is_dir() or any(path.iterdir()):
        raise checks.invalid(
            "`path`", "a new or empty folder, or a SavedModel", path, kind=FileExistsError
        )


def save(module: tf.Module, path: Path, signatures: Mapping[str, Callable[..., Any]]) -> None:
    """Writes a tf.Module with its signatures, {name: concrete function}, atomically."""
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with files.atomic(path) as partial:
        tf.saved_model.save(module, str(partial), signatures=signatures)
