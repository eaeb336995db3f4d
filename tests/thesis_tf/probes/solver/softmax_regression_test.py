"""The solver compared with scikit-learn at tight tolerance, and its bound with the true minimum."""

import functools
import itertools

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from thesis_tf.probes.solver import standardized
from thesis_tf.probes.solver.softmax_regression import SoftmaxRegression
from thesis_tf.probes.solver.standardized import Spectrum, Standardized

L2 = [1.0, 1e-2, 1e-4]


def correlated(rng, examples, size):
    return rng.standard_normal((examples, size)) @ rng.standard_normal((size, size))


def sampled(rng, x, classes, bias=0.0):
    """Returns labels drawn from a softmax over random directions; each class occurs."""
    z = (x - x.mean(0)) / np.maximum(x.std(0), 1e-300)
    logits = 2 * z @ rng.standard_normal((z.shape[1], classes)) / np.sqrt(z.shape[1]) + bias
    labels = (logits + rng.gumbel(size=logits.shape)).argmax(1)
    labels[:classes] = np.arange(classes)
    return labels


def problem(name):
    """Returns float64 features, labels and the number of classes."""
    rng = np.random.default_rng(len(name))
    if name == "two classes":
        x = correlated(rng, 120, 5)
        return x, sampled(rng, x, 2), 2
    if name == "three classes":
        x = correlated(rng, 150, 8)
        return x, sampled(rng, x, 3), 3
    if name == "ten classes":
        x = correlated(rng, 300, 12)
        return x, sampled(rng, x, 10), 10
    if name == "more features than examples":
        x = correlated(rng, 40, 90)
        return x, sampled(rng, x, 3), 3
    if name == "a feature six times over":
        x = np.repeat(correlated(rng, 150, 4), 6, 1)
        return x, sampled(rng, x, 3), 3
    if name == "99 to 1":
        x = correlated(rng, 400, 6)
        labels = np.zeros(400, int)
        labels[::100] = 1
        return x, labels, 2
    if name == "all but learnt by heart":
        x = correlated(rng, 90, 8)
        return x, (x @ rng.standard_normal((8, 3))).argmax(1), 3
    raise AssertionError(name)


NAMES = [
    "two classes",
    "three classes",
    "ten classes",
    "more features than examples",
    "a feature six times over",
    "99 to 1",
    "all but learnt by heart",
]


def blocks(x, size=None):
    size = size or len(x)
    return lambda: ((first, x[first : first + size]) for first in range(0, len(x), size))


def regression(x, labels, classes, *, size=None, keep=True):
    features = Standardized(blocks(x, size), keep=keep, dtype=x.dtype)
    return SoftmaxRegression(features, labels, classes)


def objective(x, labels, solution):
    """Returns f at a solution by its definition, in float64, for the stored features."""
    x = x.astype("float64")
    logits = x @ solution.weights.astype("float64") + solution.bias.astype("float64")
    top = logits.max(1)
    losses = np.log(np.exp(logits - top[:, None]).sum(1)) + top - logits[range(len(x)), labels]
    standard = solution.weights * x.std(0)[:, None]
    return losses.mean() + solution.l2 / 2 * (standard.astype("float64") ** 2).sum()


@functools.cache
def minimum(name, l2):
    """Returns min f by scikit-learn's Newton method with a dense Hessian."""
    x, labels, classes = problem(name)
    z = (x - x.mean(0)) / x.std(0)
    # Its loss is a sum, not a mean. For two classes it has one vector of weights w, where a softmax
    # has w/2 and -w/2, whose squared norms add up to half as much.
    scale = 2 if classes == 2 else 1
    model = LogisticRegression(
        C=scale / (l2 * len(x)), solver="newton-cholesky", tol=1e-12, max_iter=1000
    ).fit(z, labels)
    logits = z @ model.coef_.T + model.intercept_
    squares = (model.coef_**2).sum() / scale
    if classes == 2:
        logits = np.hstack([-logits, logits]) / 2
    top = logits.max(1)
    losses = np.log(np.exp(logits - top[:, None]).sum(1)) + top - logits[range(len(x)), labels]
    return losses.mean() + l2 / 2 * squares


@pytest.mark.slow
@pytest.mark.parametrize("l2", L2)
@pytest.mark.parametrize("name", NAMES)
def test_reaches_the_minimum(name, l2):
    x, labels, classes = problem(name)
    solution = regression(x, labels, classes).solve(l2, tol=1e-10)
    assert solution.converged
    assert solution.suboptimality <= 1e-10
    # scikit-learn stops within 1e-13 of its minimum; losses are of order 1.
    assert -1e-12 <= solution.loss - minimum(name, l2) <= 1e-10 + 1e-12
    assert objective(x, labels, solution) == pytest.approx(solution.loss, abs=1e-11)


@pytest.mark.slow
@pytest.mark.parametrize("l2", L2)
@pytest.mark.parametrize("name", NAMES)
def test_suboptimality_bounds_the_distance_to_the_minimum_after_any_number_of_steps(name, l2):
    solver = regression(*problem(name))
    least = minimum(name, l2)
    for most in range(1, 25):
        solution = solver.solve(l2, tol=1e-11, max_evaluations=most)
        assert solution.evaluations <= most
        assert solution.converged == (solution.suboptimality <= 1e-11)
        assert -1e-12 <= solution.loss - least <= solution.suboptimality + 1e-12


@pytest.mark.parametrize("name", NAMES)
def test_the_gap_is_not_a_loose_one(name):
    """At W = 0, the ratio to the suboptimality is bounded by the Hessian's eigenvalues."""
    x, labels, classes = problem(name)
    solution = regression(x, labels, classes).solve(10.0, tol=1e-30, max_evaluations=1)
    z = (x - x.mean(0)) / x.std(0)
    largest = 10.0 + np.linalg.eigvalsh(z.T @ z / len(z)).max() / 2
    assert solution.suboptimality <= (solution.loss - minimum(name, 10.0)) * largest / 10.0 + 1e-12


@pytest.mark.parametrize("name", NAMES)
def test_gradient_is_that_of_central_differences(name):
    solver = regression(*problem(name))
    rng = np.random.default_rng(0)
    x, labels, _ = problem(name)
    count = len(np.unique(labels))
    weights = 0.3 * rng.standard_normal((count, x.shape[1]))
    start = np.zeros(count)
    gradient = solver.evaluate(weights, start, 0.1).gradient
    for _ in range(5):
        direction = rng.standard_normal(weights.shape)
        direction /= np.linalg.norm(direction)
        up, down = (solver.evaluate(weights + h * direction, start, 0.1) for h in (1e-4, -1e-4))
        # Errors: third derivatives times h^2, and rounding of 1e-15 over h.
        assert (up.value - down.value) / 2e-4 == pytest.approx(
            (gradient * direction).sum(), abs=1e-7
        )


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("size", [0.1, 1.0, 5.0])
def test_the_bias_is_the_best_one_at_any_weights(name, size):
    x, labels, _ = problem(name)
    z = (x - x.mean(0)) / x.std(0)
    frequency = np.bincount(labels) / len(labels)
    rng = np.random.default_rng(1)
    weights = size * rng.standard_normal((len(frequency), x.shape[1])) / np.sqrt(x.shape[1])
    for start in (np.zeros(len(frequency)), rng.standard_normal(len(frequency))):
        point = regression(*problem(name)).evaluate(weights, start, 0.0)
        logits = z @ weights.T + point.bias
        p = np.exp(logits - logits.max(1, keepdims=True))
        p /= p.sum(1, keepdims=True)
        # The derivative with respect to the bias: mean probabilities minus frequencies.
        assert p.mean(0) == pytest.approx(frequency, abs=1e-12)
        residual = p - np.eye(len(frequency))[labels]
        assert point.gradient == pytest.approx(residual.T @ z / len(z), abs=1e-12)
        uncertain = (1 - (p**2).sum(1)).mean() / (len(frequency) - 1)
        assert point.curvature == pytest.approx(max(uncertain, 1e-8), rel=0.3)


def test_a_constant_feature_gets_no_weight():
    x, labels, classes = problem("three classes")
    wider = np.insert(x, [2], 7.7, axis=1)
    solution = regression(wider, labels, classes).solve(1e-2, tol=1e-10)
    assert (solution.weights[2] == 0).all()
    assert solution.loss == pytest.approx(minimum("three classes", 1e-2), abs=2e-10)


@pytest.mark.parametrize("unit", [1e-6, 1e6])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_units_of_the_features_do_not_matter(unit, dtype):
    x, labels, classes = problem("three classes")
    solution = regression((x * unit).astype(dtype), labels, classes).solve(1e-2, tol=1e-5)
    assert solution.converged
    assert solution.loss == pytest.approx(minimum("three classes", 1e-2), abs=1.2e-5)


def test_a_large_offset_in_float32():
    x, labels, classes = problem("three classes")
    moved = (x / x.std(0) + 1e4).astype("float32")
    exact = regression(moved.astype("float64"), labels, classes).solve(1e-2, tol=1e-10)
    solution = regression(moved, labels, classes).solve(1e-2, tol=1e-5)
    assert solution.converged
    assert solution.loss == pytest.approx(exact.loss, abs=1.2e-5)
    # Logits are sums of 8 products of 1e4 and a weight of order 1, with a precision of 2^-24.
    assert objective(moved, labels, solution) == pytest.approx(exact.loss, abs=1e-2)


def test_a_class_that_never_occurs_is_never_named():
    x, labels, classes = problem("three classes")
    spread = np.array([1, 4, 5])[labels]
    solution = regression(x, spread, 7).solve(1e-2, tol=1e-10)
    assert solution.weights.shape == (8, 7)
    assert solution.loss == pytest.approx(minimum("three classes", 1e-2), abs=2e-10)
    absent = [0, 2, 3, 6]
    assert (solution.weights[:, absent] == 0).all()
    assert set((x @ solution.weights + solution.bias).argmax(1)) == {1, 4, 5}
    again = regression(x, spread, 7).solve(1e-3, tol=1e-10, initial_solution=solution)
    assert again.loss == pytest.approx(
        regression(x, labels, classes).solve(1e-3, tol=1e-10).loss, abs=2e-10
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("size", [7, 64])
def test_streaming_gives_what_memory_gives(name, size):
    x, labels, classes = problem(name)
    kept = regression(x, labels, classes, size=size).solve(1e-2, tol=1e-10)
    streamed = regression(x, labels, classes, size=size, keep=False).solve(1e-2, tol=1e-10)
    assert streamed.evaluations == kept.evaluations
    assert streamed.loss == pytest.approx(kept.loss, abs=1e-12)
    assert streamed.weights == pytest.approx(kept.weights, abs=1e-6)
    assert streamed.bias == pytest.approx(kept.bias, abs=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_a_start_from_a_larger_penalty_saves_steps(name):
    solver = regression(*problem(name))
    before = solver.solve(2e-3, tol=1e-6)
    cold, warm = solver.solve(1e-3, tol=1e-6), solver.solve(1e-3, tol=1e-6, initial_solution=before)
    assert warm.converged
    assert abs(warm.loss - cold.loss) <= 1e-6
    assert warm.evaluations < cold.evaluations
    assert solver.solve(2e-3, tol=1e-6, initial_solution=before).evaluations == 1


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_float32_reaches_what_float64_does(name):
    x, labels, classes = problem(name)
    narrow = x.astype("float32")
    exact = regression(narrow.astype("float64"), labels, classes).solve(1e-2, tol=1e-10)
    solution = regression(narrow, labels, classes).solve(1e-2, tol=1e-5)
    assert solution.converged
    assert solution.standardized_weights.dtype == np.float32
    assert solution.standardized_bias.dtype == np.float32
    assert -1e-6 <= solution.loss - exact.loss <= 1e-5 + 1e-6
    assert objective(narrow, labels, solution) == pytest.approx(solution.loss, abs=1e-5)


@pytest.mark.parametrize("kind", ["all eigenvalues", "some", "none"])
def test_preconditioners_agree_on_the_minimum(kind, monkeypatch):
    rng = np.random.default_rng(0)
    x = correlated(rng, 400, 60)
    labels = sampled(rng, x, 4)
    if kind == "some":
        monkeypatch.setattr(standardized, "RANKS", (20, 20))
    solver = regression(x, labels, 4)
    if kind == "none":
        solver._features.spectrum = Spectrum(np.zeros((1, 60)), np.zeros(1), 1.0)
    solution = solver.solve(1e-3, tol=1e-9)
    monkeypatch.undo()
    exact = regression(x, labels, 4).solve(1e-3, tol=1e-11)
    assert solution.converged
    assert -1e-11 <= solution.loss - exact.loss <= 1e-9
    if kind != "all eigenvalues":
        assert solution.evaluations > exact.evaluations / 2
    if kind == "none":
        assert solution.evaluations > 3 * regression(x, labels, 4).solve(1e-3, tol=1e-9).evaluations


@pytest.mark.parametrize("l2", [1e-2, 1e-5])
def test_a_tol_below_rounding_ends_and_says_so(l2):
    rng = np.random.default_rng(0)
    x = correlated(rng, 500, 30).astype("float32")
    labels = rng.integers(0, 3, 500)
    exact = regression(x.astype("float64"), labels, 3).solve(l2, tol=1e-12)
    solution = regression(x, labels, 3).solve(l2, tol=1e-14)
    assert not solution.converged
    assert solution.suboptimality > 1e-14
    assert solution.evaluations < 200
    # Logits below 8 have an error of 8 roundings, and so do losses.
    rounding = 8 * np.finfo(np.float32).eps
    assert abs(solution.loss - exact.loss) <= solution.suboptimality + rounding
    assert solution.suboptimality < 1e-4


def test_solving_leaves_nothing_behind():
    solver = regression(*problem("three classes"))
    first = solver.solve(1e-2, tol=1e-6)
    solver.solve(1e-4, tol=1e-6)
    second = solver.solve(1e-2, tol=1e-6)
    assert first.loss == second.loss
    assert (first.weights == second.weights).all()


@pytest.mark.slow
@pytest.mark.parametrize(("examples", "size"), list(itertools.product([300, 5000], [100, 300])))
def test_float32_of_probing_size(examples, size):
    """Tests both kinds of spectrum, of all examples and of some of them."""
    rng = np.random.default_rng(0)
    x = correlated(rng, examples, size).astype("float32")
    labels = sampled(rng, x, 10)
    exact = regression(x.astype("float64"), labels, 10).solve(1e-2, tol=1e-6)
    solution = regression(x, labels, 10).solve(1e-2, tol=1e-3)
    assert solution.converged
    assert solution.evaluations < 60
    assert -2e-6 <= solution.loss - exact.loss <= solution.suboptimality + 1e-6


@pytest.mark.slow
def test_a_thousand_classes():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((4000, 2048), np.float32)
    x[:, :100] += 3 * rng.standard_normal((1000, 100), np.float32)[np.arange(4000) % 1000]
    labels = np.arange(4000) % 1000
    solution = regression(x, labels, 1000).solve(1e-2, tol=1e-2)
    assert solution.converged
    assert solution.weights.shape == (2048, 1000)
    assert objective(x, labels, solution) == pytest.approx(solution.loss, abs=1e-4)
    assert ((x @ solution.weights + solution.bias).argmax(1) == labels).mean() > 0.9
