"""The common protocol of results: a short `repr`, tables, and files."""

import dataclasses
from typing import Any, Self

import numpy as np

from thesis_tf._core.types import Path
from thesis_tf.persistence import arrays
from thesis_tf.reporting import tables
from thesis_tf.reporting.results import TabularResult


class Result(TabularResult):
    """A mixin for frozen dataclasses of numbers and arrays: a short `repr`, `save` and `load`."""

    def __repr__(self) -> str:
        """Returns the class and the summary."""
        parts = (f"{name}={tables.cell(value)}" for name, value in self.summary().items())
        return f"{type(self).__name__}({', '.join(parts)})"

    def save(self, path: Path) -> None:
        """Writes all fields to a file in NumPy's .npz format, atomically."""
        arrays.save(path, {name: np.asarray(value) for name, value in vars(self).items()})

    @classmethod
    def load(cls, path: Path) -> Self:
        """Reads a file that `save` wrote.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: the file is incomplete, or holds something else.
        """
        found = arrays.load(path)
        names = [field.name for field in dataclasses.fields(cls)]  # type: ignore[arg-type]  # a mixin of dataclasses
        missing = [name for name in names if name not in found]
        if missing:
            lacks = ", ".join(missing)
            raise ValueError(f"{path} must hold the fields of {cls.__name__}; it lacks {lacks}.")
        values: dict[str, Any] = {name: found[name] for name in names}
        return cls(**{name: v if v.ndim else v.item() for name, v in values.items()})
