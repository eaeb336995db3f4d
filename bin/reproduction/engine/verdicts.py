"""The status of each figure, and the numbers of claims by verdict."""

import collections
import dataclasses
import enum
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from bin.reproduction.engine.cache import Shown
from bin.reproduction.engine.catalogue import Figure
from bin.reproduction.engine.contract import Claim, Verdict
from bin.reproduction.engine.task import Failure

_OF_SEVERAL = {
    Verdict.HOLDS: "hold",
    Verdict.DOES_NOT_HOLD: "do not hold",
    Verdict.CANNOT_TELL: "cannot be told at this budget",
    Verdict.CANNOT_COMPARE: "cannot be compared",
}


class Status(enum.StrEnum):
    """The status of a figure."""

    DONE = "done"
    FAILED = "failed"
    WITHOUT = "without"


@dataclasses.dataclass(frozen=True)
class Entry:
    """The entry of one figure in the report; one of `shown`, `failure` and `missing` is set.

    Attributes:
        figure: the figure.
        shown: its texts from the cache.
        failure: why it could not be computed.
        missing: a phrase that names the missing files.
        title: its title if files are missing.
    """

    figure: Figure
    shown: Shown | None = None
    failure: Failure | None = None
    missing: str = ""
    title: str = ""

    @property
    def status(self) -> Status:
        """The status of the figure."""
        if self.shown is not None:
            return Status.DONE
        return Status.FAILED if self.failure is not None else Status.WITHOUT

    @property
    def claims(self) -> tuple[Claim, ...]:
        """The claims with verdicts; empty if the figure was not computed."""
        return self.shown.claims if self.shown is not None else ()

    @property
    def warnings(self) -> tuple[str, ...]:
        """The sentences that say why not to trust the figure; empty if it was not computed."""
        return self.shown.warnings if self.shown is not None else ()

    @property
    def heading(self) -> str:
        """The figure's label, and its title if it is known."""
        title = self.shown.title if self.shown is not None else self.title
        return f"{self.figure.label}: {title}" if title else self.figure.label

    def why_not(self) -> str:
        """Returns why there is no image of the figure."""
        if self.failure is not None:
            return f"Failed. {self.failure.error}"
        return f"Not computed: it needs {self.missing}."

    def to_json(self) -> dict[str, Any]:
        """Returns the entry for the report's JSON."""
        about: dict[str, Any]
        if self.shown is not None:
            about = self.shown.to_json()
        elif self.failure is not None:
            about = dataclasses.asdict(self.failure)
        else:
            about = {"title": self.title, "missing": self.missing}
        figure = self.figure
        named = {"name": figure.name, "label": figure.label, "slug": figure.slug}
        return {**named, "status": self.status.value, **about}


@dataclasses.dataclass(frozen=True)
class Counts:
    """The numbers of claims by verdict and of figures by status."""

    claims: Mapping[Verdict, int]
    figures: Mapping[Status, int]

    def to_json(self) -> dict[str, dict[str, int]]:
        """Returns the counts for the report's JSON."""
        return {
            "claims": {verdict.value: number for verdict, number in self.claims.items()},
            "figures": {status.value: number for status, number in self.figures.items()},
        }


def counts(entries: Sequence[Entry]) -> Counts:
    """Counts verdicts and statuses."""
    statuses = collections.Counter(entry.status for entry in entries)
    return Counts(
        counts_of_claims(claim for entry in entries for claim in entry.claims),
        {status: statuses[status] for status in Status},
    )


def counts_of_claims(claims: Iterable[Claim]) -> dict[Verdict, int]:
    """Counts how many claims have each verdict."""
    found = collections.Counter(claim.verdict for claim in claims)
    return {verdict: found[verdict] for verdict in Verdict}


def of_claims(verdict: Verdict, number: int) -> str:
    """Returns the text of a verdict on a number of claims: "holds" for one, "hold" for more."""
    return verdict.value if number == 1 else _OF_SEVERAL[verdict]


def in_words(counted: Mapping[Verdict, int]) -> str:
    """Returns a text with the numbers of claims by verdict."""
    return ", ".join(
        f"{number} {of_claims(verdict, number)}" for verdict, number in counted.items() if number
    )


def summary(entries: Sequence[Entry]) -> str:
    """Returns a summary in one or two sentences."""
    found = counts(entries)
    line = f"{found.figures[Status.DONE]} of {len(entries)} figures and tables."
    number = sum(found.claims.values())
    if number:
        line += f" Of {number} claims {in_words(found.claims)}."
    if found.figures[Status.FAILED]:
        line += f" {found.figures[Status.FAILED]} failed."
    if found.figures[Status.WITHOUT]:
        line += f" Without data or weights: {found.figures[Status.WITHOUT]}."
    return line
