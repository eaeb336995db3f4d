import dataclasses

import numpy as np
import pytest

from bin.reproduction.chapters.chapter_7 import common
from bin.reproduction.engine.contract import Sources


def setting(uniform, importance, of_examples=0.0):
    curves = {
        method: {name: np.array(errors) for name in ("train_error", "test_error")}
        for method, errors in (("uniform", uniform), ("importance", importance))
    }
    errors = {"while_training": of_examples, "at_the_end": of_examples}
    return {"curves": curves, "errors_of_examples": errors}


def test_errors_are_compared_run_by_run():
    found = setting([[0.9, 0.5, 0.4], [0.9, 0.3, 0.2]], [[0.7, 0.4, 0.2], [0.7, 0.2, 0.0]])
    # The runs differ by .2, the methods by .1 and .2 within a run; step 0 doesn't count.
    lower, error = common.lower(found, "train_error", "while_training")
    assert (lower, error) == (pytest.approx(0.15), pytest.approx(0, abs=1e-12))
    assert common.lower(found, "train_error", "at_the_end")[0] == pytest.approx(0.2)


def test_test_examples_are_a_sample_and_training_examples_all_there_are():
    found = setting([[0.9, 0.4], [0.9, 0.8]], [[0.9, 0.4], [0.9, 0.2]], of_examples=0.4)
    assert common.lower(found, "train_error", "at_the_end") == pytest.approx((0.3, 0.3))
    assert common.lower(found, "test_error", "at_the_end") == pytest.approx((0.3, 0.5))


def test_one_run_tells_nothing():
    assert common.mean_and_error(np.array([0.5])) == (0.5, np.inf)


def test_a_difference_in_words():
    assert common.in_words(0.25, 0.01) == "lower by 0.2500 ± 0.0100"
    assert common.in_words(-0.25, 0.01) == "higher by 0.2500 ± 0.0100"


def test_full_settings_are_the_thesis_and_one_more():
    full = common.configs(1, 1)["full"].settled(Sources(data_dir="/nowhere"), 3)
    assert [s.datasets for s in full.settings] == [("svhn", "cifar10")] * 2 + [("mnist",)]
    assert {s.seed for s in full.settings} == {3}
    # The figure's config lists the needs of all settings.
    assert {name for s in full.settings for name in s.needs} <= set(full.needs)
    assert {name for s in full.settings for name in s.takes} <= set(full.takes)
    quick = common.configs(1, 1)["quick"]
    thesis = [(0.01, "10", 0.95, 128), (0.001, "1", 0.95, 128)]
    for settings in (quick.settings, full.settings[:2]):
        shown = [(s.learning_rate, s.smoothing, s.momentum, s.batch_size) for s in settings]
        assert shown == thesis
    # Every evaluation comes with gradient variances.
    for s in (*quick.settings, *full.settings):
        assert s.evaluate_every % s.refresh_every == 0
        assert s.steps % s.evaluate_every == 0


def test_a_stand_in_is_named(monkeypatch):
    config = common.configs(1, 1)["full"]
    runs = {"label": "L", "examples": {"train": 10_000, "test": 5}}
    for dataset, stands_in in (("cifar10", True), ("svhn", False)):
        monkeypatch.setattr(
            common.importance_sampling, "compared", lambda _, d=dataset: runs | {"dataset": d}
        )
        (*stand_in, first) = common.result_of(
            dataclasses.replace(config, settings=config.settings[:1])
        )["notes"]
        assert stand_in == ["CIFAR-10 stand in for SVHN, which the thesis trains on."] * stands_in
        assert first.startswith("L: 10,000 training and 5 test examples, 4 layers of 512 units")
