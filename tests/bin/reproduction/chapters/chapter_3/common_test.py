import numpy as np
import pytest

from bin.reproduction.chapters.chapter_3 import common
from thesis_tf import autoencoders


def towards_the_origin():
    return autoencoders.ScoreEstimator(lambda x: 0.5 * x, sigma=0.1)


def test_a_field_is_r_less_x_on_a_square():
    field = common.field(towards_the_origin(), (1.0, 2.0), 0.5, points_per_side=3)
    assert field["points"].shape == (9, 2)
    assert field["points"].min(axis=0).tolist() == [0.5, 1.5]
    assert field["points"].max(axis=0).tolist() == [1.5, 2.5]
    np.testing.assert_allclose(field["moves"], -field["points"] / 2)


def test_the_square_is_twice_as_wide_as_the_data():
    middle, reach = common.middle_and_reach(np.array([[0.0, 1.0], [4.0, 2.0]]))
    assert middle.tolist() == [2.0, 1.5]
    assert reach == 4.0


def test_directions_are_to_the_nearest_example():
    x = np.array([[-1e-9, 0.0], [1e-9, 0.0], [0.0, 1e-9], [0.0, -1e-9]])
    x = np.concatenate([x, 1e-6 * x, [[1.0, 0.0], [-1.0, 0.0]]])
    found = common.directions(towards_the_origin(), x, points_per_side=20)
    assert found["points"] == 400
    # Between the examples and the origin, arrows lead away from the example; beyond it, toward it.
    points = common.field(towards_the_origin(), (0, 0), 2.0, 20)["points"]
    a, b = abs(points[:, 0]), abs(points[:, 1])
    away = (a > 0.5) & (a * (1 - a) - b**2 > 0)
    assert found["everywhere"] == pytest.approx(1 - away.mean())
    assert 0 < found["near_points"] < 400
    backwards = autoencoders.ScoreEstimator(lambda x: 2.0 * x, sigma=0.1)
    opposite = common.directions(backwards, x, points_per_side=20)
    assert opposite["everywhere"] == pytest.approx(away.mean())


def test_fields_are_drawn_with_marks_within_them(tmp_path):
    panel = common.field(towards_the_origin(), (0.0, 0.0), 1.0, 5)
    marks = {"attractors": np.array([[0.0, 0.0], [9.0, 0.0]]), "spurious": np.array([False, True])}
    sizes = []
    for name, rows in (
        ("plain", [[{"title": "a", **panel}]]),
        ("marked", [[{"title": "a", **panel, **marks}]]),
        ("four", [[{"title": "a", **panel}] * 2] * 2),
    ):
        common.draw_fields(np.zeros((3, 2)), rows, tmp_path / f"{name}.png")
        sizes.append((tmp_path / f"{name}.png").read_bytes())
    assert len(set(sizes)) == 3
