"""The common base classes of results of all areas: a short `repr`, tables, and files."""

import abc
import dataclasses
import html
import typing
from collections.abc import Sequence
from typing import Any, Self

import numpy as np

from thesis_tf._core.types import Path
from thesis_tf.persistence import arrays
from thesis_tf.reporting import tables


class TabularResult(abc.ABC):
    """A mixin for frozen dataclasses of results that people read as a table.

    A subclass implements `_table` and `summary`. A dataclass with `repr=False` has the `repr` of
    this class, which prints no arrays.
    """

    def __repr__(self) -> str:
        """Returns the class and the single values of the summary."""
        parts = (
            f"{name}={tables.cell(value)}"
            for name, value in self.summary().items()
            if value is None or isinstance(value, str | int | float)
        )
        return f"{type(self).__name__}({', '.join(parts)})"

    @abc.abstractmethod
    def _table(self) -> tuple[Sequence[str], Sequence[Sequence[tables.Cell]]]:
        """Returns the headings of the columns, and the rows."""

    def warnings(self) -> list[str]:
        """Returns sentences on why the result can't be trusted; an empty list if nothing says so.

        The sentences are also below the table.
        """
        return []

    def table(self) -> str:
        """Returns the result as a text table, with `warnings` below."""
        return "\n".join([tables.text(*self._table()), *self.warnings()])

    def _repr_html_(self) -> str:
        sentences = (f"<p>{html.escape(sentence)}</p>" for sentence in self.warnings())
        return tables.as_html(*self._table()) + "".join(sentences)

    @abc.abstractmethod
    def summary(self) -> dict[str, Any]:
        """Returns the main numbers as a JSON-serializable dict."""


class SavedResult(TabularResult):
    """A mixin for frozen dataclasses of numbers, arrays and other saved results."""

    def save(self, path: Path) -> None:
        """Writes all fields to a file in NumPy's .npz format, atomically."""
        arrays.save(path, _to_arrays(self))

    @classmethod
    def load(cls, path: Path) -> Self:
        """Reads a file that `save` wrote.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: the file is incomplete, or holds something else.
        """
        found = arrays.load(path)
        missing = [name for name in _array_names(cls) if name not in found]
        if missing:
            lacks = ", ".join(missing)
            raise ValueError(f"{path} must hold the fields of {cls.__name__}; it lacks {lacks}.")
        return _from_arrays(cls, found)


_Saved = typing.TypeVar("_Saved", bound=SavedResult)


def _to_arrays(result: SavedResult) -> dict[str, np.ndarray]:
    """Returns {field: array}; the names of a part's fields are "part.field"."""
    found: dict[str, np.ndarray] = {}
    for name, value in vars(result).items():
        if isinstance(value, SavedResult):
            found |= {f"{name}.{key}": array for key, array in _to_arrays(value).items()}
        else:
            found[name] = np.asarray(value)
    return found


def _from_arrays(kind: type[_Saved], found: dict[str, np.ndarray]) -> _Saved:
    values: dict[str, Any] = {}
    for name, part in _fields(kind).items():
        if part is None:
            values[name] = found[name] if found[name].ndim else found[name].item()
        else:
            prefix = f"{name}."
            inside = {k.removeprefix(prefix): v for k, v in found.items() if k.startswith(prefix)}
            values[name] = _from_arrays(part, inside)
    return kind(**values)


def _array_names(kind: type[SavedResult]) -> list[str]:
    names = []
    for name, part in _fields(kind).items():
        names += [name] if part is None else [f"{name}.{key}" for key in _array_names(part)]
    return names


def _fields(kind: type[SavedResult]) -> dict[str, type[SavedResult] | None]:
    """Returns {field: its class if it is a saved result, otherwise None}."""
    hints = typing.get_type_hints(kind)
    names = [field.name for field in dataclasses.fields(kind)]  # type: ignore[arg-type]  # a mixin of dataclasses
    return {
        name: hints[name]
        if isinstance(hints[name], type) and issubclass(hints[name], SavedResult)
        else None
        for name in names
    }
