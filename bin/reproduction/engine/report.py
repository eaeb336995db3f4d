"""The report: one page of HTML that needs nothing else, the same as Markdown, and as JSON."""

import collections
import shutil

from bin.reproduction.engine import cache as caches
from bin.reproduction.engine import page
from bin.reproduction.engine.contract import Verdict
from thesis_tf.persistence import files

DONE, FAILED, WITHOUT = "done", "failed", "without"
PAGE, MARKDOWN, JSON = "index.html", "README.md", "report.json"


def entry(figure, *, shown=None, failure=None, missing=None):
    """What the report says of one figure.

    Args:
        figure: a `catalogue.Figure`.
        shown: what the cache holds of it, or None.
        failure: {"error", "traceback"}, or None.
        missing: {"missing": the files that it needs and has not, "title"}, or None.
    """
    status = DONE if shown else FAILED if failure else WITHOUT
    about = shown or failure or missing
    return {"name": figure.name, "label": figure.label, "slug": figure.slug, "status": status} | (
        about
    )


def write(folder, entries, about, cache_entries):
    """Writes the report to a folder.

    Args:
        folder: where to.
        entries: what `entry` returned, in order.
        about: {"command", "budget", "seed", "date"}.
        cache_entries: {slug: folder in the cache that holds its picture}.
    """
    pictures = folder / "figures"
    for item in entries:
        target = pictures / f"{item['slug']}.png"
        if item["status"] == DONE:
            with files.atomic(target) as partial:
                shutil.copyfile(cache_entries[item["slug"]] / caches.PICTURE, partial)
        else:
            target.unlink(missing_ok=True)
    whole = about | {"counts": counts(entries), "figures": entries}
    files.write_json(folder / JSON, whole)
    files.write_text(folder / MARKDOWN, markdown(whole))
    data = {
        item["slug"]: (pictures / f"{item['slug']}.png").read_bytes()
        for item in entries
        if item["status"] == DONE
    }
    files.write_text(folder / PAGE, page.html(whole, data))


def counts(entries):
    """How many claims have each verdict, and how many figures each status."""
    verdicts = collections.Counter(
        claim["verdict"] for item in entries for claim in item.get("claims", [])
    )
    statuses = collections.Counter(item["status"] for item in entries)
    return {
        "claims": {verdict.value: verdicts[verdict.value] for verdict in Verdict},
        "figures": {status: statuses[status] for status in (DONE, FAILED, WITHOUT)},
    }


def summary(entries):
    """How it went, in a sentence."""
    found = counts(entries)
    figures = found["figures"]
    line = f"{figures[DONE]} of {len(entries)} figures and tables."
    if claims := sum(found["claims"].values()):
        line += f" Of {claims} claims {verdicts(found['claims'])}."
    if figures[FAILED]:
        line += f" {figures[FAILED]} failed."
    if figures[WITHOUT]:
        line += f" Without data or weights: {figures[WITHOUT]}."
    return line


def verdicts(counted):
    """How many claims have which verdict, in words; `counted` is the "claims" of `counts`."""
    return ", ".join(
        f"{number} {page.of_claims(verdict, number)}"
        for verdict, number in counted.items()
        if number
    )


def markdown(whole):
    """The report as Markdown, with links to the pictures beside it."""
    lines = [
        f"# {page.TITLE}",
        "",
        page.introduction(whole),
        "",
        f"```sh\n{whole['command']}\n```",
        "",
        summary(whole["figures"]),
        "",
        "| figure | the thesis says | its number | measured | |",
        "|---|---|---|---|---|",
    ]
    for item in whole["figures"]:
        link = f"[{item['label']}](#{_anchor(item)})"
        for claim in item.get("claims", []):
            cells = (claim["sentence"], claim["thesis"], claim["measured"], claim["verdict"])
            lines.append(f"| {link} | {' | '.join(map(_cell, cells))} |")
        if item["status"] != DONE:
            why, status = _cell(page.what_is_missing(item)), page.NO_VERDICT[item["status"]]
            lines.append(f"| {link} | {why} | | | {status} |")
    for item in whole["figures"]:
        lines += ["", f"## {_heading(item)}", ""]
        if item["status"] != DONE:
            lines.append(page.what_is_missing(item))
            if item.get("traceback"):
                lines += ["", f"```\n{item['traceback']}\n```"]
            continue
        lines += [f"![{item['title']}](figures/{item['slug']}.png)", "", item["caption"]]
        lines += [line for note in item["notes"] for line in ("", f"*{note}*")]
        lines += ["", "| | |", "|---|---|"]
        lines += [f"| {name} | {_cell(value)} |" for name, value in page.facts(item)]
    return "\n".join(lines) + "\n"


def _heading(item):
    return f"{item['label']}: {item['title']}" if "title" in item else item["label"]


def _anchor(item):
    # As GitHub makes one of a heading: words in small letters with hyphens, no punctuation.
    kept = (c for c in _heading(item).lower() if c.isalnum() or c in " -_")
    return "".join(kept).replace(" ", "-")


def _cell(text):
    return str(text).replace("|", "\\|").replace("\n", " ")
