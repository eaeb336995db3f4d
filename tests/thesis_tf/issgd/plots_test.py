import warnings

import numpy as np
import pytest
from matplotlib import figure

from thesis_tf import issgd
from thesis_tf.issgd import plots
from thesis_tf.issgd.training.history import History, Record


def run(seed=0, count=5, start=32, uniform=None, **more):
    history = History()
    rng = np.random.default_rng(seed)
    for i in range(count):
        step = start + 32 * i
        values = {"seconds": step / 9, "loss": rng.gamma(2.0), "uniform": uniform}
        history.add(Record(step=step, errors=more, **values))
    return history


def measured(seed=0, count=5):
    rng, history = np.random.default_rng(seed), History()
    for i in range(count):
        names = ("ideal", "stale", "uniform", "actual", "stale+10")
        # The first record has none, like that of the first measurement of all norms.
        variances = {name: rng.gamma(3.0) for name in names} if i else {}
        history.add(Record(step=50 * i, gradient_variances=variances))
    return history


def several(*options):
    return [run(seed, **more) for seed, more in enumerate(options)]


RUNS = {
    "importance": several({"test": 0.5, "train": 0.4}, {"test": 0.3}),
    "$uniform$ <b>": several({"test": 0.6}),
}

DRAWINGS = {
    "training": lambda path: issgd.draw_training(RUNS, path, title="$a$ <b>"),
    "one record": lambda path: issgd.draw_training({"a": [run(count=1)]}, path),
    "one record each": lambda path: issgd.draw_training(
        {"a": [run(count=1), run(1, count=1, start=64)]}, path
    ),
    "variances": lambda path: issgd.draw_gradient_variance(
        [measured(0), measured(1)], path, title="$a$ <b>"
    ),
    "variances of one record": lambda path: issgd.draw_gradient_variance([measured(0, 2)], path),
}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "suffix"),
    [*((name, ".png") for name in DRAWINGS), ("training", ".svg"), ("variances", ".pdf")],
)
def test_the_same_numbers_give_the_same_file(tmp_path, name, suffix):
    for folder in ("a", "b"):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            DRAWINGS[name](tmp_path / folder / f"picture{suffix}")
    a, b = ((tmp_path / folder / f"picture{suffix}").read_bytes() for folder in "ab")
    assert a == b
    assert len(a) > 3000


@pytest.mark.slow
def test_labels_say_what_is_drawn(tmp_path, svg_texts):
    issgd.draw_training(RUNS, tmp_path / "a.svg", title="$a$ <b>")
    texts = svg_texts(tmp_path / "a.svg")
    assert {"importance", "$uniform$ <b>", "$a$ <b>"} <= set(texts)
    labels = ["training loss of the minibatches", "training error", "test error"]
    assert [texts.count(label) for label in labels] == [2, 2, 2]  # against steps and seconds
    assert (texts.count("steps"), texts.count("seconds")) == (3, 3)
    issgd.draw_training({"only": [run()]}, tmp_path / "b.svg", columns={"loss": "my loss"})
    texts = svg_texts(tmp_path / "b.svg")
    assert "my loss" in texts
    assert "only" not in texts  # a single curve needs no legend
    assert "uniform draws" not in texts
    issgd.draw_gradient_variance([measured()], tmp_path / "c.svg")
    texts = set(svg_texts(tmp_path / "c.svg"))
    assert {"steps", "ideal", "stale", "uniform", "actual", "stale+10"} <= texts


def drawn(curves, x=0):
    axes = figure.Figure().add_subplot()
    plots._draw_quartiles(axes, curves, x, "label", "#000000")
    return axes


def test_median_and_quartiles_of_several_runs():
    # Values are 1 to 5 at step 10, and ten times as large at step 20; each run has different times.
    curves = [[(10, v, v), (20, 20 * v, 10 * v)] for v in (3.0, 1.0, 5.0, 2.0, 4.0)]
    axes = drawn(curves)
    (line,), (band,) = axes.lines, axes.collections
    x, y = line.get_data()
    np.testing.assert_allclose(x, [10, 20])
    np.testing.assert_allclose(y, [3, 30])
    corners = band.get_paths()[0].vertices
    for step, low, high in ((10, 2, 4), (20, 20, 40)):
        at = corners[np.isclose(corners[:, 0], step), 1]
        assert (at.min(), at.max()) == (pytest.approx(low), pytest.approx(high))
    # Over time, from the latest beginning, 5, to the earliest end, 20.
    x, _ = drawn(curves, 1).lines[0].get_data()
    assert (x[0], x[-1]) == (5.0, 20.0)


def test_uniform_draws_are_marked_where_they_were():
    history = History()
    for step, uniform in ((10, True), (20, True), (30, False), (40, True)):
        history.add(Record(step=step, seconds=step / 10, uniform=uniform))
    for x, scale in ((0, 1), (1, 10)):
        axes = figure.Figure().add_subplot()
        plots._mark_uniform(axes, history, x)
        bands = [(band.get_x(), band.get_x() + band.get_width()) for band in axes.patches]
        found = [tuple(scale * end for end in band) for band in bands]
        assert found == [pytest.approx(band) for band in ((0, 10), (10, 20), (30, 40))]


@pytest.mark.slow
def test_a_curve_below_another_can_be_seen(tmp_path, svg_texts):
    issgd.draw_training({"only": [run(uniform=True)]}, tmp_path / "a.svg")
    assert "uniform draws" in svg_texts(tmp_path / "a.svg")
    axes = figure.Figure().add_subplot()
    for wide in (True, False):
        plots._draw_quartiles(axes, [[(1, 0, 1.0), (2, 0, 2.0)]], 0, "a", "#000000", wide=wide)
    below, above = axes.lines
    assert below.get_linewidth() > 2 * above.get_linewidth()
    assert below.get_zorder() < above.get_zorder()


def test_one_run_has_no_band_and_one_record_is_a_point():
    axes = drawn([[(10, 0, 1.0), (20, 1, 2.0)]])
    assert (len(axes.collections), axes.lines[0].get_marker()) == (0, "None")
    for curves in ([[(10, 0, 1.0)]], [[(10, 0, 1.0)], [(12, 0, 3.0)]]):
        (line,) = drawn(curves).lines
        assert line.get_marker() == "o"
        assert (line.get_xdata().tolist(), line.get_ydata().tolist()) == ([10.0], [len(curves)])


def test_runs_without_a_value_are_left_out():
    axes = drawn([[], [(10, 0, 1.0), (20, 1, 2.0)]])
    assert axes.lines[0].get_ydata()[-1] == 2.0
    assert not drawn([[], []]).lines


@pytest.mark.parametrize(
    ("draw", "message"),
    [
        (lambda: issgd.draw_training({}, "a.png"), "`runs` must be runs with records"),
        (lambda: issgd.draw_training({"a": [History()]}, "a.png"), "`runs` must be runs with rec"),
        (lambda: issgd.draw_training(RUNS, "a.png", columns={"x": "x"}), "`runs` must be runs"),
        (lambda: issgd.draw_training(RUNS, "a.jpg"), "ends in .png"),
        (
            lambda: issgd.draw_gradient_variance([], "a.png"),
            "`histories` must be records with gradient var",
        ),
        (
            lambda: issgd.draw_gradient_variance([run()], "a.png"),
            "`histories` must be records with gradient var",
        ),
        (lambda: issgd.draw_gradient_variance([measured()], "a"), "ends in .png"),
    ],
)
def test_bad_arguments(draw, message):
    with pytest.raises(ValueError, match=message):
        draw()
