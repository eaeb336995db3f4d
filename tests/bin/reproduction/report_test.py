import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from bin.reproduction import cache, report
from bin.reproduction.catalogue import Figure

NASTY = 'a <b> & "c" | d'
ABOUT = {"command": "python -m bin.reproduce", "budget": "quick", "seed": 0, "date": "2026-01-01"}
SHOWN = {
    "title": NASTY,
    "caption": "How to read it, <i>.",
    "claims": [
        {"sentence": NASTY, "thesis": "1.5", "measured": "2 ± 1", "verdict": "holds"},
        {"sentence": "B.", "thesis": "2", "measured": "1", "verdict": "does not hold"},
    ],
    "notes": ["Of 10 examples."],
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
DONE, BROKEN, BARE = Figure(1, 1, "figure"), Figure(1, 2, "figure"), Figure(1, 3, "table")


class Page(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.links, self.ids, self.images, self.texts, self.open = [], [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.open.append(tag)
        self.ids += [attrs["id"]] if "id" in attrs else []
        self.links += [attrs["href"]] if tag == "a" else []
        self.images += [attrs["src"]] if tag == "img" else []
        assert tag != "script"

    def handle_endtag(self, tag):
        # Void elements have no end.
        while self.open.pop() != tag:
            pass

    def handle_data(self, data):
        self.texts.append(data)


@pytest.fixture
def written(tmp_path):
    """(folder of the report, its entries): one figure done, one failed, one without its data."""
    kept = tmp_path / "kept"
    kept.mkdir()
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(kept / cache.PICTURE)
    entries = [
        report.entry(DONE, shown=SHOWN),
        report.entry(BROKEN, failure={"error": "ValueError: <no>", "traceback": "line <1>"}),
        report.entry(BARE, missing="mnist.npz (--data_dir)"),
    ]
    folder = tmp_path / "report"
    (folder / "figures").mkdir(parents=True)
    (folder / "figures" / "fig_1_2.png").write_text("of an earlier run")
    report.write(folder, entries, ABOUT, {DONE.slug: kept})
    return folder, entries


def test_pictures_are_those_of_what_is_done(written):
    folder, _ = written
    assert [path.name for path in (folder / "figures").iterdir()] == ["fig_1_1.png"]


def test_the_page_needs_nothing_else_and_its_links_lead_somewhere(written):
    text = (written[0] / report.PAGE).read_text()
    page = Page(text)
    assert page.open == []
    assert len(page.images) == 1
    assert page.images[0].startswith("data:image/png;base64,")
    assert {link.removeprefix("#") for link in page.links} <= set(page.ids)
    assert len(page.ids) == len(set(page.ids))
    assert not re.search(r"https?://", text)
    assert "prefers-color-scheme: dark" in text
    assert 'name="viewport"' in text


def test_the_page_says_all_and_as_it_is(written):
    said = "".join(Page((written[0] / report.PAGE).read_text()).texts)
    for text in (NASTY, "2 ± 1", "✓ holds", "✗ does not hold", "Of 10 examples.", "<i>"):
        assert text in said
    assert "ValueError: <no>" in said
    assert "line <1>" in said
    assert "it needs mnist.npz (--data_dir)" in said
    assert "2.5 min" in said
    assert "spectra.found ab12 12.0 s" in said
    assert "study (steps 2), rows [n 1; n 2]" in said


def test_markdown_has_the_same(written):
    text = (written[0] / report.MARKDOWN).read_text()
    rows = [line for line in text.splitlines() if line.startswith("| [")]
    # A bar within a cell would begin another.
    assert all(len(re.findall(r"(?<!\\)\|", row)) == 6 for row in rows)
    assert len(rows) == 4
    assert "![a <b>" in text
    assert "(figures/fig_1_1.png)" in text
    assert "*Of 10 examples.*" in text
    links = set(re.findall(r"\]\(#([^)]*)\)", text))
    headings = re.findall(r"^## (.*)$", text, re.MULTILINE)
    kept = [re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in headings]
    assert links == set(kept)


def test_json_has_the_same(written):
    folder, entries = written
    whole = json.loads((folder / report.JSON).read_text())
    assert whole["figures"] == entries
    assert whole["command"] == ABOUT["command"]
    assert whole["counts"]["figures"] == {"done": 1, "failed": 1, "without": 1}
    assert whole["counts"]["claims"] == {
        "holds": 1, "does not hold": 1, "cannot be told at this budget": 0,
    }  # fmt: skip


def test_a_summary(written):
    said = report.summary(written[1])
    assert said.startswith("1 of 3 figures and tables; of their claims 1 holds, 1 does not hold")
    assert said.endswith("1 failed. 1 lack their data or weights.")


def test_the_same_report_is_the_same_bytes(written, tmp_path):
    folder, entries = written
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    report.write(folder, entries, ABOUT, {DONE.slug: tmp_path / "kept"})
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
