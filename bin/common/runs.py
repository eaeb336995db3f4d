"""Output folders: one run each, never overwritten by accident, and the same run goes on."""

import contextlib
import dataclasses
import json
import logging as python_logging
import math
import os
import pathlib
import re
import shutil
import sys
import tempfile
import zipfile
import zlib

from absl import flags, logging

from bin.common.flags import UsageError
from thesis_tf.persistence import files

CONFIG = "config.json"
# What may be another from call to call of one run: where its data are.
_PLACES = ("data_dir",)
_NOT_OURS = (
    "--output_dir={} has files in it that are not a run of this program. Choose an empty folder."
)


def read_arrays(flag, path, wanted, needed=None):
    """Returns the arrays of the .npz file that a flag names, {name: array}.

    Args:
        flag: its name.
        path: the file.
        wanted: which .npz file is, for the error.
        needed: an array that must be there.

    Raises:
        ValueError: there is no file, or it is none that `wanted` says; Python objects are not read.
    """
    import numpy as np

    if not pathlib.Path(path).is_file():
        raise ValueError(f"--{flag}={path} must be an existing .npz file.")
    arrays = {}
    try:
        if zipfile.is_zipfile(path):
            with np.load(path, allow_pickle=False) as file:
                arrays = dict(file)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error):
        arrays = {}
    if not arrays or (needed and needed not in arrays):
        raise ValueError(f"--{flag}={path} must be a whole .npz file {wanted}.")
    return arrays


@contextlib.contextmanager
def clean_errors(argv):
    """Ends the program with one line, and no traceback, for an error that is the user's.

    `--verbosity=1` shows the traceback as well.
    """
    # What TensorFlow says of itself, and urllib3 of each attempt at a download; errors still show.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    for name in ("tensorflow", "urllib3"):
        python_logging.getLogger(name).setLevel(python_logging.ERROR)
    if not flags.FLAGS["verbosity"].present:
        logging.set_verbosity(logging.WARNING)
    try:
        if len(argv) > 1:
            raise UsageError(f"Unknown argument {argv[1]!r}: flags are written --name=value.")
        check_flags(sys.argv[0])
        yield
    except KeyboardInterrupt:
        sys.exit("\nInterrupted. The same command goes on from where it was.")
    except UsageError as error:
        sys.exit(f"error: {_in_flags(str(error), sys.argv[0])}")
    except (ValueError, TypeError, OSError, ImportError) as error:
        logging.debug("", exc_info=True)
        sys.exit(f"error: {_in_flags(str(error), sys.argv[0])}\n(--verbosity=1 shows where.)")


def _in_flags(message, program):
    """Names flags where an error of the library names its arguments: --data_dir, `data_dir`."""
    # An array of labels is no --labels of bin.probe.
    known = {flag.name for flag in flags.FLAGS.get_key_flags_for_module(program)} - {"labels"}
    names = {"name_or_path": "dataset"} | {name: name for name in known}
    return re.sub(r"`(\w+)`", lambda m: f"--{names[m[1]]}" if m[1] in names else m[0], message)


def check_flags(program):
    """Raises UsageError for flags of other programs, and for numbers that are not finite.

    All programs know the flags that some share, and would ignore those they have no use for.

    Args:
        program: `sys.argv[0]`, by which absl knows the main module.
    """
    known = {flag.name for flag in flags.FLAGS.get_key_flags_for_module(program)}
    given = {name: flags.FLAGS[name].value for name in flags.FLAGS if flags.FLAGS[name].present}
    others = {
        name
        for name in given.keys() - known
        if flags.FLAGS.find_module_defining_flag(name).startswith("bin.")
    }
    refuse(others, "other programs have this, not this one; --help lists what it takes")
    for name, value in given.items():
        if isinstance(value, float) and not math.isfinite(value):
            raise UsageError(f"--{name} must be a finite number. Received: {value}.")


def refuse(names, why):
    """Raises UsageError for flags that were given and have no effect."""
    if names:
        given = ", ".join(f"--{name}" for name in sorted(names))
        raise UsageError(f"Leave out {given}: {why}.")


def refuse_given(names, why):
    """Raises UsageError for those of the flags that were given, whatever they were set to."""
    refuse([name for name in names if flags.FLAGS[name].present], why)


def existing(folder):
    """Returns the path of a folder that holds a run; raises UsageError if it holds none."""
    folder = pathlib.Path(folder).expanduser()
    if not (folder / CONFIG).exists():
        raise UsageError(f"--output_dir={folder} holds no run. Give --do=train first.")
    return folder


def read_config(folder):
    """Returns the config of the run that `folder` holds as JSON reads it, lists as tuples."""
    return _with_tuples(files.read_json(folder / CONFIG))


def _with_tuples(value):
    if isinstance(value, dict):
        return {key: _with_tuples(part) for key, part in value.items()}
    return tuple(map(_with_tuples, value)) if isinstance(value, list) else value


def writable(flag, folder):
    """Returns the path of the folder that a flag names, and makes it; UsageError if it can't."""
    folder = pathlib.Path(folder).expanduser()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise UsageError(
            f"--{flag}={folder} can't be written to ({error.strerror}). Choose another."
        ) from error
    return folder


def claim(folder, config, overwrite=False):
    """Sees whether `folder` can be this run's own, before any work; changes nothing in it.

    Args:
        folder: the path; made if it is not there.
        config: a frozen dataclass that says what the run is. A folder with an equal one holds the
            same run, which may go on; its data may have moved.
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
        # Many programs write a config.json; a folder is only emptied if this one wrote it.
        # That of an older version may lack a setting, or have one more.
        if not isinstance(found, dict) or not (
            set() < found.keys() <= wanted.keys() or found.keys() >= wanted.keys()
        ):
            raise UsageError(_NOT_OURS.format(folder))
        differing = _differences(found, wanted)
        if differing and not overwrite:
            raise UsageError(
                f"--output_dir={folder} holds another run: {'; '.join(differing)}. Choose another"
                " folder, or give --overwrite to delete that run."
            )
    elif [name for name in os.listdir(folder) if not name.startswith(".")]:
        # Hidden files may be those that another worker of the same run is about to rename.
        raise UsageError(_NOT_OURS.format(folder))
    return folder


def begin(folder, config):
    """Makes a claimed folder this run's own, emptying it of another: all flags are known to fit."""
    if (folder / CONFIG).exists():
        found, wanted = _read(folder / CONFIG), _plain(config)
        if found == wanted:
            return
        if _differences(found, wanted):
            for entry in list(folder.iterdir()):
                shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
    files.write_json(folder / CONFIG, _plain(config))


def _read(path):
    try:
        return files.read_json(path)
    except ValueError as error:
        raise UsageError(f"{error} Choose another --output_dir, or delete that one.") from None


def _plain(config):
    """The config as JSON reads it again."""
    return json.loads(json.dumps(dataclasses.asdict(config)))


def _differences(found, wanted, prefix=""):
    """Lists in words where two configs differ."""
    said = []
    for key in sorted(found.keys() | wanted.keys()):
        there, here = found.get(key), wanted.get(key)
        if key in _PLACES:
            continue
        if isinstance(there, dict) and isinstance(here, dict):
            said += _differences(there, here, f"{prefix}{key}.")
        elif there != here:
            said.append(f"{prefix}{key} is {json.dumps(there)} there and {json.dumps(here)} here")
    return said


def progress():
    """Keras' `verbose`: a bar on a terminal, a line an epoch in a log."""
    return 1 if sys.stdout.isatty() else 2
