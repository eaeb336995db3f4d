"""Replaces the trainings of chapter 7 by short ones, which its figures and its table share."""

import dataclasses
import os

import pytest

from bin.reproduction.engine import study_cache


@pytest.fixture
def tiny(shared_trainings):
    """Returns a function from a figure's module to its quick config with tiny trainings."""

    def make(module):
        quick = module.CONFIGS["quick"]
        small = {
            "examples": (256, 64, 64),
            "units": (16,),
            "steps": 8,
            "refresh_every": 4,
            "evaluate_every": 4,
            "runs": 2,
        }
        settings = tuple(dataclasses.replace(setting, **small) for setting in quick.settings)
        return dataclasses.replace(quick, settings=settings)

    return make


@pytest.fixture
def shared_trainings(tmp_path_factory):
    """Trains once for all figures, in the first of pytest's processes that needs it."""
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent
    with study_cache.kept_in(folder / "chapter_7"):
        yield
