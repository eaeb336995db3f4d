import itertools
import json

import numpy as np
import pytest
import scipy.integrate

from thesis_tf.autoencoders import ScoreEstimator
from thesis_tf.autoencoders.theory import (
    LocalMoments,
    asymptotic_moments,
    ball_integral,
    ball_quadrature,
    ball_volume,
    local_mean,
    local_moments,
)

RNG = np.random.default_rng(0)


class Mixture:
    """Two Gaussians in d dimensions, with density, score and Hessian in closed form."""

    def __init__(self, size, seed=0):
        rng = np.random.default_rng(seed)
        self.means = rng.normal(size=(2, size))
        roots = 0.4 * rng.normal(size=(2, size, size))
        self.precisions = np.linalg.inv(roots @ roots.transpose(0, 2, 1) + 0.6 * np.eye(size))
        self.weights = np.array([0.4, 0.6])

    def parts(self, x):
        away = x[:, None] - self.means
        exponent = np.einsum("nki,kij,nkj->nk", away, self.precisions, away)
        return self.weights * np.exp(-exponent / 2)

    def __call__(self, x):
        return self.parts(x).sum(axis=1)

    def score_and_hessian(self, x0):
        share = self.parts(x0[None])[0]
        share = share / share.sum()
        slopes = -np.einsum("kij,kj->ki", self.precisions, x0 - self.means)
        score = share @ slopes
        second = np.einsum("ki,kj->kij", slopes, slopes) - self.precisions
        return score, np.einsum("k,kij->ij", share, second) - np.outer(score, score)


@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_asymptotic_formulas_are_of_the_order_that_they_say(size):
    mixture, errors = Mixture(size), []
    centers = RNG.normal(size=(4, size)) / 2
    for delta in (0.4, 0.2, 0.1):
        squares = np.zeros((2, 3))
        for x0 in centers:
            order = 8 if size < 5 else 7
            exact = local_moments(mixture, x0, delta, order=order)
            found = asymptotic_moments(
                mixture(x0[None])[0], *mixture.score_and_hessian(x0), x0, delta
            )
            plain = delta**2 / (size + 2) * np.eye(size)
            volume = ball_volume(size, delta) * mixture(x0[None])[0]
            squares[0] += [
                (found.mass - exact.mass) ** 2,
                np.sum((found.mean - exact.mean) ** 2),
                np.sum((found.covariance - exact.covariance) ** 2),
            ]
            squares[1] += [
                (exact.mass - volume) ** 2,
                np.sum((exact.mean - x0) ** 2),
                np.sum((exact.covariance - plain) ** 2),
            ]
        errors.append(np.sqrt(squares[0] / squares[1]))
    ratios = [a / b for a, b in itertools.pairwise(errors)]
    # Halving delta divides errors by 4, up to the next order, which is a factor of delta^2 smaller.
    np.testing.assert_allclose(ratios[1], 4, rtol=0.1)
    np.testing.assert_allclose(ratios[0], 4, rtol=0.3)


@pytest.mark.parametrize("size", [1, 2, 3, 4])
def test_the_quadrature_and_the_integrals_are_each_others_oracle(size):
    radius, order = 0.7, 4
    nodes, weights = ball_quadrature(size, radius, order=order)
    assert (np.linalg.norm(nodes, axis=1) < radius).all()
    for exponents in itertools.product(range(4), repeat=size):
        if sum(exponents) <= 2 * order - 1:
            found = weights @ np.prod(nodes**exponents, axis=1)
            assert found == pytest.approx(ball_integral(exponents, radius), abs=1e-14)
    assert weights.sum() == pytest.approx(ball_volume(size, radius))


def test_known_integrals():
    assert ball_integral([0, 0], 2.0) == pytest.approx(4 * np.pi)
    assert ball_integral([2], 3.0) == pytest.approx(18)
    assert ball_integral([2, 0, 0], 1.0) == pytest.approx(4 * np.pi / 15)
    assert ball_integral([2, 2, 0], 1.0) == pytest.approx(4 * np.pi / 105)
    assert ball_integral([4, 0, 0], 1.0) == pytest.approx(4 * np.pi / 35)
    assert ball_integral([1, 2], 1.0) == 0


def test_one_dimension_against_scipy():
    mixture, x0, delta = Mixture(1), 0.3, 0.5
    f = lambda x, k: x**k * mixture(np.array([[x]]))[0]  # noqa: E731
    z, first, second = (scipy.integrate.quad(f, x0 - delta, x0 + delta, (k,))[0] for k in range(3))
    found = local_moments(mixture, x0, delta)
    assert found.mass == pytest.approx(z, rel=1e-10)
    assert found.mean[0] == pytest.approx(first / z, rel=1e-10)
    assert found.covariance[0, 0] == pytest.approx(second / z - (first / z) ** 2, rel=1e-9)


@pytest.mark.parametrize("size", [1, 3])
def test_monte_carlo_knows_its_error(size):
    mixture, x0 = Mixture(size), np.zeros(size)
    exact = local_moments(mixture, x0, 0.8)
    for seed in range(3):
        found = local_moments(
            mixture, x0, 0.8, method="monte_carlo", num_samples=200_000, seed=seed
        )
        errors = found.standard_errors
        pairs = zip(
            (found.mass, found.mean, found.covariance),
            (exact.mass, exact.mean, exact.covariance),
            (errors.mass, errors.mean, errors.covariance),
            strict=True,
        )
        for value, truth, error in pairs:
            assert np.all(np.abs(value - truth) < 5 * error)
            assert np.all(error < 0.01)
    assert exact.standard_errors is None


def test_a_summary_holds_numbers_and_lists():
    found = local_moments(Mixture(2), [0.0, 0.0], 0.5, method="monte_carlo", num_samples=1000)
    summary = found.summary()
    assert summary["mean"] == found.mean.tolist()
    assert summary["standard_errors"]["mass"] == found.standard_errors.mass
    assert repr(found).startswith("LocalMoments(2 dimensions, mass ")


@pytest.mark.slow
def test_many_dimensions_by_monte_carlo():
    found = local_moments(
        lambda x: np.ones(len(x)), np.zeros(30), 2.0, method="monte_carlo", num_samples=20_000
    )
    assert found.mass == pytest.approx(ball_volume(30, 2.0), rel=1e-9)
    np.testing.assert_allclose(np.trace(found.covariance), 30 * 4 / 32, rtol=0.02)


def test_the_mean_from_a_reconstruction():
    # The optimal DAE of N(0, v) is x / (1 + s / v) with s = sigma^2; that of N(0, v + s).
    variance, sigma, x = 0.7, 0.2, RNG.normal(size=(5, 3))
    estimator = ScoreEstimator(lambda x: x / (1 + sigma**2 / variance), sigma=sigma)
    found = local_mean(estimator, x, 0.05)
    density = lambda z: np.exp(-np.sum(z**2, axis=1) / (2 * (variance + sigma**2)))  # noqa: E731
    exact = np.stack([local_moments(density, point, 0.05).mean for point in x])
    # The remainder is smaller by a factor of delta^2.
    np.testing.assert_allclose(found - x, exact - x, rtol=0.02, atol=1e-5)


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (lambda: local_moments(lambda x: np.zeros(len(x)), [0.0], 1), ValueError, "not all 0"),
        (lambda: local_moments(lambda x: x, [0.0, 0.0], 1), ValueError, r"to \(n,\) values"),
        (lambda: local_moments(lambda x: x[:, 0], [0.0], 1), ValueError, "at least 0"),
        (lambda: local_moments(lambda x: x[:, 0], [0.0], 0), ValueError, "`delta`"),
        (lambda: local_moments(lambda x: 1, [0.0], 1, method="grid"), ValueError, "`method`"),
        (lambda: ball_quadrature(20, 1.0), ValueError, "monte_carlo"),
        (lambda: ball_integral([-2], 1.0), ValueError, "`exponents`"),
        (lambda: ball_integral([2.0], 1.0), ValueError, "`exponents`"),
        (lambda: ball_integral([2], 0.0), ValueError, "`radius`"),
    ],
)
def test_bad_input(call, error, match):
    with pytest.raises(error, match=match):
        call()


def test_a_result_in_short():
    errors = LocalMoments(0.25, np.array([0.5, 1.0]), np.full((2, 2), 0.125))
    exact = LocalMoments(2.0, np.array([1.0, -1.0]), np.array([[4.0, 1.0], [1.0, 9.0]]))
    assert exact.table() == (
        "moment          value\n"
        "mass                2\n"
        "mean of x1          1\n"
        "mean of x2         -1\n"
        "variance of x1      4\n"
        "variance of x2      9"
    )
    found = LocalMoments(exact.mass, exact.mean, exact.covariance, standard_errors=errors)
    assert [line.split()[-1] for line in found.table().splitlines()] == [
        "error", "0.25", "0.5", "1", "0.125", "0.125",
    ]  # fmt: skip
    assert repr(found) == "LocalMoments(2 dimensions, mass 2)"
    assert json.loads(json.dumps(found.summary()))["standard_errors"]["mean"] == [0.5, 1.0]
