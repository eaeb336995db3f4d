"""A folder that saves chains in pieces, so that they continue after a kill."""

import json
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from thesis_tf._core import checks
from thesis_tf._core.types import Array, Path
from thesis_tf.persistence import arrays, files


class ChainFolder:
    """A folder with the pieces of one run of chains.

    Args:
        folder: a directory, which is created if necessary.
        settings: the settings of the run, a JSON-serializable dict.
        values: {name: array} that identify the run, and may differ by rounding on another machine.

    Raises:
        ValueError: the folder holds chains with other settings or values, or something else.
    """

    def __init__(
        self, folder: Path, settings: Mapping[str, Any], values: Mapping[str, Array]
    ) -> None:
        self._folder = pathlib.Path(folder)
        numbers = {name: np.asarray(value, float).tolist() for name, value in values.items()}
        run = json.loads(json.dumps({**settings, **numbers}))
        path = self._folder / "chains.json"
        if not path.exists():
            if self._folder.exists() and (not self._folder.is_dir() or any(self._folder.iterdir())):
                raise checks.invalid("`folder`", "a new or an empty folder", folder)
            files.write_json(path, run)
            return
        kept = files.read_json(path)
        same = {key: kept.get(key) == value for key, value in run.items()}
        for name in numbers.keys() & kept.keys():
            same[name] = np.shape(kept[name]) == np.shape(run[name]) and np.allclose(
                kept[name], run[name], rtol=1e-3, atol=1e-6
            )
        if not all(same.values()):
            differing = ", ".join(key for key, is_same in same.items() if not is_same)
            raise checks.invalid(
                "`folder`",
                "a folder for these chains",
                f"{folder}, which holds chains of another {differing}",
                "Choose another, or delete it.",
            )

    def read(self, number: int) -> dict[str, Array] | None:
        """Returns the arrays of a piece; None if it was not written."""
        path = self._path(number)
        return arrays.load(path) if path.exists() else None

    def write(self, number: int, piece: Mapping[str, Array]) -> None:
        """Saves the arrays of a piece."""
        arrays.save(self._path(number), piece)

    def _path(self, number: int) -> pathlib.Path:
        return self._folder / f"piece_{number:02d}.npz"
