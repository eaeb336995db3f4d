"""Output folders: each holds one run, is never overwritten by accident, and can be continued."""

import contextlib
import dataclasses
import json
import logging as python_logging
import math
import os
import pathlib
import shutil
import sys
import tempfile
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, Literal, TextIO

from absl import flags as absl_flags
from absl import logging

from bin.common import flags
from bin.common.flags import UsageError as UsageError
from thesis_tf.errors import ArgumentError
from thesis_tf.persistence import arrays, files, locks

if TYPE_CHECKING:
    import numpy as np

FLAGS = absl_flags.FLAGS
CONFIG = "config.json"
LOCK = ".lock"
# Settings that may differ between calls of the same run.
_PLACES = ("data_dir",)
_NOT_OURS = (
    "--output_dir={} contains files that are not a run of this program. Choose an empty folder."
)


def read_arrays(
    flag: str, path: str | pathlib.Path, wanted: str, needed: str | None = None
) -> "dict[str, np.ndarray]":
    """Returns the arrays of the .npz file that a flag names, {name: array}.

    Args:
        flag: the name of the flag.
        path: the file.
        wanted: a description of the expected arrays, for the error message.
        needed: the name of an array that the file must have.

    Raises:
        ValueError: the file doesn't exist, is not a complete .npz file, contains Python objects, or
            lacks the array `needed`.
    """
    if not pathlib.Path(path).is_file():
        raise ValueError(f"--{flag}={path} must be an existing .npz file.")
    try:
        found = arrays.load(path)
    except ValueError:
        found = {}
    if not found or (needed and needed not in found):
        raise ValueError(f"--{flag}={path} must be a complete .npz file {wanted}.")
    return found


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
        yield
    except KeyboardInterrupt:
        sys.exit("\nInterrupted. The same command continues the run.")
    except UsageError as error:
        sys.exit(f"error: {error}")
    except (ValueError, TypeError, OSError, ImportError, locks.LockedError) as error:
        logging.debug("", exc_info=True)
        sys.exit(f"error: {_naming_flags(error)}\n(--verbosity=1 shows the traceback.)")


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


def refuse(names: Iterable[str], why: str) -> None:
    """Raises UsageError for flags that were given and have no effect."""
    given = ", ".join(f"--{name}" for name in sorted(names))
    if given:
        raise UsageError(f"Leave out {given}: {why}.")


def refuse_given(names: Iterable[str], why: str) -> None:
    """Raises UsageError for the flags that were given, with any value."""
    refuse([name for name in names if flags.given(name)], why)


def existing(folder: str | pathlib.Path) -> pathlib.Path:
    """Returns the path of a folder that holds a run; raises UsageError if it doesn't hold one."""
    folder = pathlib.Path(folder).expanduser()
    if not (folder / CONFIG).exists():
        raise UsageError(f"--output_dir={folder} holds no run. Use --do=train first.")
    return folder


def read_config(folder: pathlib.Path) -> Any:
    """Returns the config of the run in `folder` as read from JSON, with tuples for lists."""
    return _with_tuples(files.read_json(folder / CONFIG))


def _with_tuples(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _with_tuples(part) for key, part in value.items()}
    return tuple(map(_with_tuples, value)) if isinstance(value, list) else value


def writable(flag: str, folder: str | pathlib.Path) -> pathlib.Path:
    """Creates the folder that a flag names; returns its path; raises UsageError if it can't."""
    folder = pathlib.Path(folder).expanduser()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise UsageError(
            f"--{flag}={folder} can't be written to ({error.strerror}). Choose another folder."
        ) from error
    return folder


def claim(folder: str | pathlib.Path, config: Any, overwrite: bool = False) -> pathlib.Path:
    """Checks, before any work, that `folder` can hold this run; changes nothing in it.

    Args:
        folder: the path; created if it doesn't exist.
        config: a frozen dataclass with the settings of the run. A folder with an equal config holds
            the same run, which can be continued, even if its data have moved.
        overwrite: whether `begin` may empty a folder that holds another run.

    Returns:
        The folder as a `pathlib.Path`.

    Raises:
        UsageError: the folder is not writable, holds another run and `overwrite` is not set, or
            holds files that no run of this program wrote.
    """
    folder = writable("output_dir", folder)
    if (folder / CONFIG).exists():
        found, wanted = _read(folder / CONFIG), _plain(config)
        # Many programs write a config.json; a folder is only emptied if this program wrote it.
        # The config of an older version may lack settings, or have additional ones.
        if not isinstance(found, dict) or not (
            set() < found.keys() <= wanted.keys() or found.keys() >= wanted.keys()
        ):
            raise UsageError(_NOT_OURS.format(folder))
        differing = _differences(found, wanted)
        if differing and not overwrite:
            raise UsageError(
                f"--output_dir={folder} holds another run: {'; '.join(differing)}. Choose another"
                " folder, or use --overwrite to delete that run."
            )
    elif [name for name in os.listdir(folder) if not name.startswith(".")]:
        # Hidden files may be temporary files of another worker of the same run.
        raise UsageError(_NOT_OURS.format(folder))
    return folder


def lock(folder: pathlib.Path, part: str = "") -> None:
    """Keeps other processes from running in a folder until this process ends for any reason.

    Args:
        folder: the existing folder.
        part: the name of the part of the work that this process does, if several processes share
            the folder.

    Raises:
        UsageError: another process works on the same part in the folder.
    """
    path = folder.resolve() / (LOCK + (part and f"_{part.replace('/', '_of_')}"))
    if path not in _LOCKS and (file := _acquired(path, folder)):
        _LOCKS[path] = file


def _acquired(path: pathlib.Path, folder: pathlib.Path) -> TextIO | None:
    """Returns the open file of a lock, None if the file system has no locks."""
    try:
        return locks.acquire(path, wait=False)
    except locks.LockedError:
        raise UsageError(
            f"--output_dir={folder} is in use: another process runs in it. Wait until it ends, or"
            " choose another folder."
        ) from None
    except OSError as error:
        logging.warning("%s can't be locked (%s): make sure no other run uses it.", folder, error)
        return None


# The locks that this process holds; the system releases them when it ends.
_LOCKS: dict[pathlib.Path, TextIO] = {}


def begin(folder: pathlib.Path, config: Any, part: str = "") -> None:
    """Takes a claimed folder for this run and deletes another run in it, after all checks of flags.

    Of several workers, only the chief calls it.

    Args:
        folder: the path that `claim` returned.
        config: the config that was passed to `claim`.
        part: as for `lock`.

    Raises:
        UsageError: another process runs in the folder.
    """
    lock(folder, part)
    if (folder / CONFIG).exists():
        found, wanted = _read(folder / CONFIG), _plain(config)
        if found == wanted:
            return
        if _differences(found, wanted):
            _empty(folder)
    files.write_json(folder / CONFIG, _plain(config))


def _empty(folder: pathlib.Path) -> None:
    """Removes everything but locks; raises UsageError if a process still runs in the folder."""
    with contextlib.ExitStack() as held:
        for path in folder.resolve().glob(f"{LOCK}*"):
            if path not in _LOCKS and (file := _acquired(path, folder)):
                held.enter_context(file)
        # The config last: without it, files that a kill leaves would not belong to any run.
        for entry in sorted(folder.iterdir(), key=lambda entry: entry.name == CONFIG):
            if entry.is_dir():
                shutil.rmtree(entry)
            elif not entry.name.startswith(LOCK):
                entry.unlink()


def _read(path: pathlib.Path) -> Any:
    try:
        return files.read_json(path)
    except ValueError as error:
        raise UsageError(f"{error} Choose another --output_dir, or delete that one.") from None


def _plain(config: Any) -> dict[str, Any]:
    """Returns the config as read back from JSON."""
    plain: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(config)))
    return plain


def _differences(found: dict[str, Any], wanted: dict[str, Any], prefix: str = "") -> list[str]:
    """Returns a list of texts on the differences of two configs."""
    said: list[str] = []
    for key in sorted(found.keys() | wanted.keys()):
        there, here = found.get(key), wanted.get(key)
        if key in _PLACES:
            continue
        if isinstance(there, dict) and isinstance(here, dict):
            said += _differences(there, here, f"{prefix}{key}.")
        elif there != here:
            said.append(f"{prefix}{key} is {json.dumps(there)} there and {json.dumps(here)} here")
    return said


def verbose() -> Literal[1, 2]:
    """Returns Keras' `verbose`: a progress bar on a terminal, one line per epoch in a log."""
    return 1 if sys.stdout.isatty() else 2
