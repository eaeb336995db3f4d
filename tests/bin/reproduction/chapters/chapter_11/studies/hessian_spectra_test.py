import dataclasses

import keras
import numpy as np
import pytest

import models
from bin.reproduction.chapters.chapter_11.studies import hessian_spectra
from bin.reproduction.engine.contract import Sources
from thesis_tf import datasets, hessian

TINY = hessian_spectra.Config(
    model="mlp", moments=(0, 3, 5), examples=60, largest=2, smallest=2, tol=0.1
)
UNTRAINED = dataclasses.replace(TINY, moments=(0,), largest=1, smallest=0, tol=1e-3)


@pytest.fixture
def of_zeros(monkeypatch):
    """Replaces the network by softmax regression with zero weights; returns lambda_max, the loss.

    All probabilities are 1 / 10 there, so the Hessian is (I - 11' / 10) / 10 times X'X / n.
    """

    def build(name, shape, classes):
        dense = keras.layers.Dense(classes, use_bias=False, kernel_initializer="zeros")
        return keras.Sequential([keras.Input(shape), keras.layers.Flatten(), dense])

    monkeypatch.setattr(models, "build", build)
    train = datasets.load("mnist_mini").train
    x, _ = hessian.fixed_subset(train.x, train.y, fraction=60 / len(train), seed=0)
    flat = np.asarray(x, np.float64).reshape(60, -1)
    return np.linalg.norm(flat, 2) ** 2 / 60 / 10, np.log(10)


def test_an_entry_of_a_known_network(of_zeros):
    (entry,) = hessian_spectra.over_training(UNTRAINED)["entries"]
    assert (entry["step"], entry["smallest"]) == (0, [])
    assert (entry["largest"][0], entry["loss"]) == pytest.approx(of_zeros, rel=1e-4)


def test_steps_of_a_known_network(of_zeros):
    found, (largest, loss) = hessian_spectra.best_steps(UNTRAINED), of_zeros
    assert found["values"] == pytest.approx([largest], rel=1e-4)
    search = found["searches"]["largest"]
    assert search["initial_loss"] == pytest.approx(loss)
    # At 1 / lambda a quadratic loss is slope^2 / (2 lambda) lower; steps this short are quadratic.
    lower = search["slope"] ** 2 / (2 * largest)
    assert search["initial_loss"] - found["at_optimum"] == pytest.approx(lower, rel=0.02)


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
