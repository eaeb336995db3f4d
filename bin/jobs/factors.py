"""Labels of other factors than the class, for `bin.probe --labels`, and the list of examples."""

import collections
import csv
import io
import pathlib
from collections.abc import Sequence

import numpy as np

from bin.common import runs
from thesis_tf import datasets
from thesis_tf.datasets.splits import SPLIT_NAMES, split_of
from thesis_tf.errors import ArgumentError
from thesis_tf.persistence import files
from thesis_tf.reporting import progress

EXAMPLES = "examples.csv"
OWN = "class"  # the name of the data set's own labels in a report
_ARRAYS = "with arrays named FACTOR_train, FACTOR_test (and FACTOR_validation)"
_TABLE = "with the columns file,FACTOR,... and a row for each image"


def read(path: str, splits: datasets.Splits) -> dict[str, np.ndarray]:
    """Reads the file of `--labels`.

    Args:
        path: for a folder of images, whose order is drawn, a .csv file of file names and labels,
            which are integers or names; for other data an .npz file of integers in the order of the
            source.
        splits: the data.

    Returns:
        {factor: integers (n,) in the order of `splits.stacked()`}.

    Raises:
        ValueError: the file can't be read, or doesn't have a label for each example.
    """
    found = _of_table(path, splits) if path.endswith(".csv") else _of_arrays(path, splits)
    if OWN in found:
        raise ValueError(
            f"--labels={path} must have other names than {OWN}, which is that of the labels of"
            f" {splits.name} itself. Rename it."
        )
    return found


def _of_arrays(path: str, splits: datasets.Splits) -> dict[str, np.ndarray]:
    if splits.names is not None:
        raise ValueError(
            f"--labels={path} must be a .csv file {_TABLE}, since the order of the images of"
            f" {splits.name} is drawn: arrays have no names of files. {EXAMPLES} of a run lists"
            " the names."
        )
    found: dict[str, dict[str, np.ndarray]] = {}
    for key, array in runs.read_arrays("labels", path, _ARRAYS).items():
        factor, _, spelling = key.rpartition("_")
        split = split_of(spelling)
        if split is None or not factor:
            raise ValueError(f"--labels={path} must be an .npz file {_ARRAYS}. Received: {key}.")
        if split in found.setdefault(factor, {}):
            raise ValueError(f"--labels={path} has {factor} for {split} twice.")
        if array.dtype.kind not in "biu":
            raise ValueError(
                f"--labels={path} must hold integers, one for each class. Received: {key} of dtype"
                f" {array.dtype}."
            )
        found[factor][split] = array
    return {factor: splits.gather(values) for factor, values in found.items()}


def _of_table(path: str, splits: datasets.Splits) -> dict[str, np.ndarray]:
    if not pathlib.Path(path).is_file():
        raise ValueError(f"--labels={path} must be an existing .csv file {_TABLE}.")
    with open(path, encoding="utf-8-sig", newline="") as file:
        try:
            head, *rows = csv.reader(file)
        except (csv.Error, UnicodeDecodeError, ValueError) as error:
            raise ValueError(f"--labels={path} must be a .csv file {_TABLE}: {error}.") from error
    rows = [row for row in rows if row]
    if len(head) < 2 or head[0] != "file" or len(set(head)) < len(head):
        received = ",".join(head) or "nothing"
        raise ValueError(f"--labels={path} must be a .csv file {_TABLE}. Received: {received}.")
    uneven = [number for number, row in enumerate(rows, 2) if len(row) != len(head)]
    if uneven:
        raise ValueError(
            f"--labels={path} must have {len(head)} values in each row. Received: another number in"
            f" {len(uneven)} rows, the first of which is row {uneven[0]}."
        )
    twice = [name for name, n in collections.Counter(row[0] for row in rows).items() if n > 1]
    if twice:
        raise ValueError(
            f"--labels={path} must name each file once. Received: {len(twice)} names more than"
            f" once, such as {twice[0]}."
        )
    found = {}
    for column, factor in enumerate(head[1:], 1):
        values = _numbers(path, factor, [row[column] for row in rows])
        try:
            named = dict(zip((row[0] for row in rows), values, strict=True))
            found[factor] = splits.gather_by_name(named)
        except ArgumentError as error:
            raise ValueError(error.message_for(f"--labels={path}")) from error
    return found


def _numbers(path: str, factor: str, values: Sequence[str]) -> list[int]:
    """Returns the numbers of a column's classes, which may have names; says which names."""
    try:
        return [int(value) for value in values]
    except ValueError:
        pass
    for value in values:
        try:
            float(value or "nan")
        except ValueError:
            continue
        raise ValueError(
            f"--labels={path} must have an integer or a name in each row. Received: {value!r} for"
            f" {factor}."
        )
    names = sorted(set(values))
    progress.say(f"{factor}: {', '.join(f'{i} is {name}' for i, name in enumerate(names))}.")
    return [names.index(value) for value in values]


def write_examples(splits: datasets.Splits, folder: pathlib.Path) -> None:
    """Writes a table of the examples in the order of features: split, source, row, file, class."""
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(["split", "source", "row", "file", "class"])
    for split_name in SPLIT_NAMES:
        split = getattr(splits, split_name)
        rows = [""] * len(split) if split.rows is None else split.rows
        names = split.names or [""] * len(split)
        for row, name, label in zip(rows, names, split.y, strict=True):
            writer.writerow([split_name, split.source, row, name, splits.class_names[label]])
    files.write_text(folder / EXAMPLES, table.getvalue())
