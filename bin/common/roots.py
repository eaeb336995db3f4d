"""Paths of this project's packages, which are laid out differently in a checkout and in a wheel."""

import pathlib

import thesis_tf


def programs() -> pathlib.Path:
    """Returns the folder that holds the packages `bin` and `models`.

    `python -m bin.NAME` runs a program in a process that is started in this folder.
    """
    return pathlib.Path(__file__).resolve().parents[2]


def of_package(package: str) -> pathlib.Path:
    """Returns the folder that holds a package of this project: `thesis_tf`, `models` or `bin`."""
    if package == "thesis_tf":
        return pathlib.Path(thesis_tf.__file__).resolve().parents[1]
    return programs()
