"""A class name has one meaning in the whole project (docs/glossary.md)."""

import ast
import collections
import pathlib

import pytest

ROOT = pathlib.Path(__file__).parents[1]
SOURCES = {
    path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8")
    for folder in ("thesis_tf", "models", "bin")
    for path in sorted((ROOT / folder).rglob("*.py"))
}
# Names of several classes, and why these are no different things.
SHARED_NAMES = {
    "Config": "the settings of a program, a study or a figure, which only its own module uses",
    "Hardware": "the subclass in bin.common.configs has the same fields, as flags",
}


def twins(sources):
    """Returns the names, without a leading underscore, that several classes have."""
    places = collections.defaultdict(list)
    for path, text in sources.items():
        for node in ast.walk(ast.parse(text, path)):
            if isinstance(node, ast.ClassDef):
                places[node.name.lstrip("_")].append(f"{path}:{node.lineno}")
    return {name: found for name, found in places.items() if len(found) > 1}


def test_no_name_has_two_meanings():
    assert len(SOURCES) > 100
    found = twins(SOURCES)
    lines = [f"{name}: {', '.join(found[name])}" for name in sorted(found.keys() - SHARED_NAMES)]
    assert not lines, "\n".join(["Rename these classes for what each of them is:", *lines])
    assert found.keys() >= SHARED_NAMES.keys(), "An exception is no longer needed."


@pytest.mark.parametrize(
    "text", ["class Run: ...", "class _Run: ...", "def f():\n    class Run: ..."]
)
def test_a_second_meaning_is_found(text):
    sources = {"thesis_tf/a.py": "class Run: ...\nclass Runs: ...", "bin/b.py": text}
    assert list(twins(sources)) == ["Run"]
