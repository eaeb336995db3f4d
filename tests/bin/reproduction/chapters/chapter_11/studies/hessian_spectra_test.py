import dataclasses

import numpy as np
import pytest

from bin.reproduction.chapters.chapter_11.studies import hessian_spectra
from bin.reproduction.engine.contract import Sources

TINY = hessian_spectra.Config(
    model="mlp", moments=(0, 3, 5), examples=60, largest=2, smallest=2, tol=0.1
)


@pytest.fixture(scope="module")
def history():
    return hessian_spectra.over_training(TINY)


@pytest.fixture(scope="module")
def steps():
    return hessian_spectra.best_steps(TINY)


@pytest.mark.slow
def test_training_stops_at_every_moment_and_goes_on(history):
    assert [entry["step"] for entry in history["entries"]] == [0, 3, 5]
    losses = [entry["loss"] for entry in history["entries"]]
    assert losses[0] == pytest.approx(np.log(10), abs=0.3)
    assert losses[2] < losses[1] < losses[0]
    in_one_go = hessian_spectra.over_training(dataclasses.replace(TINY, moments=(5,)))
    assert in_one_go["entries"][0]["loss"] == pytest.approx(losses[2], rel=1e-4)


@pytest.mark.slow
def test_eigenpairs_and_steps_are_of_the_last_moment(history, steps):
    last = history["entries"][-1]
    assert steps["step"] == 5
    assert len(steps["values"]) == len(steps["residuals"]) == len(steps["steps"]) == 4
    # The error of an eigenvalue is at most its residual, and usually about the residual squared.
    np.testing.assert_allclose(steps["values"][[0, 1]], last["smallest"], rtol=0.1)
    np.testing.assert_allclose(steps["values"][[3, 2]], last["largest"], rtol=0.1)
    for step in steps["steps"]:
        assert step["loss"] + step["decrease"] == pytest.approx(last["loss"], rel=1e-4)


@pytest.mark.slow
def test_line_searches_are_along_the_outermost_two(steps):
    for name, i in (("smallest", 0), ("largest", -1)):
        search, best = steps["searches"][name], steps["steps"][i]
        assert search["curvature"] == steps["values"][i]
        assert search["alphas"][-1] == pytest.approx(2 * best["alpha"])
        assert search["loss"].min() >= best["loss"] - 1e-3 * search["initial_loss"]
    fell = steps["searches"]["largest"]["initial_loss"] - steps["at_optimum"]
    assert fell <= steps["steps"][-1]["decrease"] * 1.01


@pytest.mark.slow
def test_notes_say_what_it_is_of(history, steps):
    (note,) = history["notes"]
    assert "8,100 MNIST digits" in note
    assert "253 steps per epoch" in note
    assert note.endswith("of 60 of these examples.")
    assert (history["data"], history["epoch"]) == ("mnist_mini", 253)
    assert note in steps["notes"]


@pytest.mark.slow
def test_the_seed_is_of_everything(history):
    other = hessian_spectra.over_training(
        dataclasses.replace(TINY, moments=(0,)).settled(Sources(), 1)
    )
    assert other["entries"][0]["loss"] != history["entries"][0]["loss"]
