"""The record of extreme eigenvalues over training (thesis, figures 11.5 and 11.6)."""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Self

from thesis_tf._core.types import Path
from thesis_tf.persistence import files
from thesis_tf.reporting import tables
from thesis_tf.reporting.results import TabularResult


@dataclasses.dataclass(frozen=True)
class SpectrumEntry:
    """Extreme eigenvalues at one step of training.

    Attributes:
        step: the step.
        loss: the loss, whose Hessian has these eigenvalues.
        largest, smallest: the eigenvalues of both ends, the extreme one first.
        converged: whether all eigenpairs have converged.
        products: the number of products of the search.
        fingerprint: a hash of the weights.
        largest_angles, smallest_angles: degrees between each eigenvector and that of the same rank
            in the previous entry; None in the first entry.
    """

    step: int
    loss: float
    largest: tuple[float, ...]
    smallest: tuple[float, ...]
    converged: bool
    products: int
    _: dataclasses.KW_ONLY
    fingerprint: str = ""
    largest_angles: tuple[float, ...] | None = None
    smallest_angles: tuple[float, ...] | None = None

    def to_json(self) -> dict[str, Any]:
        """Returns the entry as a JSON-serializable dict."""
        fields = dataclasses.asdict(self)
        return {name: list(v) if isinstance(v, tuple) else v for name, v in fields.items()}

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> Self:
        """Returns the entry from the result of `to_json`."""
        values: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in fields.items()
        }
        return cls(**values)


@dataclasses.dataclass(frozen=True, repr=False)
class SpectrumHistory(TabularResult):
    """Extreme eigenvalues at several steps of training.

    Attributes:
        entries: a `SpectrumEntry` for each step.
    """

    entries: tuple[SpectrumEntry, ...]

    @property
    def steps(self) -> list[int]:
        """The steps of the entries."""
        return [entry.step for entry in self.entries]

    def __repr__(self) -> str:
        """Returns the number of entries and their steps."""
        steps = self.steps
        span = f", steps {steps[0]} to {steps[-1]}" if steps else ""
        return f"SpectrumHistory({len(steps)} entries{span})"

    def warnings(self) -> list[str]:
        """Returns a sentence if eigenpairs of some steps have not converged, else an empty list."""
        steps = [entry.step for entry in self.entries if not entry.converged]
        if not steps:
            return []
        named = ", ".join(map(str, steps))
        return [
            f"At {len(steps)} of {len(self.entries)} steps ({named}) eigenpairs have not converged."
        ]

    def _table(self) -> tuple[Sequence[str], Sequence[Sequence[tables.Cell]]]:
        headings = ("step", "loss", "largest", "turned", "smallest", "turned")
        rows: list[list[tables.Cell]] = []
        for entry in self.entries:
            row: list[tables.Cell] = [entry.step, f"{entry.loss:.4f}"]
            for values, angles in (
                (entry.largest, entry.largest_angles),
                (entry.smallest, entry.smallest_angles),
            ):
                row.append(values[0] if values else None)
                row.append(f"{angles[0]:.1f}°" if angles else None)
            rows.append(row)
        return headings, rows

    def summary(self) -> dict[str, Any]:
        """Returns the steps, losses and extreme eigenvalues as lists, in a plain dict."""
        return {
            "step": self.steps,
            "loss": [entry.loss for entry in self.entries],
            "largest": [entry.largest[0] if entry.largest else None for entry in self.entries],
            "smallest": [entry.smallest[0] if entry.smallest else None for entry in self.entries],
        }

    def to_json(self) -> list[dict[str, Any]]:
        """Returns the entries as JSON-serializable dicts."""
        return [entry.to_json() for entry in self.entries]

    @classmethod
    def from_json(cls, entries: Iterable[Mapping[str, Any]]) -> Self:
        """Returns the history from the result of `to_json`."""
        return cls(tuple(SpectrumEntry.from_json(entry) for entry in entries))

    def save(self, path: Path) -> None:
        """Writes the entries to a JSON file, atomically."""
        files.write_json(path, {"entries": self.to_json()})

    @classmethod
    def load(cls, path: Path) -> Self:
        """Reads a file that `save` wrote, or a `SpectrumTracker`'s `history.json`.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: the file is incomplete, or holds something else.
        """
        found = files.read_json(path)
        try:
            return cls.from_json(found["entries"])
        except (KeyError, TypeError) as error:
            raise ValueError(f"{path} must hold the entries of a SpectrumHistory.") from error
