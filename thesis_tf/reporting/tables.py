"""Tables of results: as text for a terminal, as HTML for a notebook, as Markdown for a page."""

import html
from collections.abc import Collection, Sequence

Cell = str | int | float | bool | None


def text(
    headings: Sequence[str], rows: Sequence[Sequence[Cell]], *, left: Collection[int] = (0,)
) -> str:
    """Returns a table for a terminal: columns two spaces apart, numbers flush right.

    Args:
        headings: the headings of the columns.
        rows: the rows of cells; None stands for a missing value.
        left: the indices of the columns that are flush left.
    """
    lines = [list(headings), *([cell(value) for value in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(
            part.ljust(width) if number in left else part.rjust(width)
            for number, (part, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def as_html(
    headings: Sequence[str], rows: Sequence[Sequence[Cell]], *, left: Collection[int] = (0,)
) -> str:
    """Returns the table as an HTML <table>, for `_repr_html_`."""

    def line(cells: Sequence[Cell], tag: str) -> str:
        parts = (
            f'<{tag} style="text-align:{"left" if number in left else "right"}">'
            f"{html.escape(cell(value))}</{tag}>"
            for number, value in enumerate(cells)
        )
        return f"<tr>{''.join(parts)}</tr>"

    body = "".join(line(row, "td") for row in rows)
    return f"<table><thead>{line(headings, 'th')}</thead><tbody>{body}</tbody></table>"


def markdown(
    headings: Sequence[str], rows: Sequence[Sequence[Cell]], *, left: Collection[int] = (0,)
) -> str:
    """Returns the table in Markdown."""
    rule = ["---" if number in left else "---:" for number in range(len(headings))]
    lines = [list(headings), rule, *([cell(value) for value in row] for row in rows)]
    return "\n".join(
        f"| {' | '.join(part.replace('|', chr(92) + '|') for part in line)} |" for line in lines
    )


def cell(value: Cell) -> str:
    """Formats a value for a table: floats with four significant digits, "-" for None."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    return str(value)
