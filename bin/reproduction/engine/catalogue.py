"""The list of figures and tables; each is a module of `bin/reproduction/chapters`."""

import dataclasses
import difflib
import fnmatch
import importlib
import pathlib
import re
from collections.abc import Sequence
from typing import Any

from bin.reproduction.engine import contract

_CHAPTERS = pathlib.Path(__file__).parents[1] / "chapters"


@dataclasses.dataclass(frozen=True, order=True)
class Figure:
    """A figure or a table of the thesis.

    Attributes:
        chapter, number: 3 and 4 for figure 3.4.
        kind: "figure" or "table".
    """

    chapter: int
    number: int
    kind: str

    @property
    def name(self) -> str:
        """The name in `--figures`: 3.4, table_5.1."""
        number = f"{self.chapter}.{self.number}"
        return f"table_{number}" if self.kind == "table" else number

    @property
    def label(self) -> str:
        """The name in texts: Figure 3.4, Table 5.1."""
        return f"{self.kind.capitalize()} {self.chapter}.{self.number}"

    @property
    def slug(self) -> str:
        """The name in file names: fig_3_4, table_5_1."""
        kind = "table" if self.kind == "table" else "fig"
        return f"{kind}_{self.chapter}_{self.number}"

    @property
    def module(self) -> str:
        """The dotted name of its module."""
        return f"bin.reproduction.chapters.chapter_{self.chapter}.{self.slug}"

    def load(self) -> Any:
        """Imports its module.

        Raises:
            TypeError: the module lacks something that `bin.reproduction.chapters` requires.
        """
        module = importlib.import_module(self.module)
        lacking = [
            name
            for name in ("TITLE", "CAPTION", "CONFIGS", "run", "draw", "claims")
            if not hasattr(module, name)
        ]
        configs = getattr(module, "CONFIGS", {})
        lacking += [
            f"CONFIGS[{budget!r}]"
            for budget in contract.BUDGETS
            if not isinstance(configs.get(budget), contract.Settings)
        ]
        if lacking:
            raise TypeError(f"{self.module} lacks {', '.join(lacking)}.")
        return module


def figures() -> list[Figure]:
    """Returns all figures and tables, in the order of the thesis."""
    found = []
    for path in _CHAPTERS.glob("chapter_*/*.py"):
        match = re.fullmatch(r"(fig|table)_(\d+)_(\d+)", path.stem)
        if match:
            kind = "figure" if match[1] == "fig" else "table"
            found.append(Figure(int(match[2]), int(match[3]), kind))
    return sorted(found)


def select(patterns: Sequence[str]) -> list[Figure]:
    """Returns the figures that match names or globs, in the order of the thesis.

    Args:
        patterns: such as "3.4", "table_5.1", "fig_3_4", "9.*", "all".

    Raises:
        ValueError: there are no patterns, or a pattern matches nothing.
    """
    if not any(patterns):
        raise ValueError("--figures must name figures; leave it out for all. See --list.")
    there = {figure.name: figure for figure in figures()}
    chosen: set[Figure] = set()
    for pattern in filter(None, patterns):
        names = list(there) if pattern == "all" else fnmatch.filter(there, pattern.lower())
        names += [name for name, figure in there.items() if figure.slug == pattern]
        if not names:
            near = sorted(there, key=lambda name: _likeness(name, pattern), reverse=True)[:3]
            raise ValueError(
                f"--figures={pattern} matches no figure or table of the thesis that comes from a"
                f" computation. Nearest: {', '.join(near)}. --list shows all."
            )
        chosen |= {there[name] for name in names}
    return sorted(chosen)


def _likeness(name: str, pattern: str) -> tuple[bool, float]:
    # A figure of the same chapter is nearer than one of another chapter, and a table with the
    # requested number is nearer than a figure with another number.
    number = name.removeprefix("table_")
    same_chapter = number.split(".")[0] in re.findall(r"\d+", pattern)[:1]
    alike = max(difflib.SequenceMatcher(None, text, pattern).ratio() for text in (name, number))
    return same_chapter, alike
