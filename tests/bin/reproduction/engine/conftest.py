"""A small report: a computed figure, a failed figure, and a table without its data."""

import pathlib
import typing

import numpy as np
import pytest
from PIL import Image

from bin.reproduction.engine import cache, report
from bin.reproduction.engine.catalogue import Figure
from bin.reproduction.engine.task import Failure
from bin.reproduction.engine.verdicts import Entry

NASTY = 'a <b> & "c" | d'
ABOUT = report.About("quick", 0, "python -m bin.reproduce", "2026-01-01")
SHOWN = {
    "title": NASTY,
    "caption": "How to read it, <i>.",
    "claims": [
        {"sentence": NASTY, "thesis": "1.5", "measured": "2 ± 1", "verdict": "holds"},
        {"sentence": "B.", "thesis": "2", "measured": "1", "verdict": "does not hold"},
    ],
    "notes": ["Of 10 examples."],
    "warnings": ["R-hat is <5>."],
    "settings": {"seed": 3, "study": {"steps": 2}, "rows": [{"n": 1}, {"n": 2}], "files": {"a": 1}},
    "seconds": 150.0,
    "studies": {"spectra.found ab12": 12.0},
    "threads": 1,
    "date": "2026-01-01 10:00 UTC",
    "versions": {"python": "3.11", "tensorflow": "2.21"},
    "machine": {
        "processor": "P", "cores": 2, "memory_gib": 24, "accelerators": [], "system": "Linux",
    },
}  # fmt: skip
# A part of the text has no space at which a line could be broken.
FAILURE = Failure(f"ValueError: <no> {'function/' * 30}", "line <1>")
DONE, BROKEN, BARE = Figure(1, 1, "figure"), Figure(1, 2, "figure"), Figure(1, 3, "table")


class Written(typing.NamedTuple):
    folder: pathlib.Path
    entries: list
    write: typing.Callable


@pytest.fixture
def written(tmp_path):
    """The report, written to a folder."""
    kept = tmp_path / "kept"
    kept.mkdir()
    Image.fromarray(np.zeros((300, 900), np.uint8)).save(kept / cache.PICTURE)
    entries = [
        Entry(DONE, shown=cache.Shown.from_json(SHOWN)),
        Entry(BROKEN, failure=FAILURE),
        Entry(BARE, missing="mnist.npz (--data_dir)", title="Errors"),
    ]
    folder = tmp_path / "report"
    (folder / "figures").mkdir(parents=True)
    (folder / "figures" / "fig_1_2.png").write_text("of an earlier run")

    def write():
        report.write(folder, entries, ABOUT, {DONE.slug: kept})

    write()
    return Written(folder, entries, write)
