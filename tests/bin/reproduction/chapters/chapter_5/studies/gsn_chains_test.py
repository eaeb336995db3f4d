import dataclasses

import numpy as np
import pytest

from bin.reproduction.chapters.chapter_5.studies import gsn_chains
from bin.reproduction.engine import results


@pytest.fixture(scope="module")
def config(tiny_networks):
    return tiny_networks(gsn_chains.Config(epochs=(0, 1, 10), completed=9, scaling=True))


@pytest.fixture(scope="module")
def found(config):
    return gsn_chains.samples(config)


@pytest.mark.slow
def test_chains_run_at_every_stage(config, found, tmp_path):
    results.save(tmp_path / "found", found)
    assert [stage["epoch"] for stage in found["stages"]] == [0, 1, 3]
    for stage in found["stages"]:
        assert stage["images"].shape == (10, 4, 28, 28)
        assert stage["images"].dtype == np.uint8
        assert stage["changes"].shape == (4,)
        assert stage["changes"].mean() == pytest.approx(stage["quality"]["changes_per_100_steps"])
        for name in ("parzen", "conservative"):
            assert "8 samples (chains: 2, steps: 4), 50 test" in stage[name]["protocol"]
    assert found["losses"].shape == (3,)
    assert found["losses"][2] < found["losses"][0]
    assert found["alphas"].shape == (3, 4)
    assert (found["alphas"][:, 0] == 1).all()
    assert (found["alphas"][2, 1:] != 1).all()
    assert found["examples"] == 200
    # Training improves the samples.
    scores = [stage["parzen"]["log_likelihood"] for stage in found["stages"]]
    assert scores[2] > scores[0]


@pytest.mark.slow
def test_what_is_known_is_held(config, found):
    completions = found["completions"]
    assert completions["held"]
    assert completions["mask"].sum() == 28 * 14
    assert completions["mask"][:, 0].all()
    assert completions["images"].shape == (3, 5, 28, 28)
    known = completions["mask"]
    assert (completions["images"][:, :, known] == completions["truth"][:, known]).all()
    assert (completions["images"][:, :, ~known] != completions["truth"][:, ~known]).any()
    assert completions["deviations"].shape == (5,)
    assert (completions["deviations"] > 0).all()


@pytest.mark.slow
def test_stages_do_not_change_the_training(config, found):
    alone = dataclasses.replace(config, epochs=(3,), completed=0)
    once = gsn_chains.samples(alone)
    np.testing.assert_allclose(once["losses"], found["losses"], rtol=1e-5)
    np.testing.assert_array_equal(once["stages"][0]["images"], found["stages"][2]["images"])
    assert once["completions"] is None


def test_pixels():
    images = np.array([[[[-1.0], [0.0], [0.5], [1.0], [2.0]]]])
    np.testing.assert_array_equal(gsn_chains.pixels(images), [[[0, 0, 128, 255, 255]]])
