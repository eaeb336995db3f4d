"""How a program ends: its exit status, its last lines, and outcome.json.

Every program starts by `start(main)`, and ends with one of these statuses:

    0    done
    1    failed: an error after the run had begun, or of the disk, the network or a store
    2    wrong use: flags, files or a folder that can't be used; nothing was written
    3    done and written, but a diagnostic says not to trust the results
    130  interrupted by Ctrl-C

With status 3, sentences that say what is wrong are the last lines of the output, and are in
outcome.json. A job passes such sentences to its argument `warn`, and computes them from its
results, so that a finished run that is shown again ends in the same way.
"""

import contextlib
import datetime
import errno
import json
import logging as python_logging
import math
import os
import pathlib
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NoReturn, TypeAlias

from absl import app, logging
from absl import flags as absl_flags

from bin.common import flags, interrupts, runs
from bin.common.flags import UsageError
from thesis_tf.errors import ArgumentError
from thesis_tf.persistence import files, locks

FLAGS = absl_flags.FLAGS
DONE, FAILED, WRONG_USE, DOUBTFUL, INTERRUPTED = 0, 1, 2, 3, 130
STATUSES = (
    "Exit status: 0 done; 1 failed; 2 wrong use, nothing was written; 3 done and written, but a"
    "\ndiagnostic says not to trust the results (the last lines and outcome.json say which); 130"
    "\ninterrupted."
)
_FULL = (errno.ENOSPC, errno.EDQUOT)
# Errors of the operating system that are about a path that was given.
_OF_PATHS = (FileNotFoundError, NotADirectoryError, IsADirectoryError, PermissionError)


# Takes a sentence that says why not to trust a result.
Warn: TypeAlias = Callable[[str], object]


def unheard(sentence: str) -> None:
    """A `Warn` that does nothing."""


class RunError(Exception):
    """A run can't go on, though it was used rightly; the message says why and what to do."""


def start(main: Callable[[list[str]], None]) -> None:
    """Parses the flags and calls `main`; `--help` also shows the statuses."""
    program = sys.modules["__main__"]
    program.__doc__ = f"{program.__doc__ or ''}\n{STATUSES}\n"
    app.run(main, flags_parser=_parse)


def _parse(argv: list[str]) -> list[str]:
    try:
        rest: list[str] = FLAGS(argv)
    except absl_flags.Error as error:
        end(f"error: {error}\n(--help lists the flags.)", WRONG_USE)
    except SystemExit:  # after --help, with which absl ends with 1
        sys.exit(DONE)
    return rest


def end(message: str, status: int) -> NoReturn:
    """Ends the program with a message on standard error."""
    sys.stdout.flush()
    print(message, file=sys.stderr, flush=True)
    sys.exit(status)


@contextlib.contextmanager
def clean_errors(argv: list[str]) -> Iterator[None]:
    """Ends the program with one line instead of a traceback for an error of the user.

    `--verbosity=1` also shows the traceback.
    """
    # Hide messages of TensorFlow, and of urllib3 for each attempt at a download, except errors.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    for name in ("tensorflow", "urllib3"):
        python_logging.getLogger(name).setLevel(python_logging.ERROR)
    if not FLAGS["verbosity"].present:
        logging.set_verbosity(logging.WARNING)
    try:
        if len(argv) > 1:
            raise UsageError(f"Unknown argument {argv[1]!r}: flags are written --name=value.")
        check_flags()
        with interrupts.never_lost():
            yield
    except KeyboardInterrupt:
        end("\nInterrupted. The same command continues the run.", INTERRUPTED)
    except (UsageError, RunError) as error:
        end(f"error: {error}", FAILED if isinstance(error, RunError) else _status(error))
    except Exception as error:
        if not isinstance(error, _OF_USERS) and not _is_full(error):
            raise
        logging.debug("", exc_info=True)
        message = _on_full_disk(error) if _is_full(error) else _naming_flags(error)
        end(f"error: {message}\n(--verbosity=1 shows the traceback.)", _status(error))
    finally:
        runs.remove_unused()


_OF_USERS = (ValueError, TypeError, OSError, ImportError, locks.LockedError)


def _status(error: Exception) -> int:
    """Returns the status for an error: before a run begins, only its user can be wrong."""
    outside = isinstance(error, OSError) and not isinstance(error, (*_OF_PATHS, ArgumentError))
    outside = outside or _is_full(error) or isinstance(error, ImportError | locks.LockedError)
    if runs.begun() or outside:
        return FAILED
    return WRONG_USE


def _is_full(error: Exception) -> bool:
    # HDF5 and TensorFlow raise other errors with this text.
    full = isinstance(error, OSError) and error.errno in _FULL
    return full or os.strerror(errno.ENOSPC) in str(error)


def _on_full_disk(error: Exception) -> str:
    folders = [str(folder) for folder in runs.begun()]
    where = getattr(error, "filename", None) or (folders or ["the output folder"])[-1]
    return (
        f"No space is left on the disk of {where}. Make room, or delete what is needless: the same"
        " command then continues the run."
    )


def _naming_flags(error: Exception) -> str:
    """Returns the message of an error, with the flag's name instead of the argument's."""
    if not isinstance(error, ArgumentError) or error.argument is None:
        return str(error)
    name = flags.of_argument(error.argument)
    return str(error) if name is None else error.message_for(f"--{name}")


def check_flags() -> None:
    """Raises UsageError for numbers that are not finite, which absl accepts."""
    for name in FLAGS:
        value = FLAGS[name].value
        if isinstance(value, float) and not math.isfinite(value):
            raise UsageError(f"--{name} must be a finite number. Received: {value}.")


def conclude(folder: pathlib.Path, warnings: Iterable[str] = (), extent: Any = None) -> None:
    """Writes outcome.json and prints the warnings; with a warning, ends the program with status 3.

    It is the last call of a program.

    Args:
        folder: the folder of the run. Only a process that began it writes.
        warnings: a sentence for each diagnostic that says not to trust the results.
        extent: what was asked of this call if calls of one run may differ, e.g. a number of steps,
            JSON-serializable. If it is what it was, the date of the first call is kept.
    """
    warnings = list(dict.fromkeys(warnings))
    extent = json.loads(json.dumps(extent))
    if folder.resolve() in runs.begun():
        outcome = {
            "status": DOUBTFUL if warnings else DONE,
            "warnings": warnings,
            "finished": f"{datetime.datetime.now().astimezone():%Y-%m-%d %H:%M %z}",
            "extent": extent,
        }
        path = folder / runs.OUTCOME
        kept = files.read_json(path) if path.exists() else {}
        if kept.get("extent", ...) == extent:
            outcome["finished"] = kept["finished"]
        files.write_json(path, outcome)
    for warning in warnings:
        print(f"warning: {warning}", flush=True)
    if warnings:
        sys.exit(DOUBTFUL)
