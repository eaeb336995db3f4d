"""The common base class of results of all areas."""

import abc
from collections.abc import Sequence
from typing import Any

from thesis_tf.reporting import tables


class TabularResult(abc.ABC):
    """A mixin for frozen dataclasses of results that people read as a table.

    A subclass implements `_table` and `summary`.
    """

    @abc.abstractmethod
    def _table(self) -> tuple[Sequence[str], Sequence[Sequence[tables.Cell]]]:
        """Returns the headings of the columns, and the rows."""

    def table(self) -> str:
        """Returns the result as a text table."""
        return tables.text(*self._table())

    def _repr_html_(self) -> str:
        return tables.as_html(*self._table())

    @abc.abstractmethod
    def summary(self) -> dict[str, Any]:
        """Returns the main numbers as a JSON-serializable dict."""
