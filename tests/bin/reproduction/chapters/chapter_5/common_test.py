import dataclasses

import matplotlib.image
import numpy as np
import pytest

from bin.reproduction.chapters.chapter_5 import common
from bin.reproduction.engine.contract import Sources, Verdict


@pytest.mark.parametrize("budget", ["quick", "full"])
def test_networks_of_the_table_have_the_same_protocol(budget):
    networks = common.NETWORKS[budget]
    same = ("dataset", "batch_size", "learning_rate", "decay", "clip", "scored", "corruption")
    for network in networks.values():
        for name in same:
            assert getattr(network, name) == getattr(networks["GSN-2"], name)
    plain, walkback = networks["DAE"], networks["DAE, walkback"]
    assert plain.layers == walkback.layers
    assert plain.epochs[-1] * plain.walkback == walkback.epochs[-1] * walkback.walkback
    scaled = dataclasses.replace(
        networks["GSN-2"], scaling=True, epochs=networks["GSN-2"].epochs[-1:], completed=0
    )
    assert networks["GSN-2, alpha_k"] == scaled
    faces = common.FACES[budget]
    assert faces["scaled"] == dataclasses.replace(faces["plain"], scaling=True)


def test_faces_take_the_place_of_what_stands_in_for_them(tmp_path):
    path = tmp_path / "faces.npz"
    np.savez(path, x=np.zeros((3, 4, 4)))
    for networks, stand_in in zip(common.FACES.values(), ("mnist_mini", "cifar10"), strict=True):
        config = networks["plain"]
        assert config.data() == stand_in
        assert config.settled(Sources(faces=str(path)), 0).data() == "faces"


def test_settled_is_an_order_that_no_longer_changes():
    alphas = np.array([[1, 1.5, 1.4], [1, 1.1, 1.05], [1, 0.9, 0.8], [1, 0.8, 0.7], [1, 0.7, 0.6]])
    assert common.halfway(alphas) == 2
    assert common.settled(alphas)
    # Halfway through these epochs, the second factor was still above the first.
    assert not common.settled(alphas[:3])
    assert not common.settled(alphas[-1:])


def estimate(mean, error, of_chains):
    return {"log_likelihood": mean, "standard_error": error, "chain_standard_error": of_chains}


def test_errors_of_test_examples_and_of_chains_add_up():
    assert common.nats(estimate(10.0, 3.0, 4.0)) == (10, 5)
    assert common.nats(estimate(10.0, 3.0, None)) == (10, 3)
    assert common.more_nats(estimate(10.0, 3.0, 4.0), estimate(4.0, 12.0, None)) == (6, 13)
    quality = [{"unsure": s, "standard_errors": {"unsure": e}} for s, e in ((1, 3), (5, 4))]
    assert common.fewer(*quality) == (4, 5)


def copies(nearest, second, held_out=(10.0, 11.0)):
    found = {"samples": np.array([[8.0, 8.5], [nearest, second]]), "held_out": np.array([held_out])}
    return common.no_copies({"distances": found})


def test_a_copy_is_much_nearer_to_one_example_than_to_others():
    assert copies(9.0, 9.5).verdict == Verdict.HOLDS
    assert copies(0.0, 9.5).verdict == Verdict.DOES_NOT_HOLD
    assert copies(3.0, 9.5).verdict == Verdict.DOES_NOT_HOLD
    assert "ratio of medians 0.85" in copies(9.0, 9.5).measured
    # Samples that are farther away than held-out examples are not samples of these data.
    assert copies(13.0, 13.5).verdict == Verdict.CANNOT_TELL


def test_sheets_are_as_many_images_as_there_are(tmp_path):
    images = np.arange(2 * 3 * 4 * 5, dtype=np.uint8).reshape(2, 3, 4, 5)
    sheet = common.montage(images)
    assert sheet.shape == (9, 17)
    np.testing.assert_array_equal(sheet[5:, 12:], images[1, 2])
    assert (sheet[4] == 255).all()
    common.draw_sheets({"a": sheet, "b": sheet[:4], "c": sheet}, tmp_path / "sheets.png")
    assert matplotlib.image.imread(tmp_path / "sheets.png").shape[1] <= 1100
    found = {"images": np.zeros((20, 10, 8, 8), np.uint8), "nearest": np.ones((10, 8, 8), np.uint8)}
    common.draw_nearest(found, tmp_path / "nearest.png")
    assert (tmp_path / "nearest.png").stat().st_size > 0
