import dataclasses

import numpy as np
import pytest

from bin.reproduction.chapters.chapter_5.studies import real_valued_gsn
from bin.reproduction.engine import catalogue, results
from bin.reproduction.engine.contract import Sources


@pytest.fixture(scope="module")
def config(tiny_networks):
    return tiny_networks(real_valued_gsn.Config(takes=("faces",)))


@pytest.mark.slow
def test_chains_and_their_nearest_examples(config, tmp_path):
    found = real_valued_gsn.samples(config)
    results.save(tmp_path / "found", found)
    assert found["data"] == "mnist_mini"
    assert found["examples"] == 200
    assert found["images"].shape == (6, 10, 10, 10)
    assert found["nearest"].shape == (10, 10, 10)
    assert found["losses"].shape == (1,)
    assert found["distances"]["samples"].shape == (12, 2)
    assert found["distances"]["held_out"].shape == (20, 2)
    for distances in found["distances"].values():
        assert (distances[:, 0] <= distances[:, 1]).all()
        assert (distances > 0).all()
    assert np.isfinite(found["parzen"]["log_likelihood"])


def test_the_nearest_of_an_example_is_itself():
    x = np.random.default_rng(0).standard_normal((50, 4, 4, 1))
    distances, nearest = real_valued_gsn._nearest(x[7:9], x)
    np.testing.assert_array_equal(nearest, [7, 8])
    np.testing.assert_allclose(distances[:, 0], 0)
    between = np.linalg.norm((x - x[7]).reshape(50, -1), axis=1)
    assert distances[0, 1] == pytest.approx(np.sort(between)[1])


@pytest.mark.parametrize("channels", [(), (1,), (3,)])
def test_faces_of_any_range_and_shape(config, channels, tmp_path):
    x = np.random.default_rng(0).normal(5, 20, (60, 12, 9, *channels)).astype(np.float32)
    np.savez(tmp_path / "faces.npz", x=x)
    config = config.settled(Sources(faces=str(tmp_path / "faces.npz")), 0)
    assert config.data() == "faces"
    for part in dataclasses.astuple(real_valued_gsn._inputs(config))[:3]:
        images = part[0]
        assert images.shape[1:] == (10, 10, 1)
        np.testing.assert_allclose(images.mean(axis=(1, 2, 3)), 0, atol=1e-5)
        np.testing.assert_allclose(images.std(axis=(1, 2, 3)), 1, atol=1e-4)


@pytest.mark.parametrize("shape", [(3, 48, 48), (60, 99), (60, 8, 8, 2), (60, 8, 8, 3, 1)])
def test_what_are_no_faces_is_refused(config, shape, tmp_path):
    np.savez(tmp_path / "faces.npz", x=np.zeros(shape))
    config = config.settled(Sources(faces=str(tmp_path / "faces.npz")), 0)
    with pytest.raises(ValueError, match=r"--faces must be images .* Received: \("):
        real_valued_gsn.samples(config)


@pytest.mark.parametrize("name", ["5.8", "5.9", "5.10"])
def test_without_any_images_a_figure_says_what_is_missing(name):
    full = catalogue.select([name])[0].load().CONFIGS["full"]
    assert full.lacking()[-1] == "--faces or cifar10.npz (--data_dir)"
    assert full.settled(Sources(faces=__file__), 0).lacking() == full.lacking()[:-1]
