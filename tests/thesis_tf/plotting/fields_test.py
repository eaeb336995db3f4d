import numpy as np
import pytest

from thesis_tf.plotting import fields, style


def test_arrows_have_one_length_and_the_color_of_the_vectors_own():
    axes = style.new_figure(2, 2).subplots()
    points = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    moves = np.array([[3.0, 4.0], [0.0, 0.1], [0.0, 0.0]])
    arrows = fields.draw_arrows(axes, points, moves, 2.0)
    np.testing.assert_allclose(np.hypot(arrows.U, arrows.V), [1.5, 1.5, 0.0])
    np.testing.assert_allclose(arrows.get_array(), [5.0, 0.1, 0.0])
    assert (arrows.U[0], arrows.V[0]) == pytest.approx((0.9, 1.2))


def test_no_points_leave_no_mark():
    axes = style.new_figure(2, 2).subplots()
    mark = {"color": style.GREEN, "marker": "o", "size": 9, "label": "x"}
    fields.mark(axes, np.zeros((0, 2)), **mark)
    assert not axes.collections
    fields.mark(axes, np.zeros((3, 2)), **mark)
    assert axes.get_legend_handles_labels()[1] == ["x"]
