import warnings

import numpy as np
import pytest

from thesis_tf.autoencoders import DataRegion, OutsideDataWarning

RNG = np.random.default_rng(0)


def test_distances_are_to_the_nearest_example():
    data, x = RNG.normal(size=(30, 2, 2)), RNG.normal(size=(5, 2, 2))
    pairs = np.linalg.norm((x[:, None] - data[None]).reshape(5, 30, 4), axis=-1)
    np.testing.assert_allclose(DataRegion(data, 0.1).distances(x), pairs.min(axis=1))


def test_noise_of_sigma_stays_inside_and_ten_times_as_much_does_not():
    data = RNG.normal(size=(200, 10))
    region = DataRegion(data, 0.1)
    noise = RNG.normal(size=data.shape)
    assert region.contains(data + 0.1 * noise).mean() > 0.99
    assert not region.contains(data + 100 * noise).any()


def test_only_points_outside_are_warned_of():
    region = DataRegion(np.zeros((1, 2)), 0.1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        region.warn(np.full((3, 2), 0.1), "The path", 1)
    with pytest.warns(OutsideDataWarning, match="The path leaves the region .* 1 of 2 points"):
        region.warn(np.array([[0.0, 0.0], [9.0, 0.0]]), "The path", 1)
