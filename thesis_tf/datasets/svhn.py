"""SVHN's cropped digits: from the two MATLAB files of its authors, or from tfds."""

from __future__ import annotations

import importlib.util
import pathlib
from typing import Any

import numpy as np
from absl import logging

from thesis_tf._core import checks
from thesis_tf._core.types import Array
from thesis_tf.datasets import class_names, tfds
from thesis_tf.datasets.assemble import Source


def read(data_dir: pathlib.Path | None) -> Source:
    """Reads train_32x32.mat and test_32x32.mat in `data_dir`, or `svhn_cropped` of tfds.

    The files number the digit 0 as class 10; here it is class 0.

    Raises:
        FileNotFoundError: only one of the files exists, or neither exists and tfds fails.
        ValueError: a file doesn't have the format of SVHN's authors.
    """
    shown = data_dir or "DATA_DIR"
    files = {split: f"{split}_32x32.mat" for split in ("train", "test")}
    advice = (
        f"Put {' and '.join(files.values())} of SVHN's format 2 (cropped digits) in {shown} "
        "and pass this folder as `data_dir`."
    )
    paths = {split: data_dir / file for split, file in files.items()} if data_dir else {}
    found = [path for path in paths.values() if path.is_file()]
    if len(found) == len(files):
        pairs: dict[str, Any] = {split: _read_mat(path) for split, path in paths.items()}
        return Source(**pairs, class_names=class_names.DIGITS)
    if found:
        raise checks.invalid(
            f"SVHN in {shown}",
            "both files",
            f"only {found[0].name}",
            advice,
            kind=FileNotFoundError,
        )
    if importlib.util.find_spec("tensorflow_datasets") is None:
        raise checks.invalid(
            "SVHN", "in `data_dir`", f"{shown} without its files", advice, kind=FileNotFoundError
        )
    logging.warning("Reading SVHN through tensorflow_datasets, which may download it. %s", advice)
    try:
        source = tfds.read("svhn_cropped", data_dir)
    except OSError as error:
        raise FileNotFoundError(f"{error} {advice}") from error
    return Source(source.train, test=source.test, class_names=class_names.DIGITS)


def _read_mat(path: pathlib.Path) -> tuple[Array, Array]:
    """Returns x, uint8 of shape (n, 32, 32, 3), and y of shape (n,)."""
    import scipy.io

    try:
        arrays = scipy.io.loadmat(path, variable_names=("X", "y"))
    except Exception as error:  # SciPy raises six types of errors, depending on the bytes.
        raise ValueError(f"{path} cannot be read as a MATLAB file: {error}") from error
    missing = {"X", "y"} - set(arrays)
    if missing:
        raise checks.invalid(str(path), "a file with X and y", f"no {', '.join(sorted(missing))}")
    x, y = arrays["X"], arrays["y"].reshape(-1)
    if x.ndim != 4 or x.shape[:3] != (32, 32, 3) or x.dtype != np.uint8:
        raise checks.invalid(
            f"X in {path}", "uint8 of shape (32, 32, 3, n)", f"{x.dtype} of shape {x.shape}"
        )
    if y.dtype.kind not in "iu" or y.min(initial=1) < 1 or y.max(initial=1) > 10:
        raise checks.invalid(f"y in {path}", "integers from 1 to 10", f"{y.dtype} such as {y[:3]}")
    return np.ascontiguousarray(np.moveaxis(x, 3, 0)), y % 10
