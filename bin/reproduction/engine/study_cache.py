"""A cache on disk for computations that several figures share; each is executed only once.

    @study_cache.shared
    def spectra(config): ...

`spectra(config)` computes. Within `kept_in(folder)`, the result is read from this folder if it
exists there, and otherwise computed and saved. Another process that needs the same result waits for
it and then reads it.
"""

import contextlib
import contextvars
import functools
import pathlib
import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from bin.reproduction.engine import code_hash, results
from bin.reproduction.engine.contract import Settings
from thesis_tf.persistence import fingerprint, locks

_Config = TypeVar("_Config", bound=Settings)
_FOLDER = contextvars.ContextVar[pathlib.Path | None]("folder", default=None)
_USED = contextvars.ContextVar[dict[str, float] | None]("used", default=None)


@contextlib.contextmanager
def kept_in(folder: pathlib.Path) -> Iterator[dict[str, float]]:
    """Caches studies in a folder; yields {name: seconds} of the studies that are used."""
    used: dict[str, float] = {}
    tokens = _FOLDER.set(folder), _USED.set(used)
    try:
        yield used
    finally:
        _FOLDER.reset(tokens[0])
        _USED.reset(tokens[1])


def shared(study: Callable[[_Config], dict[str, Any]]) -> Callable[[_Config], dict[str, Any]]:
    """Returns a cached version of a function of a `contract.Settings` (see the module)."""

    @functools.wraps(study)
    def found(config: _Config) -> dict[str, Any]:
        folder, used = _FOLDER.get(), _USED.get()
        if folder is None or used is None:
            return study(config)
        name = f"{study.__module__.rpartition('.')[2]}.{study.__name__}"
        key = {"config": config.plain(), "code": code_hash.of_module(study.__module__), "of": name}
        path = folder / f"{name}-{fingerprint.of_json(key)[:16]}"
        with locks.locked(path.with_suffix(".lock"), wait=True):
            kept = results.read(path)
            if kept is None:
                start = time.perf_counter()
                result = study(config)
                seconds = time.perf_counter() - start
                results.save(path, {"result": result, "seconds": seconds})
                kept = results.load(path)
        used[f"{name} {path.name[-4:]}"] = kept["seconds"]
        result = kept["result"]
        assert isinstance(result, dict)
        return result

    return found
