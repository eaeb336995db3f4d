"""The report as a page of HTML: pictures and style are in it, and it runs no script."""

import base64
import html as escaping
import json
import struct

from bin.reproduction.engine.contract import Verdict

TITLE = "The figures and tables of the thesis, computed again"
# What is said of a figure, by its status, where claims have a verdict.
NO_VERDICT = {"failed": "failed", "without": "not computed"}
_OF_SEVERAL = {
    Verdict.HOLDS: "hold",
    Verdict.DOES_NOT_HOLD: "do not hold",
    Verdict.CANNOT_TELL: "cannot be told at this budget",
}
_MARKS = {Verdict.HOLDS: "✓", Verdict.DOES_NOT_HOLD: "✗", Verdict.CANNOT_TELL: "?"}
_CLASSES = {Verdict.HOLDS: "holds", Verdict.DOES_NOT_HOLD: "fails", Verdict.CANNOT_TELL: "open"}

_STYLE = """
:root {
  color-scheme: light dark;
  --paper: #ffffff; --ink: #24292f; --soft: #57606a; --line: #d8dee4; --card: #f6f8fa;
  --link: #0550ae; --holds: #116329; --fails: #a40e26; --open: #7d4e00;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #0d1117; --ink: #e6edf3; --soft: #9198a1; --line: #30363d; --card: #161b22;
    --link: #79c0ff; --holds: #56d364; --fails: #ff8182; --open: #e3b341;
  }
}
* { box-sizing: border-box; }
p { overflow-wrap: anywhere; }
@media (prefers-reduced-motion: no-preference) { html { scroll-behavior: smooth; } }
body {
  margin: 0 auto; max-width: 68rem; padding: 1.5rem 1rem 4rem; background: var(--paper);
  color: var(--ink); font: 1rem/1.5 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif;
}
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0 0 .75rem; }
h2 { font-size: 1.2rem; line-height: 1.3; margin: 0 0 .75rem; }
a { color: var(--link); }
p { margin: .5rem 0; max-width: 46rem; }
pre, code { font: .85rem/1.45 ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; }
pre { background: var(--card); border: 1px solid var(--line); border-radius: .4rem;
  padding: .6rem .8rem; overflow-x: auto; }
.soft, figcaption, .note { color: var(--soft); }
.note { font-style: italic; }
nav { margin: 1rem 0; }
nav a { display: inline-block; margin: 0 .3rem .3rem 0; padding: .1rem .55rem;
  border: 1px solid var(--line); border-radius: 1rem; text-decoration: none; font-size: .9rem; }
.counts { display: flex; flex-wrap: wrap; gap: .6rem; padding: 0; margin: 1rem 0;
  list-style: none; }
.counts li { border: 1px solid var(--line); border-radius: .5rem; padding: .35rem .8rem; }
.counts b { font-size: 1.3rem; margin-right: .35rem; }
.holds { color: var(--holds); } .fails { color: var(--fails); } .open { color: var(--open); }
table { border-collapse: collapse; width: 100%; font-size: .92rem; }
th, td { text-align: left; vertical-align: top; padding: .45rem .6rem .45rem 0;
  border-bottom: 1px solid var(--line); overflow-wrap: anywhere; }
th { color: var(--soft); font-weight: 600; }
td.figure { white-space: nowrap; }
.claims td.said { width: 29%; } .claims td.thesis { width: 11%; } td.verdict { width: 8.5rem; }
section { border-top: 1px solid var(--line); margin-top: 2.2rem; padding-top: 1.4rem; }
figure { margin: 0 0 .75rem; }
.frame { overflow-x: auto; background: #fff; border: 1px solid var(--line);
  border-radius: .4rem; padding: .4rem; }
.frame img { display: block; max-width: 100%; height: auto; }
.frame img.wide { min-width: 52rem; }
figcaption { margin-top: .6rem; max-width: 46rem; }
details { margin-top: .75rem; }
summary { cursor: pointer; color: var(--soft); }
.top { font-size: .9rem; }
@media (max-width: 44rem) {
  .claims thead { display: none; }
  .claims, .claims tbody, .claims tr, .claims td { display: block; width: auto !important; }
  .claims tr { border: 1px solid var(--line); border-radius: .5rem; padding: .5rem .7rem;
    margin-bottom: .7rem; background: var(--card); }
  .claims td { border: 0; padding: .12rem 0; }
  .claims td[data-name]::before { content: attr(data-name) ": "; color: var(--soft); }
}
"""


def introduction(whole):
    """Two sentences on what this is."""
    return (
        "Guillaume Alain, Auto-Encoders, Distributed Training and Information Representation in"
        " Deep Neural Networks (PhD thesis, Université de Montréal, 2018): what it claims of each"
        " figure and table that comes from a computation, and what was found when thesis_tf"
        f" computed it again, with budget {whole['budget']} and seed {whole['seed']}"
        f" ({whole['date']}). The claims are paraphrases from memory and no quotations; none is"
        " left out because it fails."
    )


def of_claims(verdict, number):
    """The verdict on a number of claims: "holds" on one, "hold" on others."""
    return verdict if number == 1 else _OF_SEVERAL[verdict]


def what_is_missing(item):
    """Why there is no picture of a figure."""
    if item["status"] == "failed":
        return f"Failed. {item['error']}"
    return f"Not computed: it needs {item['missing']}."


def facts(item):
    """[(name, value)] of how a figure was made."""
    machine, versions = item["machine"], item["versions"]
    time = _seconds(item["seconds"])
    if item["studies"]:
        shared = ", ".join(f"{n} {_seconds(s)}" for n, s in item["studies"].items())
        time += f", with what figures share where it was not there yet (in full: {shared})"
    hardware = f"{machine['processor']}, {item['threads']} of {machine['cores']} cores"
    hardware += f", {machine['memory_gib']} GiB"
    hardware += "".join(f", {name}" for name in machine["accelerators"]) or ", no accelerator"
    return [
        ("run time", time),
        ("seed", item["settings"]["seed"]),
        ("settings", _settings(item["settings"])),
        ("versions", ", ".join(f"{name} {version}" for name, version in versions.items())),
        ("machine", f"{hardware}; {machine['system']}"),
        ("date", item["date"]),
    ]


def html(whole, pictures):
    """The page.

    Args:
        whole: the report as JSON holds it.
        pictures: {slug: bytes of a PNG}.
    """
    parts = [
        "<!doctype html>",
        '<html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        # Without an icon of its own a browser asks the server for one.
        '<link rel="icon" href="data:,">',
        f"<title>{_text(TITLE)}</title><style>{_STYLE}</style></head><body>",
        f'<header id="top"><h1>{_text(TITLE)}</h1>',
        f"<p>{_text(introduction(whole))}</p>",
        f"<pre>{_text(whole['command'])}</pre>",
        _counts(whole["counts"]),
        f"<nav aria-label='Figures'>{''.join(map(_link, whole['figures']))}</nav></header>",
        _claims(whole["figures"]),
        *(_section(item, pictures) for item in whole["figures"]),
        "</body></html>",
    ]
    return "\n".join(parts) + "\n"


def _text(value):
    return escaping.escape(str(value))


def _link(item):
    return f'<a href="#{item["slug"]}">{_text(item["label"])}</a>'


def _counts(counts):
    cells = [
        f'<li class="{_CLASSES[verdict]}"><b>{number}</b>{_MARKS[verdict]}'
        f" {_text(of_claims(verdict, number))}</li>"
        for verdict, number in counts["claims"].items()
    ]
    names = {"done": "figures and tables", "failed": "failed", "without": "lack data or weights"}
    for status, number in counts["figures"].items():
        if number:
            cells.append(f"<li><b>{number}</b>{names[status]}</li>")
    return f'<ul class="counts">{"".join(cells)}</ul>'


def _claims(items):
    rows = []
    for item in items:
        figure = f'<td class="figure">{_link(item)}</td>'
        # A figure leads back to the first of its claims.
        begin = f'<tr id="{item["slug"]}-claims">'
        for claim in item.get("claims", []):
            verdict = claim["verdict"]
            rows.append(
                f'{begin}{figure}<td class="said" data-name="The thesis">{_text(claim["sentence"])}'
                f'</td><td class="thesis" data-name="Its number">{_text(claim["thesis"])}</td>'
                f'<td data-name="Measured">{_text(claim["measured"])}</td>'
                f'<td class="verdict {_CLASSES[verdict]}">{_MARKS[verdict]} {_text(verdict)}</td>'
                "</tr>"
            )
            begin = "<tr>"
        if item["status"] != "done":
            rows.append(
                f'{begin}{figure}<td colspan="3">{_text(what_is_missing(item))}</td>'
                f'<td class="verdict">{NO_VERDICT[item["status"]]}</td></tr>'
            )
    heads = ("Figure", "The thesis says", "Its number", "Measured", "")
    head = "".join(f"<th>{name}</th>" for name in heads)
    return (
        f'<main><table class="claims"><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></main>"
    )


def _section(item, pictures):
    heading = f"{item['label']}: {item['title']}" if "title" in item else item["label"]
    parts = [f'<section id="{item["slug"]}"><h2>{_text(heading)}</h2>']
    if item["status"] != "done":
        parts.append(f"<p>{_text(what_is_missing(item))}</p>")
        if item.get("traceback"):
            parts.append(f"<pre>{_text(item['traceback'])}</pre>")
    else:
        parts.append(
            f'<figure><div class="frame">{_image(item["title"], pictures[item["slug"]])}</div>'
            f"<figcaption>{_text(item['caption'])}</figcaption></figure>"
        )
        parts += [f'<p class="note">{_text(note)}</p>' for note in item["notes"]]
        rows = "".join(
            f"<tr><th>{_text(name)}</th><td>{_text(value)}</td></tr>" for name, value in facts(item)
        )
        parts.append(f"<details><summary>How it was made</summary><table>{rows}</table></details>")
    links = f'<a href="#{item["slug"]}-claims">Its claims</a> · <a href="#top">Top</a>'
    parts.append(f'<p class="top">{links}</p></section>')
    return "\n".join(parts)


def _image(title, png):
    """A picture within the page; a wide one is scrolled where the window is narrow."""
    width, height = struct.unpack(">II", png[16:24])  # where a PNG has them
    kind = ' class="wide"' if width > 2 * height else ""
    data = base64.b64encode(png).decode()
    return (
        f'<img{kind} width="{width}" height="{height}" alt="{_text(title)}"'
        f' src="data:image/png;base64,{data}">'
    )


def _settings(settings):
    """Settings in a line; what a study within is given is in brackets."""
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


def _seconds(seconds):
    if seconds < 100:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min"
