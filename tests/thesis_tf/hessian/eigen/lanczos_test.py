import numpy as np
import pytest
import tensorflow as tf

from thesis_tf.hessian.eigen.lanczos import Lanczos, rounding


def run(operator, largest, smallest, capacity, steps, memory=np.inf, seed=0):
    lanczos = Lanczos(operator, largest, smallest, capacity, memory)
    start = np.random.default_rng(seed).normal(size=operator.shape[0])
    lanczos.start(tf.constant(start, operator.dtype))
    for _ in range(steps):
        lanczos.step()
    return lanczos


@pytest.mark.parametrize("steps", [1, 5, 12, 13, 20, 40])
def test_the_recurrence_holds(matrix, steps):
    # H V = V T + residual e', also right after a restart, which comes at 12 vectors.
    eigenvalues = np.random.default_rng(0).normal(size=50)
    operator, _ = matrix(eigenvalues)
    lanczos = run(operator, 3, 2, 12, steps)
    count = len(lanczos.basis)
    vectors = lanczos.basis.combine(np.eye(count)).T
    small = lanczos.matrix[:count, :count]
    residual = np.zeros((50, count))
    residual[:, -1] = lanczos.coupling * lanczos.next.numpy()
    error = rounding(abs(eigenvalues).max(), "float64", steps)
    np.testing.assert_allclose(vectors.T @ vectors, np.eye(count), atol=error)
    np.testing.assert_allclose(vectors.T @ lanczos.next.numpy(), 0, atol=error)
    np.testing.assert_allclose(operator.matrix @ vectors, vectors @ small + residual, atol=error)
    assert (lanczos.products, lanczos.restarts > 0) == (steps, steps > 12)
    ritz = lanczos.ritz()
    pairs = vectors @ ritz.coefficients
    true = np.linalg.norm(operator.matrix @ pairs - pairs * ritz.values, axis=0)
    np.testing.assert_allclose(ritz.residuals, true, atol=error)


def test_the_whole_space(matrix):
    eigenvalues = np.array([-2.0, -1.0, 0.0, 0.5, 3.0, 8.0])
    operator, _ = matrix(eigenvalues)
    lanczos = run(operator, 3, 2, 100, 6)
    assert lanczos.exhausted
    np.testing.assert_allclose(lanczos.ritz().values, eigenvalues[[0, 1, 3, 4, 5]], atol=1e-13)
    np.testing.assert_array_equal(lanczos.ritz().residuals, 0)


def test_an_invariant_space_is_left(matrix):
    # Three eigenvalues, many times each: a Krylov space has dimension 3.
    operator, _ = matrix(np.repeat([-1.0, 2.0, 5.0], 10))
    lanczos = run(operator, 4, 4, 20, 15)
    assert lanczos.coupling == 0.0 or lanczos.products == 15
    ritz = lanczos.ritz()
    np.testing.assert_allclose(ritz.values, [-1.0] * 4 + [5.0] * 4, atol=1e-12)


def test_the_zero_matrix(matrix):
    operator, _ = matrix(np.zeros(8))
    lanczos = run(operator, 1, 1, 5, 5)
    np.testing.assert_array_equal(lanczos.ritz().values, 0)
    assert np.isfinite(lanczos.next).all()


@pytest.mark.parametrize(("largest", "smallest"), [(3, 0), (0, 3), (1, 1)])
def test_one_end_or_both(matrix, largest, smallest):
    eigenvalues = np.random.default_rng(1).normal(size=60) ** 3
    operator, _ = matrix(eigenvalues)
    lanczos = run(operator, largest, smallest, 20, 90)
    expected = np.sort(eigenvalues)[[*range(smallest), *range(60 - largest, 60)]]
    np.testing.assert_allclose(lanczos.ritz().values, expected, atol=1e-10)


def test_on_disk_it_is_the_same(matrix):
    operator, _ = matrix(np.random.default_rng(0).normal(size=50))
    a, b = (run(operator, 3, 2, 12, 30, memory=memory) for memory in (0, np.inf))
    assert a.basis.on_disk
    assert not b.basis.on_disk
    np.testing.assert_array_equal(a.matrix, b.matrix)


def test_mending_takes_in_what_was_left_out(matrix):
    operator, _ = matrix(np.random.default_rng(0).normal(size=50))
    lanczos = run(operator, 2, 1, 30, 10)
    lanczos.begin_anew(lanczos.ritz())
    for _ in range(6):
        lanczos.step()

    def lacking(ritz):
        pairs = lanczos.basis.combine(ritz.coefficients).T
        return operator.matrix @ pairs - pairs * ritz.values

    ritz = lanczos.ritz()
    before = lacking(ritz)
    sizes = np.linalg.norm(before, axis=0)
    worst = (sizes - ritz.residuals).argmax()
    assert sizes[worst] > 1.5 * ritz.residuals[worst]
    lanczos.mend(ritz, before[:, worst])
    lanczos.step()
    vectors = lanczos.basis.combine(np.eye(4)).T
    scale = rounding(3, "float64", 17)  # of values up to 3
    np.testing.assert_allclose(
        vectors.T @ operator.matrix @ vectors, lanczos.matrix[:4, :4], atol=scale
    )
    np.testing.assert_allclose(
        vectors @ (vectors.T @ before[:, worst]), before[:, worst], atol=scale
    )
    for _ in range(10):
        lanczos.step()
    assert np.linalg.norm(lacking(lanczos.ritz()), axis=0).max() < sizes.max() / 2
