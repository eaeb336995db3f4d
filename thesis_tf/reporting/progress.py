"""Progress bars, all switched by Keras' `verbose`."""

import sys
from typing import Any, TypeAlias

import tqdm

from thesis_tf._core import checks
from thesis_tf._core.types import Verbose as Verbose  # for programs

# The result of `bar`.
Bar: TypeAlias = tqdm.tqdm

_LEVELS = ("auto", 0, 1, 2)


def checked_verbose(verbose: Verbose) -> Verbose:
    """Returns `verbose`; raises ValueError unless it is "auto", 0, 1 or 2."""
    # `True` and `False` equal 1 and 0, and mean the same.
    return checks.one_of("`verbose`", verbose, _LEVELS)


def bar(
    verbose: Verbose,
    *,
    total: float | None = None,
    description: str | None = None,
    unit: str = "it",
    leave: bool = True,
) -> Bar:
    """Returns a progress bar on stderr; use it in a `with` statement.

    Args:
        verbose: "auto" shows a bar on a terminal and nothing in a log, 0 nothing, 1 always a
            bar, 2 a single line when the work is done.
        total: the total number of steps, if it is known.
        description: the text before the bar.
        unit: the name of a step.
        leave: whether the bar stays when the work is done.

    Raises:
        ValueError: `verbose` has another value.
    """
    checked_verbose(verbose)
    options: dict[str, Any] = {"total": total, "desc": description, "unit": unit, "leave": leave}
    if verbose == 2:
        # Nothing is printed before `close`, which prints the last state.
        return tqdm.tqdm(**options, mininterval=float("inf"), delay=1e-9)
    return tqdm.tqdm(**options, disable={"auto": None, 0: True, 1: False}[verbose])


def say(message: str) -> None:
    """Writes a line to stderr, above the progress bars."""
    tqdm.tqdm.write(message, file=sys.stderr)
