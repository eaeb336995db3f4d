"""Computations that several figures share: done once, kept on disk, waited for by the others.

    @studies.shared
    def spectra(config): ...

`spectra(config)` computes. Within `kept_in(folder)` it looks there first, and keeps what it found
there; another process that wants the same waits for it and reads it then.
"""

import contextlib
import contextvars
import fcntl
import functools
import time

from bin.reproduction.engine import code_hash, results
from thesis_tf.persistence import fingerprint

_FOLDER = contextvars.ContextVar("folder", default=None)
_USED = contextvars.ContextVar("used", default=None)


@contextlib.contextmanager
def kept_in(folder):
    """Keeps studies in a folder; yields {name: seconds}, of those that are used meanwhile."""
    used = {}
    tokens = _FOLDER.set(folder), _USED.set(used)
    try:
        yield used
    finally:
        _FOLDER.reset(tokens[0])
        _USED.reset(tokens[1])


def shared(study):
    """Makes a function of a `contract.Settings` one that is computed once (see the module)."""

    @functools.wraps(study)
    def found(config):
        folder = _FOLDER.get()
        if folder is None:
            return study(config)
        name = f"{study.__module__.rpartition('.')[2]}.{study.__name__}"
        key = {"config": config.plain(), "code": code_hash.of_module(study.__module__), "of": name}
        path = folder / f"{name}-{fingerprint.of_json(key)[:16]}"
        with _locked(path.with_suffix(".lock")):
            kept = results.read(path)
            if kept is None:
                start = time.perf_counter()
                result = study(config)
                seconds = time.perf_counter() - start
                results.save(path, {"result": result, "seconds": seconds})
                kept = results.load(path)
        _USED.get()[f"{name} {path.name[-4:]}"] = kept["seconds"]
        return kept["result"]

    return found


@contextlib.contextmanager
def _locked(path):
    # The lock is given back by the system when its process dies.
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
