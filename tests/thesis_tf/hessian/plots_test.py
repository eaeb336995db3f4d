import itertools

import numpy as np
import pytest

from thesis_tf import hessian
from thesis_tf.hessian import plots


def eigenpairs(values=(-2.0, -1.0, 3.0, 4.0, 9.0), smallest=2):
    count = len(values)
    converged = np.arange(count) < count - 1
    vectors, residuals = np.zeros((7, count)), np.zeros(count)
    return hessian.Eigenpairs(np.array(values), vectors, residuals, converged, 10, count, smallest)


def search(curvature):
    alphas = np.linspace(-1, 2, 9)
    quadratic = 1 + 0.1 * (alphas**2 * curvature / 2 - alphas)
    loss = quadratic + 0.01 * alphas**4
    loss[-1] = np.inf
    return hessian.LineSearch(alphas, loss, quadratic, 1.0, 0.3, curvature, 1 / curvature)


def step(curvature, alpha, decrease):
    return hessian.BestStep(alpha, 1.0 - decrease, decrease, alpha, 1.0, curvature, 30)


def best_steps(**options):
    hessian.draw_best_steps([step(1.0, 0.5, 0.1)], "a.png", **options)


def history(steps, smallest=(-1.0,)):
    return hessian.SpectrumHistory(
        tuple(hessian.SpectrumEntry(step, 1.0, (3.0, 2.0), smallest, True, 9) for step in steps)
    )


HISTORY = history([0, 10, 99])


def density(matrix):
    return hessian.spectral_density(matrix(np.arange(20.0) - 3)[0], num_steps=8, num_vectors=3)


DRAWINGS = {
    "eigenvalues": lambda path: hessian.draw_eigenvalues(eigenpairs(), path, title="$a$ <b>"),
    "one end": lambda path: hessian.draw_eigenvalues(eigenpairs(smallest=0), path),
    "line searches": lambda path: hessian.draw_line_searches(
        {"largest": search(2.0), "smallest": search(-1.0)}, path, title="LeNet"
    ),
    "best steps": lambda path: hessian.draw_best_steps(
        [step(-1.0, -5.0, 0.2), step(0.0, np.inf, 0.0), step(2.0, 0.5, 0.1)], path
    ),
    "decreases alone": lambda path: hessian.draw_best_steps(
        [step(-1.0, -5.0, 0.2), step(2.0, 0.5, 0.1)], path, panels=["decrease"], title="LeNet"
    ),
    "history": lambda path: hessian.draw_history(HISTORY, path),
    "history with an epoch": lambda path: hessian.draw_history(HISTORY, path, marks={"epoch": 50}),
    "history of one end": lambda path: hessian.draw_history(
        history([0, 10, 99], smallest=()), path
    ),
    "history of one": lambda path: hessian.draw_history(history([0]), path),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", DRAWINGS)
@pytest.mark.parametrize("suffix", [".png", ".svg", ".pdf"])
def test_the_same_numbers_give_the_same_file(tmp_path, name, suffix):
    for folder in ("a", "b"):
        DRAWINGS[name](tmp_path / folder / f"picture{suffix}")
    a, b = ((tmp_path / folder / f"picture{suffix}").read_bytes() for folder in "ab")
    assert a == b
    assert len(a) > 3000


def test_labels_say_what_is_drawn(tmp_path, svg_texts, matrix):
    steps = [step(-1.0, -5.0, 0.2), step(2.0, 0.5, 0.1)]
    hessian.draw_best_steps(steps, tmp_path / "a.svg")
    texts = svg_texts(tmp_path / "a.svg")
    assert {"eigenvalue", "positive curvature", "negative curvature", "1 / |alpha*|"} <= set(texts)
    hessian.draw_best_steps(steps[1:], tmp_path / "c.svg", panels=["size"])
    texts = svg_texts(tmp_path / "c.svg")
    assert "1 / |alpha*|" in texts
    assert "decrease of the loss by the best step" not in texts
    hessian.draw_history(history([0, 1, 2, 3]), tmp_path / "e.svg", xlabel="epoch")
    texts = svg_texts(tmp_path / "e.svg")
    assert "epoch" in texts
    assert not {"training step", "0.5", "1.5", "2.5"} & set(texts[: texts.index("epoch")])
    hessian.draw_history(HISTORY, tmp_path / "d.svg", marks={"one epoch": 50})
    assert {"2 largest", "smallest", "one epoch", "loss"} <= set(svg_texts(tmp_path / "d.svg"))
    hessian.draw_eigenvalues(eigenpairs(), tmp_path / "b.svg", density=density(matrix))
    assert {"largest", "smallest", "density"} <= set(svg_texts(tmp_path / "b.svg"))


@pytest.mark.parametrize(
    ("draw", "message"),
    [
        (
            lambda: hessian.draw_history(history([]), "a.png"),
            "`history` must be at least one entry",
        ),
        (lambda: hessian.draw_line_searches({}, "a.png"), "at least one line search"),
        (lambda: hessian.draw_best_steps([], "a.png"), "`steps` must be at least one step"),
        (lambda: best_steps(panels=["a"]), "`panels` must be one of decrease, size. Rec.*'a'"),
        (lambda: best_steps(panels=[]), "`panels` must be some of decrease, size"),
        (lambda: hessian.draw_eigenvalues(eigenpairs(), "a.jpg"), "ends in .png"),
    ],
)
def test_bad_arguments(draw, message):
    with pytest.raises(ValueError, match=message):
        draw()


def drawn_labels(monkeypatch, draw):
    """Returns the labels on the axes of each panel, and the offsets, of a figure."""
    figures = []
    monkeypatch.setattr(plots, "save", lambda figure, path: figures.append(figure))
    draw()
    found = []
    for axes in figures[0].axes:
        figures[0].draw_without_rendering()
        for axis in (axes.xaxis, axes.yaxis):
            ticks = [*axis.get_major_ticks(), *axis.get_minor_ticks()]
            low, high = sorted(axis.get_view_interval())
            shown = [t for t in ticks if t.label1.get_text() and low <= t.get_loc() <= high]
            found.append((axis.get_offset_text().get_text(), shown))
    return found


def test_small_differences_of_the_loss_have_whole_labels(monkeypatch):
    alphas = np.linspace(-1, 2, 9)
    loss = 0.36190 + 1e-6 * alphas**2
    found = hessian.LineSearch(alphas, loss, loss, 0.3619, 1e-3, 2.0, 0.5)
    draw = lambda: hessian.draw_line_searches({"a": found}, "a.png")  # noqa: E731
    assert [offset for offset, _ in drawn_labels(monkeypatch, draw)] == ["", ""]


@pytest.mark.parametrize("largest", [0.6, 5.0, 90.0, 4e4, 3e9])
def test_labels_of_logarithmic_axes_do_not_overlap(monkeypatch, largest):
    values = np.geomspace(0.3, largest, 5)
    steps = [step(value, 1 / value, 0.1) for value in values]
    found = drawn_labels(
        monkeypatch, lambda: hessian.draw_best_steps(steps, "a.png", panels=["size"])
    )
    (_, ticks), _ = found
    boxes = sorted((tick.label1.get_window_extent() for tick in ticks), key=lambda box: box.x0)
    assert len(boxes) >= 2
    assert all(one.x1 < other.x0 for one, other in itertools.pairwise(boxes))
    assert not any("10^" in tick.label1.get_text() for tick in ticks)
