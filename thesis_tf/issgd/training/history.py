"""The history of a training: one record per synchronization, in memory and in a file."""

import dataclasses
import json
import math
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, Self

from thesis_tf._core.types import Path
from thesis_tf.issgd.sampling.variance import GradientVariances
from thesis_tf.persistence import files
from thesis_tf.reporting.results import TabularResult
from thesis_tf.reporting.tables import Cell

FILE = "history.jsonl"
# Suffixes and prefix of the names of a record's values: "train_loss", "test_error",
# "gradient_variance_stale+10".
_LOSS, _ERROR, _VARIANCE = "_loss", "_error", "gradient_variance_"
# Values that the table leaves out, since their smallest value says nothing.
_NOT_IN_TABLE = ("step", "seconds", "uniform", "exchanged_with")


@dataclasses.dataclass(frozen=True)
class Record:
    """The state of a training after some steps; None or {} for values that were not measured.

    Attributes:
        step: steps taken so far.
        seconds: the training time so far, in seconds.
        loss: the mean scaled loss of the steps since the last record.
        squared_batch_gradient: the squared norm of the last step's gradient.
        usable: the fraction of examples whose gradient norm is known and not too old.
        uniform: whether examples are drawn uniformly.
        staleness: the mean staleness of the measured blocks, in steps.
        waited: the seconds that the synchronization before these steps took.
        exchanged_with: the peer whose parameters were averaged before these steps.
        losses: {split: mean loss over all its examples}.
        errors: {split: mean error over all its examples}.
        gradient_variances: {draws: Tr Sigma(q)} (Eq. 7.6-7.9): "ideal", "stale", "uniform",
            "actual", and "stale" followed by the name of a smoothing rule, such as "stale+10".
        true_gradient_squared: the squared norm of the mean gradient over all examples, if the
            variances are exact; without it they are upper bounds.
    """

    step: int
    _: dataclasses.KW_ONLY
    seconds: float | None = None
    loss: float | None = None
    squared_batch_gradient: float | None = None
    usable: float | None = None
    uniform: bool | None = None
    staleness: float | None = None
    waited: float | None = None
    exchanged_with: str | None = None
    losses: Mapping[str, float] = dataclasses.field(default_factory=dict)
    errors: Mapping[str, float] = dataclasses.field(default_factory=dict)
    gradient_variances: Mapping[str, float] = dataclasses.field(default_factory=dict)
    true_gradient_squared: float | None = None

    def values(self) -> dict[str, Any]:
        """Returns all measured values as a flat dict, for JSON and TensorBoard.

        Losses and errors of splits become "SPLIT_loss" and "SPLIT_error", gradient variances
        "gradient_variance_DRAWS".
        """
        flat: dict[str, Any] = {}
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.name == "losses":
                flat |= {f"{split}{_LOSS}": number for split, number in value.items()}
            elif field.name == "errors":
                flat |= {f"{split}{_ERROR}": number for split, number in value.items()}
            elif field.name == "gradient_variances":
                flat |= {f"{_VARIANCE}{draws}": number for draws, number in value.items()}
            elif value is not None:
                flat[field.name] = value
        return flat

    def with_variances(self, variances: GradientVariances | None) -> Self:
        """Returns the record with gradient variances, or unchanged for None."""
        if variances is None:
            return self
        return dataclasses.replace(
            self,
            gradient_variances=variances.by_draws(),
            true_gradient_squared=variances.true_gradient_squared or None,
        )

    @classmethod
    def from_values(cls, flat: Mapping[str, Any]) -> Self:
        """Returns the record that has these `values`.

        Raises:
            ValueError: a name is unknown, or there is no step.
        """
        names = {field.name for field in dataclasses.fields(cls)}
        own: dict[str, Any] = {"losses": {}, "errors": {}, "gradient_variances": {}}
        for name, value in flat.items():
            if name.startswith(_VARIANCE):
                own["gradient_variances"][name.removeprefix(_VARIANCE)] = value
            elif name in names - own.keys():
                own[name] = value
            elif name.endswith(_LOSS):
                own["losses"][name.removesuffix(_LOSS)] = value
            elif name.endswith(_ERROR):
                own["errors"][name.removesuffix(_ERROR)] = value
            else:
                raise ValueError(f"A record has no value {name!r}.")
        if "step" not in own:
            raise ValueError("A record needs a step.")
        return cls(**own)


class History(TabularResult):
    """The records of a training, in the order of their steps; it grows while a model trains.

    Args:
        folder: the folder of `history.jsonl`, with one JSON object per line, in which numbers that
            aren't finite are the strings "NaN", "Infinity" and "-Infinity"; None keeps records only
            in memory. Existing records of the file are read, except for an incomplete last line.

    Attributes:
        records: the list of `Record`s.
    """

    def __init__(self, *, folder: Path | None = None) -> None:
        self._path = None if folder is None else pathlib.Path(folder) / FILE
        self.records: list[Record] = []
        self._torn = False
        if self._path is not None and self._path.exists():
            text = self._path.read_text(encoding="utf-8")
            for line in text.splitlines():
                try:
                    values = files.from_json(line)
                except json.JSONDecodeError:
                    break
                self.records.append(Record.from_values(values))
            self._torn = not text.endswith("\n")

    def __repr__(self) -> str:
        """Returns the number of records and the last step."""
        last = f", the last of step {self.records[-1].step}" if self.records else ""
        return f"History({len(self.records)} records{last})"

    def _table(self) -> tuple[Sequence[str], Sequence[Sequence[Cell]]]:
        names = dict.fromkeys(name for record in self.records for name in record.values())
        rows = []
        for name in names:
            if name not in _NOT_IN_TABLE:
                found = [(value, step) for step, _, value in self.column(name)]
                least, at = min(found, key=lambda pair: math.inf if pair[0] != pair[0] else pair[0])
                rows.append((name, len(found), found[-1][0], least, at))
        return ("value", "records", "last", "smallest", "at step"), rows

    def summary(self) -> dict[str, Any]:
        """Returns the number of records, and the last value of each name that was recorded.

        The result is a plain dict; numbers that aren't finite are None.
        """
        last = {name: value for r in self.records for name, value in r.values().items()}
        finite = {
            name: None if isinstance(value, float) and not math.isfinite(value) else value
            for name, value in last.items()
        }
        return {"records": len(self.records), **finite}

    def add(self, record: Record) -> None:
        """Appends a record, also to the file."""
        if self._torn:
            self.cut(math.inf)
        self.records.append(record)
        if self._path is not None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._path.open("a", encoding="utf-8") as file:
                file.write(_line(record))

    def cut(self, step: float) -> None:
        """Removes the records after a step, since their steps will be taken again."""
        self.records = [record for record in self.records if record.step <= step]
        if self._path is not None and self._path.exists():
            files.write_text(self._path, "".join(map(_line, self.records)))
        self._torn = False

    def column(self, name: str) -> list[tuple[int, float | None, float]]:
        """Returns [(step, seconds, value), ...] of the records whose `values` have this name."""
        found = []
        for record in self.records:
            value = record.values().get(name)
            if value is not None:
                found.append((record.step, record.seconds, value))
        return found


def _line(record: Record) -> str:
    return files.to_json(record.values(), indent=None)
