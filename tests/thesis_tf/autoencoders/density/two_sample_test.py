import json

import numpy as np
import pytest

from thesis_tf.autoencoders import TwoSampleTest, nearest_neighbor_test

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("size", [1, 3, 10])
def test_chance_and_certainty(size):
    first, second = RNG.normal(size=(2, 2000, size))
    found = nearest_neighbor_test(first, second)
    # Neighbors share votes, which at most doubles the variance here.
    assert found.accuracy == pytest.approx(0.5, abs=6 * found.standard_error)
    assert found.standard_error == pytest.approx(0.5 / 4000**0.5)
    assert nearest_neighbor_test(first, second + 100).accuracy == 1
    shifted = nearest_neighbor_test(first, second + 0.7).accuracy
    assert shifted > 0.5 + 6 * found.standard_error


def test_against_scikit_learn():
    neighbors = pytest.importorskip("sklearn.neighbors")
    selection = pytest.importorskip("sklearn.model_selection")
    first, second = RNG.normal(size=(60, 2)), RNG.normal(size=(60, 2)) + 0.5
    x, y = np.concatenate([first, second]), np.repeat([0, 1], 60)
    scores = selection.cross_val_score(
        neighbors.KNeighborsClassifier(7), x, y, cv=selection.LeaveOneOut()
    )
    assert nearest_neighbor_test(first, second, num_neighbors=7).accuracy == pytest.approx(
        scores.mean()
    )


def test_repeated_points_are_not_their_own_neighbors():
    x = np.repeat(RNG.normal(size=(5, 2)), 20, axis=0)
    found = nearest_neighbor_test(x, x + 1e-3).accuracy
    assert found == 1


def test_images_and_unequal_numbers():
    found = nearest_neighbor_test(RNG.normal(size=(40, 2, 2, 1)), RNG.normal(size=(90, 2, 2, 1)))
    assert found.standard_error == pytest.approx(0.5 / 80**0.5)


@pytest.mark.parametrize(
    ("count", "num_neighbors", "match"),
    [(10, 4, "odd"), (5, 5, "of more than 5"), (9, 0, "positive")],
)
def test_bad_input(count, num_neighbors, match):
    x = RNG.normal(size=(count, 2))
    with pytest.raises(ValueError, match=match):
        nearest_neighbor_test(x, x, num_neighbors=num_neighbors)


def test_a_result_in_short():
    found = TwoSampleTest(0.75, 0.125, 5)
    assert found.table() == (
        "accuracy  by chance  standard error  neighbors\n"
        "0.75            0.5           0.125          5"
    )
    assert repr(found) == "TwoSampleTest(accuracy=0.75, standard_error=0.125, num_neighbors=5)"
    assert json.loads(json.dumps(found.summary())) == {
        "accuracy": 0.75,
        "standard_error": 0.125,
        "num_neighbors": 5,
    }
