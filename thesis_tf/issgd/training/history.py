"""What happened in a training, a record for each synchronisation, in memory and in a file."""

import json
import math
import pathlib

from thesis_tf.persistence import files

FILE = "history.jsonl"


class History:
    """Records {name: number}, each with its "step", in order.

    Args:
        folder: where `history.jsonl` keeps them, a line each; None for memory alone. Records that
            are there already are read; a last line that a kill cut short is left out.

    Attributes:
        records: the list of dicts.
    """

    def __init__(self, folder=None):
        self._path = None if folder is None else pathlib.Path(folder) / FILE
        self.records, self._torn = [], False
        if self._path is not None and self._path.exists():
            text = self._path.read_text(encoding="utf-8")
            for line in text.splitlines():
                try:
                    self.records.append(json.loads(line))
                except json.JSONDecodeError:
                    break
            self._torn = not text.endswith("\n")

    def add(self, record):
        """Appends a record, also to the file."""
        if self._torn:
            self.cut(math.inf)
        self.records.append(record)
        if self._path is not None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(record) + "\n")

    def cut(self, step):
        """Leaves out records after a step, which are about to be made again."""
        self.records = [record for record in self.records if record["step"] <= step]
        if self._path is not None and self._path.exists():
            lines = "".join(json.dumps(record) + "\n" for record in self.records)
            files.write_text(self._path, lines)
        self._torn = False

    def column(self, name):
        """Returns [(step, seconds, value), ...] of the records that have a value."""
        return [
            (record["step"], record["seconds"], record[name])
            for record in self.records
            if record.get(name) is not None
        ]
