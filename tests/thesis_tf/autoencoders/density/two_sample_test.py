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


def test_sentences():
    rng = np.random.default_rng(0)
    first, second = rng.normal(size=(2, 400, 2))
    assert nearest_neighbor_test(first, second).warnings() == []
    apart = nearest_neighbor_test(first, second + 3)
    assert apart.warnings()[0].startswith("The samples have different distributions")
    assert apart.warnings()[0] in apart.table()
    copied = nearest_neighbor_test(first, first + 1e-9, num_neighbors=1)
    assert "copy of the other" in copied.warnings()[0]


@pytest.mark.parametrize("change", [lambda x: x, lambda x: x + 1e6, lambda x: 1e-20 * x])
@pytest.mark.parametrize("dtype", ["float32", "float64", ">f8"])
def test_offsets_scales_and_dtypes(change, dtype):
    rng = np.random.default_rng(0)
    first, second = rng.normal(size=(2, 60, 2)).round(1) + rng.normal(size=(2, 60, 2)) / 8
    pair = [change(x).astype(dtype) for x in (first, second)]
    votes = 0
    both = np.concatenate([x.astype(np.longdouble) for x in pair])
    for index, point in enumerate(both):
        order = np.argsort(np.square(both - point).sum(axis=1))
        order = order[order != index][:5]
        votes += ((order >= 60).mean() > 0.5) == (index >= 60)
    # Points that float32 rounds to equal distances may be taken in another order.
    assert nearest_neighbor_test(*pair).accuracy == pytest.approx(votes / 120, abs=0.05)


@pytest.mark.parametrize(
    ("first", "second", "match"),
    [
        (np.zeros((9, 2)), np.zeros((9, 3)), "points of one shape"),
        (np.full((9, 2), np.nan), np.zeros((9, 2)), "must be finite"),
    ],
)
def test_samples_that_cannot_be_compared(first, second, match):
    with pytest.raises(ValueError, match=match):
        nearest_neighbor_test(first, second)
