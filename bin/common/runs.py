"""Output folders: each holds one run, is never overwritten by accident, and can be continued.

A run is identified by its settings and by what its inputs hold (see `bin.common.contents`); both
are in config.json. A lock in the folder, which ends with its process, keeps a second process out.
"""

import contextlib
import dataclasses
import json
import os
import pathlib
import shutil
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Literal, Protocol, TextIO

from absl import flags as absl_flags
from absl import logging

from bin.common import contents, flags
from bin.common.flags import UsageError as UsageError
from thesis_tf.persistence import arrays, files, locks

if TYPE_CHECKING:
    import numpy as np

FLAGS = absl_flags.FLAGS
CONFIG = "config.json"
INPUTS = "inputs"  # the key of the inputs' fingerprints in it
DATA = "data"  # the key of the data's fingerprint among these
OUTCOME = "outcome.json"
LOCK = ".lock"
# Settings that may differ between calls of the same run.
_PLACES = ("data_dir",)
_NOT_OURS = (
    "--output_dir={} contains files that are not a run of this program. Choose an empty folder."
)


class Begin(Protocol):
    """Begins a run in its folder; a program calls it after all checks, before it writes."""

    def __call__(self, data: str | None = None, /) -> None:
        """Takes the fingerprint of the data, None if the run has none."""


def no_folder(data: str | None = None, /) -> None:
    """A `Begin` that does nothing."""


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
    found = files.read_json(folder / CONFIG)
    return _with_tuples({key: value for key, value in found.items() if key != INPUTS})


def _with_tuples(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _with_tuples(part) for key, part in value.items()}
    return tuple(map(_with_tuples, value)) if isinstance(value, list) else value


def writable(flag: str, folder: str | pathlib.Path) -> pathlib.Path:
    """Creates the folder that a flag names; returns its path; raises UsageError if it can't.

    `remove_unused` removes it if nothing is written to it.
    """
    folder = pathlib.Path(folder).expanduser()
    try:
        for path in (*reversed(folder.absolute().parents), folder.absolute()):
            if not path.exists():
                path.mkdir(exist_ok=True)
                _MADE.append(path)
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
            the same run, which can be continued, even if its data have moved, as long as the files
            that its flags name hold the same.
        overwrite: whether `begin` may empty a folder that holds another run.

    Returns:
        The folder as a `pathlib.Path`.

    Raises:
        UsageError: the folder is not writable, another process runs in it, it holds another run and
            `overwrite` is not set, or it holds files that no run of this program wrote.
    """
    folder = writable("output_dir", folder)
    path, hardware = folder.resolve() / LOCK, getattr(config, "hardware", None)
    # The other workers of a run find the lock of its chief.
    if path.exists() and getattr(hardware, "distribution", None) != "multi_worker":
        with _locked(path, folder, shared=True):
            pass
    _differing(folder, _record(config), overwrite)
    return folder


def _differing(folder: pathlib.Path, wanted: dict[str, Any], overwrite: bool) -> bool:
    """Returns whether a folder holds another run, which may be overwritten; raises as `claim`."""
    if not (folder / CONFIG).exists():
        # Hidden files may be temporary files of another worker of the same run.
        if [name for name in os.listdir(folder) if not name.startswith(".")]:
            raise UsageError(_NOT_OURS.format(folder))
        return False
    found = _read(folder / CONFIG)
    # Many programs write a config.json; a folder is only emptied if this program wrote it.
    # The config of an older version may lack settings, or have additional ones.
    if not isinstance(found, dict) or not (
        set() < found.keys() - {INPUTS} <= wanted.keys() or found.keys() >= wanted.keys()
    ):
        raise UsageError(_NOT_OURS.format(folder))
    differing = _differences(found, wanted)
    if differing and not overwrite:
        raise UsageError(
            f"--output_dir={folder} holds another run: {'; '.join(differing)}. Choose another"
            " folder, or use --overwrite to delete that run."
        )
    return bool(differing)


def lock(folder: pathlib.Path, part: str = "") -> None:
    """Keeps other processes from running in a folder until this process ends for any reason.

    Args:
        folder: the existing folder.
        part: the name of the part of the work that this process does, if several processes share
            the folder; they keep out those that do all of it.

    Raises:
        UsageError: another process works in the folder, or on the same part.
    """
    _hold(folder, LOCK, shared=bool(part))
    if part:
        _hold(folder, f"{LOCK}_{part.replace('/', '_of_')}")


def _hold(folder: pathlib.Path, name: str, *, shared: bool = False) -> None:
    path = folder.resolve() / name
    if path not in _LOCKS and (file := _acquired(path, folder, shared=shared)):
        _LOCKS[path] = file


def _acquired(
    path: pathlib.Path, folder: pathlib.Path, *, wait: bool = False, shared: bool = False
) -> TextIO | None:
    """Returns the open file of a lock, None if the file system has no locks."""
    try:
        return locks.acquire(path, wait=wait, shared=shared)
    except locks.LockedError:
        raise UsageError(
            f"--output_dir={folder} is in use: another process runs in it. Wait until it ends, or"
            " choose another folder."
        ) from None
    except OSError as error:
        logging.log_first_n(
            logging.WARNING, "%s can't be locked (%s): make sure no other run uses it.", 1, folder,
            error,
        )  # fmt: skip
        return None


@contextlib.contextmanager
def _locked(
    path: pathlib.Path, folder: pathlib.Path, *, wait: bool = False, shared: bool = False
) -> Iterator[None]:
    """Holds a lock during a block, unless this process already holds it."""
    file = None if path in _LOCKS else _acquired(path, folder, wait=wait, shared=shared)
    with file or contextlib.nullcontext():
        yield


# The locks that this process holds; the system releases them when it ends.
_LOCKS: dict[pathlib.Path, TextIO] = {}
_BEGUN: dict[pathlib.Path, None] = {}
_MADE: list[pathlib.Path] = []  # the folders that this process made, outer ones first


def remove_unused() -> None:
    """Removes the folders that `writable` made and that are still empty."""
    while _MADE:
        with contextlib.suppress(OSError):  # it is not empty, or gone
            _MADE.pop().rmdir()


def begun() -> list[pathlib.Path]:
    """Returns the folders in which this process has begun a run."""
    return list(_BEGUN)


def begin(
    folder: pathlib.Path,
    config: Any,
    data: str | None = None,
    /,
    *,
    part: str = "",
    overwrite: bool = False,
) -> None:
    """Takes a claimed folder for this run and deletes another run in it, after all checks of flags.

    Of several workers, only the chief calls it.

    Args:
        folder: the path that `claim` returned.
        config: the config that was passed to `claim`.
        data: the fingerprint of the run's data, None if it has none.
        part: as for `lock`.
        overwrite: as for `claim`.

    Raises:
        UsageError: another process runs in the folder, or the folder holds another run, which may
            have begun since `claim`, or a run with other data.
    """
    wanted, at = _record(config, data), folder.resolve()
    # Parts of one run begin one after the other, so that only the first empties the folder.
    with _locked(at / f"{LOCK}_begin", folder, wait=True):
        if not part:
            lock(folder)
        if (folder / CONFIG).exists() and _differing(folder, wanted, overwrite):
            with _locked(at / LOCK, folder):
                _empty(folder)
        lock(folder, part)
        if not (folder / CONFIG).exists() or _read(folder / CONFIG) != wanted:
            files.write_json(folder / CONFIG, wanted)
    _start(folder)


def resume(folder: pathlib.Path, data: str | None = None, /) -> None:
    """Takes a folder for more work with the run that it holds.

    Args:
        folder: the folder, which `existing` returned.
        data: the fingerprint of the data.

    Raises:
        UsageError: another process runs in the folder, or the run had other data.
    """
    lock(folder)
    found = _read(folder / CONFIG)
    if data and (said := _other_inputs(found.get(INPUTS, {}), {DATA: data}, found)):
        raise UsageError(f"--output_dir={folder} holds a run with other inputs: {said[0]}.")
    _start(folder)


def _start(folder: pathlib.Path) -> None:
    _BEGUN[folder.resolve()] = None
    if (folder / OUTCOME).exists():
        found = _read(folder / OUTCOME)
        print(f"This run was finished on {found['finished']}; what it has is shown again.")


def _empty(folder: pathlib.Path) -> None:
    """Removes everything but locks."""
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


def _record(config: Any, data: str | None = None) -> dict[str, Any]:
    """Returns the content of config.json: the config as read back, and the inputs' fingerprints."""
    plain: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(config)))
    inputs = contents.of_flags(config)
    return {**plain, INPUTS: {**inputs, DATA: data} if data else inputs}


def _differences(found: dict[str, Any], wanted: dict[str, Any], prefix: str = "") -> list[str]:
    """Returns a list of texts on the differences of two configs."""
    said: list[str] = []
    for key in sorted(found.keys() | wanted.keys()):
        there, here = found.get(key), wanted.get(key)
        if key in (*_PLACES, INPUTS):
            continue
        if isinstance(there, dict) and isinstance(here, dict):
            said += _differences(there, here, f"{prefix}{key}.")
        elif there != here:
            said.append(f"{prefix}{key} is {json.dumps(there)} there and {json.dumps(here)} here")
    if not prefix and not said:
        said = _other_inputs(found.get(INPUTS, {}), wanted[INPUTS], wanted)
    return said


def _other_inputs(
    found: Mapping[str, str], wanted: Mapping[str, str], config: Mapping[str, Any]
) -> list[str]:
    """Returns a list of texts on inputs that aren't what they were."""
    said = []
    for key, value in wanted.items():
        if found.get(key) == value:
            continue
        flag = key.removeprefix("--").partition("=")[0]
        detail = f"{key} has other contents"
        if key == DATA:
            detail = f"{_dataset(config)} has other examples or labels, or in another order"
        if key not in found:
            detail = f"the contents of {_dataset(config) if key == DATA else key} were not recorded"
        said.append(
            f"the {_NOUNS.get(flag, 'file')} is another than when this run was made ({detail})"
        )
    return said


_NOUNS = {
    "model": "model", "weights": "file of weights", "labels": "file of labels",
    "reconstruction": "model", "checkpoints": "file of weights", DATA: "data set",
}  # fmt: skip


def _dataset(config: Mapping[str, Any]) -> str:
    data = config.get("data") or config.get("run", {}).get("data", {})
    return f"--dataset={data.get('dataset', '')}"


def verbose() -> Literal[1, 2]:
    """Returns Keras' `verbose`: a progress bar on a terminal, one line per epoch in a log."""
    return 1 if sys.stdout.isatty() else 2
