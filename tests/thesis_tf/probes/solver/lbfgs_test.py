"""L-BFGS on functions with a known minimum."""

from typing import NamedTuple

import numpy as np
import pytest

from thesis_tf.probes.solver.lbfgs import minimize

EPS = np.finfo(np.float64).eps


class At(NamedTuple):
    x: np.ndarray
    value: float
    gradient: np.ndarray


class Quadratic:
    """x'Ax/2 - b'x with eigenvalues from 1 to `condition`; counts its evaluations."""

    def __init__(self, size=30, condition=1e3, seed=0):
        rng = np.random.default_rng(seed)
        turn = np.linalg.qr(rng.standard_normal((size, size)))[0]
        self.matrix = turn @ np.diag(np.geomspace(1, condition, size)) @ turn.T
        self.b = rng.standard_normal(size)
        self.calls = 0

    def __call__(self, x, near=None):
        self.calls += 1
        return At(x, 0.5 * x @ self.matrix @ x - self.b @ x, self.matrix @ x - self.b)


def identity(point):
    return lambda v: v


def small(gradient):
    return np.linalg.norm(gradient) <= 1e-6


def run(function, preconditioner=identity, done=small, max_evaluations=1000, rounding=EPS):
    start = function(np.zeros(30))
    return minimize(
        function, start, preconditioner, done, max_evaluations=max_evaluations, rounding=rounding
    )


def test_finds_the_minimum_and_counts_its_evaluations():
    function = Quadratic()
    point, steps = run(function)
    assert point.x == pytest.approx(np.linalg.solve(function.matrix, function.b), abs=1e-6)
    assert steps == function.calls


def test_with_the_exact_inverse_hessian_a_quadratic_takes_one_step():
    function = Quadratic(condition=1e6)
    inverse = np.linalg.inv(function.matrix)
    _, steps = run(function, lambda point: lambda v: inverse @ v, lambda g: (abs(g) < 1e-6).all())
    assert steps == 2


def test_a_preconditioner_that_is_replaced_underway_keeps_what_was_learnt():
    inverse = np.linalg.inv(Quadratic().matrix)
    made = []

    def later(point):
        made.append(point)
        return (lambda v: inverse @ v) if len(made) > 1 else (lambda v: v)

    point, steps = run(Quadratic(), later)
    assert len(made) == 2
    assert steps < run(Quadratic())[1] / 2
    assert small(point.gradient)


def test_the_line_search_shortens_steps_that_rise():
    """log cosh is flat far from 0: Newton's step from x = 3 would lead to -98."""

    def function(x, near=None):
        return At(x, np.log(np.cosh(x)).sum(), np.tanh(x))

    start = function(np.full(3, 3.0))
    inverse = np.cosh(3.0) ** 2
    point, _ = minimize(
        function,
        start,
        lambda point: lambda v: inverse * v,
        small,
        max_evaluations=100,
        rounding=EPS,
    )
    assert point.x == pytest.approx(np.zeros(3), abs=1e-6)


@pytest.mark.parametrize("most", [1, 2, 7])
def test_stops_after_as_many_evaluations_as_are_allowed(most):
    function = Quadratic(condition=1e6)
    point, steps = run(function, max_evaluations=most)
    assert steps == function.calls == most
    assert not small(point.gradient)


def test_returns_the_least_gradient_that_it_met():
    function, met = Quadratic(condition=1e6), []

    def watched(x, near=None):
        met.append(function(x))
        return met[-1]

    point, _ = run(watched, max_evaluations=12)
    assert np.linalg.norm(point.gradient) == min(np.linalg.norm(p.gradient) for p in met)


def test_stops_where_rounding_hides_the_minimum():
    exact, noise = Quadratic(), np.random.default_rng(1)

    def rounded(x, near=None):
        point = exact(x)
        return At(x, float(np.float32(point.value)), point.gradient + 1e-4 * noise.normal(size=30))

    point, steps = run(rounded, rounding=2 * np.finfo(np.float32).eps)
    assert steps < 300
    assert 1e-5 < np.linalg.norm(point.gradient) < 1e-2
