import dataclasses
import subprocess
import sys
import textwrap

import numpy as np
import pytest

from bin.reproduction.engine import study_cache
from bin.reproduction.engine.contract import Settings

calls = []


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(Settings):
    size: int = 3


def square(config):
    """Docs."""
    calls.append(config)
    if config.size < 0:
        raise ValueError("negative")
    return {"numbers": np.arange(config.size) ** 2, "size": (config.size,)}


# The hash is of the code of a module in the tree.
square.__module__ = "bin.reproduction.chapters.studies"
study = study_cache.shared(square)


@pytest.fixture(autouse=True)
def no_calls():
    calls.clear()


def test_without_a_folder_it_computes():
    assert study(Config())["size"] == (3,)
    assert study(Config())["size"] == (3,)
    assert len(calls) == 2
    assert study.__doc__ == "Docs."


def test_with_a_folder_it_computes_once_for_each_config(tmp_path):
    with study_cache.kept_in(tmp_path) as used:
        first, second = study(Config()), study(Config())
        other = study(Config(size=4))
    assert len(calls) == 2
    np.testing.assert_array_equal(first["numbers"], second["numbers"])
    assert first["size"] == [3]
    assert len(other["numbers"]) == 4
    assert len(used) == 2
    assert all(seconds >= 0 for seconds in used.values())
    with study_cache.kept_in(tmp_path) as used:
        study(Config())
    assert len(calls) == 2
    assert len(used) == 1


def test_one_that_fails_leaves_nothing(tmp_path):
    with study_cache.kept_in(tmp_path):
        for _ in range(2):
            with pytest.raises(ValueError, match="negative"):
                study(Config(size=-1))
    assert len(calls) == 2
    assert [path.suffix for path in tmp_path.iterdir()] == [".lock"]


def test_two_processes_compute_once(tmp_path):
    script = textwrap.dedent("""
        import pathlib, sys, time
        from bin.reproduction.engine import study_cache
        from bin.reproduction.engine.contract import Settings
        folder = pathlib.Path(sys.argv[1])
        def slow(config):
            with (folder / "calls.txt").open("a") as file:
                file.write("call\\n")
            time.sleep(1)
            return {"seed": config.seed}
        slow.__module__ = "bin.reproduction.chapters.studies"
        with study_cache.kept_in(folder / "studies"):
            assert study_cache.shared(slow)(Settings(seed=3)) == {"seed": 3}
    """)
    command = [sys.executable, "-c", script, str(tmp_path)]
    processes = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    for process in processes:
        _, errors = process.communicate(timeout=900)
        assert process.returncode == 0, errors
    assert (tmp_path / "calls.txt").read_text() == "call\n"
