"""The pages in docs/: their examples run, and each chapter's page has the required sections."""

import doctest
import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).parents[1]
CHAPTERS = {
    "autoencoders.md": 3,
    "gsn.md": 5,
    "issgd.md": 7,
    "probes.md": 9,
    "hessian.md": 11,
}
OPTIONS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


@pytest.mark.slow
@pytest.mark.parametrize("page", [*CHAPTERS, "gradient_norms.md"])
def test_the_example_of_a_page_runs(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    failed, tried = doctest.testfile(
        str(ROOT / "docs" / page), module_relative=False, optionflags=OPTIONS, encoding="utf-8"
    )
    assert tried > 2
    assert failed == 0


@pytest.mark.parametrize(("page", "chapter"), CHAPTERS.items())
def test_a_page_says_what_differs_and_how_to_have_its_figures(page, chapter):
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    assert re.search(r"^#+ What differs from the thesis", text, re.MULTILINE)
    assert f"bin.reproduce --figures='{chapter}.*" in text


def links(path):
    """Yields the files that a Markdown file links to, except in code."""
    text = re.sub(r"```.*?```", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if not re.match(r"https?:|#|data:", target):
            yield (path.parent / target.partition("#")[0]).resolve()


@pytest.mark.parametrize(
    "path",
    [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))],
    ids=lambda p: p.name,
)
def test_links_lead_to_files(path):
    assert [str(target) for target in links(path) if not target.exists()] == []


def test_paths_in_contributing_are_there():
    text = re.sub(r"```.*?```", "", (ROOT / "CONTRIBUTING.md").read_text("utf-8"), flags=re.DOTALL)
    # Names in capitals are placeholders.
    paths = [
        path for path in re.findall(r"`([\w./]+/[\w./]+)`", text) if not re.search("[A-Z]", path)
    ]
    assert len(paths) > 15
    assert [path for path in paths if not (ROOT / path).exists()] == []
