import json

import numpy as np
import pytest

from thesis_tf.autoencoders import ScoreEstimator, ScoreField, score_field

RNG = np.random.default_rng(0)
PULL = ScoreEstimator(lambda x: 0.5 * x, sigma=0.1)


@pytest.mark.parametrize("shape", [(2,), (5,), (3, 3, 1)])
def test_a_grid_in_a_plane(shape):
    data = RNG.normal(size=(60, *shape))
    field = score_field(PULL, data, num_arrows=7)
    assert field.points.shape[1:] == shape
    assert 7 * 9 <= len(field.points) <= 9 * 9
    np.testing.assert_allclose(field.reconstruction, field.points / 2)
    flat = field.points.reshape(len(field.points), -1)
    assert np.linalg.matrix_rank(flat - flat[0], tol=1e-9) == 2
    np.testing.assert_array_equal(field.data, data)
    # Distances within the plane are those of the coordinates, and examples are in the grid.
    coordinates = field.project(field.points)
    distances = np.linalg.norm(coordinates - coordinates[0], axis=1)
    np.testing.assert_allclose(distances, np.linalg.norm(flat - flat[0], axis=1), atol=1e-9)
    shown = field.project(data)
    assert (coordinates.min(axis=0) < shown.min(axis=0)).all()
    assert (shown.max(axis=0) < coordinates.max(axis=0)).all()


def test_the_plane_has_the_most_variance():
    data = RNG.normal(size=(400, 4)) * [1, 5, 0.1, 3]
    field = score_field(PULL, data, num_arrows=3)
    np.testing.assert_allclose(abs(field.axes), np.eye(4)[:, [1, 3]], atol=0.1)
    np.testing.assert_allclose(field.project(data).mean(axis=0), 0, atol=1e-9)


def test_a_line_of_one_value():
    data = RNG.normal(size=(60, 1)).astype(np.float32)
    field = score_field(PULL, data)
    assert field.points.shape == (400, 1)
    assert field.points.dtype == np.float32
    np.testing.assert_allclose(field.reconstruction, field.points / 2)
    assert field.project(data).shape == (60, 1)


def test_a_constant_coordinate():
    field = score_field(PULL, RNG.normal(size=(60, 2)) * [1, 0], num_arrows=20)
    assert np.ptp(field.points[:, 1]) > 0
    assert len(field.points) == 9 * 20


def test_in_short_and_saved(tmp_path):
    points = np.array([[0.0, 0], [3, 4], [6, 8]])
    field = ScoreField(points, points / 2, points, np.zeros(2), np.eye(2), 0.5)
    assert field.table() == (
        "            least  25 %  median  75 %  most\n|r(x) - x|      0  1.25     2.5  3.75     5"
    )
    assert repr(field) == "ScoreField(points=3, median_move=2.5, largest_move=5)"
    assert json.loads(json.dumps(field.summary())) == {
        "points": 3,
        "median_move": 2.5,
        "largest_move": 5.0,
    }
    field.save(tmp_path / "field.npz")
    again = ScoreField.load(tmp_path / "field.npz")
    for name, value in vars(field).items():
        np.testing.assert_array_equal(getattr(again, name), value)
