"""Computes, judges and draws one figure, in a separate process."""

import contextlib
import dataclasses
import datetime
import importlib.metadata
import os
import pathlib
import platform
import textwrap
import time
import traceback
from collections.abc import Iterator
from typing import Any

from bin.reproduction.engine import cache as caches
from bin.reproduction.engine import catalogue, contract, results, study_cache
from thesis_tf.persistence import files

_PACKAGES = ("tensorflow", "keras", "tensorflow-probability", "numpy", "scipy", "thesis_tf")
_LAST_LINES = 12  # the number of lines of a traceback in the report
_LONGEST_LINE = 400  # the maximum number of characters of an error message


@dataclasses.dataclass(frozen=True)
class Failure:
    """Why a figure could not be computed.

    Attributes:
        error: the error in one line.
        traceback: the last lines of the traceback, "" if there is none.
    """

    error: str
    traceback: str = ""


@dataclasses.dataclass(frozen=True)
class Task:
    """The arguments of the process that computes a figure.

    Attributes:
        figure: the figure.
        budget: "quick" or "full".
        sources: the paths of data.
        seed: the seed of all random numbers.
        cache: the folder of the cache.
        threads: the number of threads.
    """

    figure: catalogue.Figure
    budget: str
    sources: contract.Sources
    seed: int
    cache: pathlib.Path
    threads: int

    def config(self) -> contract.Settings:
        """Returns the figure's config, with sources and seed."""
        config: contract.Settings = self.figure.load().CONFIGS[self.budget]
        return config.settled(self.sources, self.seed)

    def environment(self) -> dict[str, str]:
        """Returns environment variables that limit the threads; libraries read them when loaded."""
        threads = str(self.threads)
        return {
            "OMP_NUM_THREADS": threads,
            "OPENBLAS_NUM_THREADS": threads,
            "MKL_NUM_THREADS": threads,
            "TF_NUM_INTRAOP_THREADS": threads,
            "TF_NUM_INTEROP_THREADS": threads,
            "TF_CPP_MIN_LOG_LEVEL": os.environ.get("TF_CPP_MIN_LOG_LEVEL", "2"),
            # Several figures may share a GPU.
            "TF_FORCE_GPU_ALLOW_GROWTH": "true",
        }


def work(task: Task) -> Failure | None:
    """Executes the unfinished parts of a task; output goes to its log.

    Returns:
        None, or the failure.
    """
    log = caches.Cache(task.cache).log(task.figure)
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
        with _printing_to(log):
            try:
                show(task)
            except BaseException:
                traceback.print_exc()
                raise
    except Exception as error:
        lines = "".join(traceback.format_exception(error)).splitlines()
        return Failure(in_a_line(error), "\n".join(lines[-_LAST_LINES:]))
    return None


def in_a_line(error: BaseException) -> str:
    """Returns an error's type and message in one line, truncated if it is long."""
    return textwrap.shorten(f"{type(error).__name__}: {error}", _LONGEST_LINE, placeholder=" ...")


def show(task: Task) -> None:
    """Writes a figure's result to the cache, then its image, claims and texts."""
    cache, config = caches.Cache(task.cache), task.config()
    found, path = _result(task, cache, config), cache.shown(task.figure, config)
    if cache.read(task.figure, config):
        return
    module, result = task.figure.load(), found["result"]
    with files.atomic(path) as partial:
        partial.mkdir(parents=True)
        module.draw(result, partial / caches.PICTURE)
        if not (partial / caches.PICTURE).is_file():
            raise FileNotFoundError(f"{task.figure.module}.draw wrote no image to its path.")
        shown = caches.Shown(
            module.TITLE,
            module.CAPTION,
            tuple(module.claims(result)),
            tuple(result.get("notes", [])),
            tuple(contract.warnings_of(result)),
            config.plain(),
            caches.Made.from_json(found["made"]),
        )
        files.write_json(partial / caches.SHOWN, shown.to_json())


def _result(task: Task, cache: caches.Cache, config: contract.Settings) -> Any:
    """Returns {"result", "made"} of a figure, from the cache or computed."""
    path = cache.result(task.figure, config)
    found = results.read(path)
    if found is None:
        if path.exists():
            print(f"{path} is incomplete and is computed again.")
        start = time.perf_counter()
        with study_cache.kept_in(cache.studies) as used:
            result = task.figure.load().run(config)
        made = caches.Made(
            time.perf_counter() - start,
            used,
            task.threads,
            f"{datetime.datetime.now(datetime.UTC):%Y-%m-%d %H:%M} UTC",
            versions(),
            machine(),
        )
        results.save(path, {"result": result, "made": made.to_json()})
        # Reads the saved result, so that the figure is the same as when drawn from the cache.
        found = results.load(path)
    return found


def versions() -> dict[str, str]:
    """Returns the versions of Python and of the packages that compute."""
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[package] = importlib.metadata.version(package)
    return found


def machine() -> caches.Machine:
    """Returns a description of this machine: processor, cores, memory, accelerators."""
    import tensorflow as tf

    name = platform.processor() or platform.machine()
    with contextlib.suppress(OSError), open("/proc/cpuinfo", encoding="utf-8") as file:
        named = [line.partition(":")[2].strip() for line in file if line.startswith("model name")]
        name = named[0] if named else name
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    devices = [
        tf.config.experimental.get_device_details(device).get("device_name", device.device_type)
        for device in tf.config.list_physical_devices()
        if device.device_type != "CPU"
    ]
    return caches.Machine(
        name,
        os.cpu_count(),
        round(memory),
        tuple(devices),
        f"{platform.system()} {platform.machine()}",
    )


@contextlib.contextmanager
def _printing_to(path: pathlib.Path) -> Iterator[None]:
    """Redirects the output of this process, including that of C++ code, to a file."""
    before = [os.dup(number) for number in (1, 2)]
    with path.open("a", encoding="utf-8", buffering=1) as file:
        try:
            for number in (1, 2):
                os.dup2(file.fileno(), number)
            with contextlib.redirect_stdout(file), contextlib.redirect_stderr(file):
                yield
        finally:
            for number, old in zip((1, 2), before, strict=True):
                os.dup2(old, number)
                os.close(old)
