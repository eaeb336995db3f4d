import json
import re
from html.parser import HTMLParser

from bin.reproduction.engine import contract, report


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


def test_pictures_are_those_of_what_is_done(written):
    folder = written.folder
    assert [path.name for path in (folder / "figures").iterdir()] == ["fig_1_1.png"]


def test_the_page_needs_nothing_else_and_its_links_lead_somewhere(written):
    text = (written.folder / report.PAGE).read_text()
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
    said = "".join(Page((written.folder / report.PAGE).read_text()).texts)
    for text in (
        'a <b> & "c" | d',
        "2 ± 1",
        "✓ holds",
        "✗ does not hold",
        "Of 10 examples.",
        "<i>",
    ):
        assert text in said
    assert "ValueError: <no>" in said
    assert "line <1>" in said
    assert "it needs mnist.npz (--data_dir)" in said
    assert "2.5 min" in said
    assert "spectra.found ab12 12.0 s" in said
    assert "study (steps 2), rows [n 1; n 2]" in said


def test_markdown_has_the_same(written):
    text = (written.folder / report.MARKDOWN).read_text()
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
    folder, entries = written.folder, written.entries
    whole = json.loads((folder / report.JSON).read_text())
    assert whole["figures"] == entries
    assert whole["command"] == "python -m bin.reproduce"
    assert whole["counts"]["figures"] == {"done": 1, "failed": 1, "without": 1}
    assert whole["counts"]["claims"] == {
        "holds": 1, "does not hold": 1, "cannot be told at this budget": 0,
    }  # fmt: skip


def test_a_summary(written):
    said = report.summary(written.entries)
    assert said == (
        "1 of 3 figures and tables. Of 2 claims 1 holds, 1 does not hold. 1 failed."
        " Without data or weights: 1."
    )


def test_verdicts_in_words():
    one, two, none = (dict.fromkeys(contract.Verdict, number) for number in (1, 2, 0))
    assert report.verdicts(one) == "1 holds, 1 does not hold, 1 cannot be told at this budget"
    assert report.verdicts(two) == "2 hold, 2 do not hold, 2 cannot be told at this budget"
    assert report.verdicts(none) == ""


def test_the_same_report_is_the_same_bytes(written):
    def everything():
        return {p: p.read_bytes() for p in written.folder.rglob("*") if p.is_file()}

    before = everything()
    written.write()
    assert everything() == before
