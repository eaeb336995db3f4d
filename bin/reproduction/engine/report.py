"""The report: a self-contained page of HTML, and the same content as Markdown and as JSON."""

import base64
import dataclasses
import json
import pathlib
import shutil
import struct
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from bin.common.flags import UsageError
from bin.reproduction.engine import cache as caches
from bin.reproduction.engine import verdicts
from bin.reproduction.engine.contract import Verdict
from bin.reproduction.engine.verdicts import Entry, Status
from thesis_tf.persistence import files

if TYPE_CHECKING:
    import jinja2

PAGE, MARKDOWN, JSON = "index.html", "README.md", "report.json"
TITLE = "The figures and tables of the thesis, recomputed"
_HERE = pathlib.Path(__file__).parent
# The text in the column of verdicts for a figure without verdicts, by its status.
_NO_VERDICT = {Status.FAILED: "failed", Status.WITHOUT: "not computed"}
_NAMES = {
    Status.DONE: "figures and tables",
    Status.FAILED: "failed",
    Status.WITHOUT: "lack data or weights",
}
_MARKS = {
    Verdict.HOLDS: "✓",
    Verdict.DOES_NOT_HOLD: "✗",
    Verdict.CANNOT_TELL: "?",
    Verdict.CANNOT_COMPARE: "?",
}
_CLASSES = {
    Verdict.HOLDS: "holds",
    Verdict.DOES_NOT_HOLD: "fails",
    Verdict.CANNOT_TELL: "open",
    Verdict.CANNOT_COMPARE: "open",
}


@dataclasses.dataclass(frozen=True)
class About:
    """The call that made a report.

    Attributes:
        budget: "quick" or "full".
        seed: the seed of all random numbers.
        command: the command line that makes the report again.
        date: the date, in UTC.
    """

    budget: str
    seed: int
    command: str
    date: str


@dataclasses.dataclass(frozen=True)
class _Picture:
    width: int
    height: int
    data: str

    @property
    def wide(self) -> bool:
        """Whether a narrow window scrolls the image instead of shrinking it."""
        return self.width > 2 * self.height


def template() -> "jinja2.Template":
    """Returns the template of the page; raises UsageError where Jinja is not installed."""
    try:
        import jinja2
    except ImportError:
        raise UsageError(
            "The report's page needs Jinja: pip install 'thesis_tf[reproduce]' or pip install"
            " jinja2."
        ) from None
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_HERE), autoescape=True, undefined=jinja2.StrictUndefined
    )
    return environment.get_template("page.html.j2")


def write(
    folder: pathlib.Path,
    entries: Sequence[Entry],
    about: About,
    cache_entries: Mapping[str, pathlib.Path],
) -> None:
    """Writes the report to a folder.

    Args:
        folder: the folder to write to.
        entries: the entries of the figures, in order.
        about: the call.
        cache_entries: {slug: folder in the cache that holds the figure's image}.
    """
    pictures: dict[str, bytes] = {}
    for entry in entries:
        slug = entry.figure.slug
        target = folder / "figures" / f"{slug}.png"
        if entry.status == Status.DONE:
            with files.atomic(target) as partial:
                shutil.copyfile(cache_entries[slug] / caches.PICTURE, partial)
            pictures[slug] = target.read_bytes()
        else:
            target.unlink(missing_ok=True)
    whole = {
        **dataclasses.asdict(about),
        "counts": verdicts.counts(entries).to_json(),
        "figures": [entry.to_json() for entry in entries],
    }
    files.write_json(folder / JSON, whole)
    files.write_text(folder / MARKDOWN, markdown(entries, about))
    files.write_text(folder / PAGE, html(entries, about, pictures))


def introduction(about: About) -> str:
    """Returns an introduction to the report."""
    return (
        "Guillaume Alain, Auto-Encoders, Distributed Training and Information Representation in"
        " Deep Neural Networks (PhD thesis, Université de Montréal, 2018). For each figure and"
        " table that comes from a computation, this report compares the claims of the thesis with"
        f" the values that thesis_tf measured, with budget {about.budget} and seed {about.seed}"
        f" ({about.date}). The claims are paraphrases from memory, not quotations; no claim was"
        " left out because it failed."
    )


def facts(shown: caches.Shown) -> list[tuple[str, str]]:
    """Returns [(name, value)] on how a figure was computed."""
    made, machine = shown.made, shown.made.machine
    time = _seconds(made.seconds)
    if made.studies:
        shared = ", ".join(f"{name} {_seconds(taken)}" for name, taken in made.studies.items())
        time += f", including shared studies that were not in the cache (in full: {shared})"
    hardware = f"{machine.processor}, {made.threads} of {machine.cores} cores"
    hardware += f", {machine.memory_gib} GiB"
    for name in machine.accelerators or ("no accelerator",):
        hardware += f", {name}"
    return [
        ("run time", time),
        ("seed", str(shown.settings["seed"])),
        ("settings", _settings(shown.settings)),
        ("versions", ", ".join(f"{name} {version}" for name, version in made.versions.items())),
        ("machine", f"{hardware}; {machine.system}"),
        ("date", made.date),
    ]


def html(entries: Sequence[Entry], about: About, pictures: Mapping[str, bytes]) -> str:
    """Returns the page.

    Args:
        entries: the entries of the figures, in order.
        about: the call.
        pictures: {slug: bytes of a PNG}.
    """
    from markupsafe import Markup

    return template().render(
        title=TITLE,
        introduction=introduction(about),
        command=about.command,
        # Trusted text from this package, without user input.
        style=Markup((_HERE / "page.css").read_text(encoding="utf-8")),
        counts=verdicts.counts(entries),
        entries=entries,
        pictures={slug: _picture(png) for slug, png in pictures.items()},
        of_claims=verdicts.of_claims,
        facts=facts,
        classes=_CLASSES,
        marks=_MARKS,
        names=_NAMES,
        no_verdict=_NO_VERDICT,
    )


def markdown(entries: Sequence[Entry], about: About) -> str:
    """Returns the report as Markdown, with links to the image files."""
    lines = [
        f"# {TITLE}",
        "",
        introduction(about),
        "",
        f"```sh\n{about.command}\n```",
        "",
        verdicts.summary(entries),
        "",
        "| figure | the thesis says | its number | measured | |",
        "|---|---|---|---|---|",
    ]
    for entry in entries:
        link = f"[{entry.figure.label}](#{_anchor(entry.heading)})"
        for claim in entry.claims:
            cells = (claim.sentence, claim.thesis, claim.measured, claim.verdict)
            lines.append(f"| {link} | {' | '.join(map(_cell, cells))} |")
        if entry.status != Status.DONE:
            why, status = _cell(entry.why_not()), _NO_VERDICT[entry.status]
            lines.append(f"| {link} | {why} | | | {status} |")
    for entry in entries:
        lines += ["", f"## {entry.heading}", ""]
        if entry.shown is None:
            lines.append(entry.why_not())
            if entry.failure is not None and entry.failure.traceback:
                lines += ["", f"```\n{entry.failure.traceback}\n```"]
            continue
        shown = entry.shown
        lines += [f"![{shown.title}](figures/{entry.figure.slug}.png)", "", shown.caption]
        lines += [line for said in shown.warnings for line in ("", f"**Warning: {said}**")]
        lines += [line for note in shown.notes for line in ("", f"*{note}*")]
        lines += ["", "| | |", "|---|---|"]
        lines += [f"| {name} | {_cell(value)} |" for name, value in facts(shown)]
    return "\n".join(lines) + "\n"


def _anchor(heading: str) -> str:
    # As on GitHub: the heading in lower case with hyphens, without punctuation.
    kept = (letter for letter in heading.lower() if letter.isalnum() or letter in " -_")
    return "".join(kept).replace(" ", "-")


def _cell(text: str) -> str:
    return str(text).replace("|", "\\|").replace("\n", " ")


def _picture(png: bytes) -> _Picture:
    width, height = struct.unpack(">II", png[16:24])  # from the header of the PNG
    return _Picture(width, height, base64.b64encode(png).decode())


def _settings(settings: Mapping[str, Any]) -> str:
    """Returns settings in one line; those of a study are in parentheses."""
    said = []
    for name, value in settings.items():
        if name == "files":
            continue
        if isinstance(value, dict):
            said.append(f"{name} ({_settings(value)})")
        elif isinstance(value, list) and value and isinstance(value[0], dict):
            said.append(f"{name} [{'; '.join(map(_settings, value))}]")
        else:
            said.append(f"{name} {value if isinstance(value, str) else json.dumps(value)}")
    return ", ".join(said)


def _seconds(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min"
