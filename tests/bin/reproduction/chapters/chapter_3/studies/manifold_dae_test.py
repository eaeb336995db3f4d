import dataclasses

import numpy as np
import pytest

from bin.reproduction.chapters.chapter_3.studies import manifold_dae
from bin.reproduction.engine.contract import Sources

TINY = manifold_dae.Config(examples=400, test=200, units=16, scales=(0.1,), iterations=4)


@pytest.fixture(scope="module")
def found():
    return manifold_dae.trained(TINY)


def test_one_is_trained_and_is_itself_again(found):
    assert len(found["losses"]) == 4
    assert found["losses"][-1] < found["losses"][0]
    shapes = [np.shape(w) for name in ("encoder", "decoder") for w in found["weights"][name]]
    assert shapes == [(2, 16), (16,), (16, 2), (2,)]
    x = manifold_dae.load(TINY).test.x
    (kernel, bias), (back, offset) = (found["weights"][n] for n in ("encoder", "decoder"))
    np.testing.assert_allclose(
        manifold_dae.estimator(TINY, found).reconstruct(x),
        np.tanh(x @ kernel + bias) @ back + offset,
        atol=1e-5,
    )


def test_losses_are_in_units_of_the_noise(found):
    losses = manifold_dae.losses(TINY, found)
    # The loss of the identity is the noise of two values.
    assert losses["identity"] == pytest.approx(2, abs=6 * (2 / 200) ** 0.5)
    assert losses["kernel density"] < losses["identity"]
    noisy = manifold_dae.noisy(TINY, manifold_dae.load(TINY).test.x)
    off = manifold_dae.estimator(TINY, found).reconstruct(noisy) - manifold_dae.load(TINY).test.x
    assert losses["r"] == pytest.approx(np.sum(off**2) / 200 / 0.01**2)


def test_repeats_and_seeds_draw_anew(found):
    repeat = dataclasses.replace(TINY, repeat=1)
    assert (manifold_dae.load(repeat).train.x != manifold_dae.load(TINY).train.x).any()
    assert manifold_dae.load(TINY.settled(Sources(), 1)).train.x.tolist() == (
        manifold_dae.load(repeat).train.x.tolist()
    )
    again, other = (manifold_dae.trained(c)["weights"]["encoder"][0] for c in (TINY, repeat))
    np.testing.assert_allclose(again, found["weights"]["encoder"][0], rtol=1e-4, atol=1e-4)
    assert abs(other - again).max() > 0.1


def test_other_noise_and_another_start(found):
    sampled = manifold_dae.trained(dataclasses.replace(TINY, noise="sampled"))
    assert abs(sampled["weights"]["encoder"][0] - found["weights"]["encoder"][0]).max() > 0.1
    random = manifold_dae.trained(dataclasses.replace(TINY, initialization="keras"))
    # Glorot's weights are small, and remain small in four iterations.
    assert abs(random["weights"]["encoder"][0]).max() < 5
    assert abs(found["weights"]["encoder"][0]).max() > 5
    ten = dataclasses.replace(TINY, dataset="manifold10d", sigma=0.1)
    assert manifold_dae.trained(ten)["weights"]["decoder"][0].shape == (16, 10)


def test_streams_of_noise_differ():
    x = np.zeros((1000, 2))
    first, same, other = (manifold_dae.noisy(TINY, x, stream) for stream in (0, 0, 1))
    assert first.tolist() == same.tolist()
    assert abs(np.corrcoef(first.ravel(), other.ravel())[0, 1]) < 0.1
    assert first.std() == pytest.approx(0.01, rel=0.1)
