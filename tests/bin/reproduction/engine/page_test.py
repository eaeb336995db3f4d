"""The page in a real browser: Chromium, driven by Playwright."""

import shutil

import pytest

from bin.reproduction.engine import report

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
# A sheet of paper's side, a phone.
SIZES = {"desktop": (1280, 900), "phone": (390, 844)}


@pytest.fixture(scope="module")
def browser():
    if CHROMIUM is None:
        pytest.skip("neither chromium nor google-chrome is on the PATH")
    api = pytest.importorskip("playwright.sync_api")
    with api.sync_playwright() as playwright:
        # As root, and in a container, Chromium has no sandbox of its own.
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture
def opened(browser, written):
    """A function (size, color_scheme) -> (page, its complaints, its requests)."""
    pages = []

    def open_page(size="desktop", color_scheme="light"):
        width, height = SIZES[size]
        page = browser.new_page(
            viewport={"width": width, "height": height},
            color_scheme=color_scheme,
            # A link leads to its place at once; a scroll that another click ends never arrives.
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


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("color_scheme", ["light", "dark"])
def test_it_renders_without_complaint_and_fetches_nothing(opened, size, color_scheme):
    page, complaints, requests = opened(size, color_scheme)
    assert complaints == []
    assert [url for url in requests if not url.startswith("data:")] == [page.url]
    images = page.evaluate("[...document.images].map(i => i.complete && i.naturalWidth)")
    assert images == [900]
    # Nothing sticks out of the window.
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert paper == {"light": "rgb(255, 255, 255)", "dark": "rgb(13, 17, 23)"}[color_scheme]


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


def test_a_phone_scrolls_a_wide_picture_in_its_frame(opened):
    frame = "(f => [f.scrollWidth, f.clientWidth])(document.querySelector('.frame'))"
    inside, outside = opened("phone")[0].evaluate(frame)
    assert inside > 2 * outside
    inside, outside = opened("desktop")[0].evaluate(frame)
    assert inside == outside


def test_a_phone_shows_claims_as_cards(opened):
    page, _, _ = opened("phone")
    assert (
        page.evaluate("getComputedStyle(document.querySelector('.claims tr')).display") == "block"
    )
    page, _, _ = opened("desktop")
    row = "getComputedStyle(document.querySelector('.claims tbody tr')).display"
    assert page.evaluate(row) == "table-row"
