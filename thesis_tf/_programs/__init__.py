"""Starts the programs as console scripts: `thesis-probe` runs `bin.probe`.

A wheel holds copies of `bin` and `models` in the folder of this file, which `setup.py` creates; an
editable install runs those of the checkout. Packages of these names would collide with others in
site-packages, so they are importable only in the process of a program.
"""

import functools
import pathlib
import runpy
import sys
from collections.abc import Callable

_HERE = pathlib.Path(__file__).resolve().parent


def _root() -> pathlib.Path:
    """Returns the folder that holds `bin` and `models`."""
    return _HERE if (_HERE / "bin").is_dir() else _HERE.parents[1]


def _run(program: str) -> None:
    sys.path.insert(0, str(_root()))
    runpy.run_module(f"bin.{program}", run_name="__main__", alter_sys=True)


def __getattr__(name: str) -> Callable[[], None]:
    """Returns the function that runs the program of that name; console scripts import it."""
    if name.startswith("_") or not (_root() / "bin" / f"{name}.py").is_file():
        raise AttributeError(f"There is no program {name}.")
    return functools.partial(_run, name)
