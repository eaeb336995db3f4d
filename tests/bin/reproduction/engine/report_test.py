"""The report as files, and its page in a real browser: Chromium, driven by Playwright."""

import json
import re
import shutil
import sys
from html.parser import HTMLParser

import pytest

from bin.common.flags import UsageError
from bin.reproduction.engine import report

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
# The width of a sheet of paper, and a phone.
SIZES = {"desktop": (1280, 900), "phone": (390, 844)}


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
        # Void elements have no end tag.
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


def test_what_not_to_trust_is_in_every_form(written):
    folder = written.folder
    said = "".join(Page((folder / report.PAGE).read_text()).texts)
    assert "Warning: R-hat is <5>." in said
    assert "\n\n**Warning: R-hat is <5>.**\n" in (folder / report.MARKDOWN).read_text()
    figure = json.loads((folder / report.JSON).read_text())["figures"][0]
    assert figure["warnings"] == ["R-hat is <5>."]
    assert [entry.warnings for entry in written.entries] == [("R-hat is <5>.",), (), ()]


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
    # A bar within a cell would begin another cell.
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
    assert whole["figures"] == [entry.to_json() for entry in entries]
    done, failed, without = whole["figures"]
    assert done["claims"][0] == {
        "sentence": done["title"], "thesis": "1.5", "measured": "2 ± 1", "verdict": "holds",
    }  # fmt: skip
    assert done["machine"]["accelerators"] == []
    assert (failed["status"], failed["traceback"]) == ("failed", "line <1>")
    assert list(without) == ["name", "label", "slug", "status", "title", "missing"]
    assert whole["command"] == "python -m bin.reproduce"
    assert whole["counts"]["figures"] == {"done": 1, "failed": 1, "without": 1}
    assert whole["counts"]["claims"] == {
        "holds": 1, "does not hold": 1, "cannot be told at this budget": 0,
        "cannot be compared": 0,
    }  # fmt: skip


def test_the_same_report_is_the_same_bytes(written):
    def everything():
        return {p: p.read_bytes() for p in written.folder.rglob("*") if p.is_file()}

    before = everything()
    written.write()
    assert everything() == before


@pytest.fixture(scope="module")
def browser():
    if CHROMIUM is None:
        pytest.skip("neither chromium nor google-chrome is on the PATH")
    api = pytest.importorskip("playwright.sync_api")
    with api.sync_playwright() as playwright:
        # As root, and in a container, Chromium can't use its sandbox.
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture
def opened(browser, written):
    """Returns a function (size, color_scheme) -> (page, its errors, its requests)."""
    pages = []

    def open_page(size="desktop", color_scheme="light"):
        width, height = SIZES[size]
        page = browser.new_page(
            viewport={"width": width, "height": height},
            color_scheme=color_scheme,
            # Links jump without scrolling, since another click would interrupt a scroll.
            reduced_motion="reduce",
        )
        pages.append(page)
        complaints, requests = [], []
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: requests.append(request.url))
        page.goto((written.folder / report.PAGE).as_uri())
        return page, complaints, requests

    yield open_page
    for page in pages:
        page.close()


@pytest.mark.slow
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("color_scheme", ["light", "dark"])
def test_it_renders_without_complaint_and_fetches_nothing(opened, size, color_scheme):
    page, complaints, requests = opened(size, color_scheme)
    assert complaints == []
    assert [url for url in requests if not url.startswith("data:")] == [page.url]
    images = page.evaluate("[...document.images].map(i => i.complete && i.naturalWidth)")
    assert images == [900]
    # Nothing is wider than the window.
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert paper == {"light": "rgb(255, 255, 255)", "dark": "rgb(13, 17, 23)"}[color_scheme]


@pytest.mark.slow
def test_every_link_leads_to_its_figure(opened):
    page, complaints, _ = opened("phone")
    links = page.locator("a")
    assert links.count() > 6
    for index in range(links.count()):
        link = links.nth(index)
        target = link.get_attribute("href")
        link.click()
        assert page.url.endswith(target)
        top = page.evaluate("id => document.querySelector(id).getBoundingClientRect().top", target)
        assert -1 < top < SIZES["phone"][1]
    assert complaints == []


def test_how_it_was_made_opens(opened):
    page, _, _ = opened()
    row = page.get_by_text("1 of 2 cores")
    assert not row.is_visible()
    page.get_by_text("How it was made").click()
    assert row.is_visible()


@pytest.mark.slow
def test_a_phone_scrolls_a_wide_picture_in_its_frame(opened):
    frame = "(f => [f.scrollWidth, f.clientWidth])(document.querySelector('.frame'))"
    inside, outside = opened("phone")[0].evaluate(frame)
    assert inside > 2 * outside
    inside, outside = opened("desktop")[0].evaluate(frame)
    assert inside == outside


@pytest.mark.slow
def test_a_phone_shows_claims_as_cards(opened):
    page, _, _ = opened("phone")
    assert (
        page.evaluate("getComputedStyle(document.querySelector('.claims tr')).display") == "block"
    )
    page, _, _ = opened("desktop")
    row = "getComputedStyle(document.querySelector('.claims tbody tr')).display"
    assert page.evaluate(row) == "table-row"


def test_without_jinja_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(UsageError, match=r"pip install 'thesis_tf\[reproduce\]'"):
        report.template()
