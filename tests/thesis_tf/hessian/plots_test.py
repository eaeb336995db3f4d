import numpy as np
import pytest

from thesis_tf import hessian


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
