import numpy as np
import pytest
import tensorflow as tf

from thesis_tf.hessian.eigen import lanczos
from thesis_tf.hessian.eigen.basis import make_basis


def steps(operator, state, count):
    for _ in range(count):
        if state.is_full:
            state = lanczos.restart(state)
        state = lanczos.step(operator, state)
    return state


def run(operator, largest, smallest, ncv, count, memory_limit=np.inf):
    size = operator.shape[0]
    basis = make_basis(size, operator.dtype, ncv=min(ncv, size), memory_limit=memory_limit)
    v0 = tf.constant(np.random.default_rng(0).normal(size=size), operator.dtype)
    return steps(operator, lanczos.init(v0, basis, largest=largest, smallest=smallest), count)


def columns(state):
    """Returns the vectors of the space, (d, m)."""
    return state.basis.combine(np.eye(state.count)).T


@pytest.mark.parametrize("number", [1, 5, 12, 13, 20, 40])
def test_the_recurrence_holds(matrix, number):
    # H V = V T + residual e', also right after a restart, which occurs at 12 vectors.
    eigenvalues = np.random.default_rng(0).normal(size=50)
    operator, _ = matrix(eigenvalues)
    state = run(operator, 3, 2, 12, number)
    count, vectors = state.count, columns(state)
    small = state.matrix[:count, :count]
    residual = np.zeros((50, count))
    residual[:, -1] = state.coupling * state.next.numpy()
    error = lanczos.rounding(abs(eigenvalues).max(), "float64", steps=number)
    np.testing.assert_allclose(vectors.T @ vectors, np.eye(count), atol=error)
    np.testing.assert_allclose(vectors.T @ state.next.numpy(), 0, atol=error)
    np.testing.assert_allclose(operator.matrix @ vectors, vectors @ small + residual, atol=error)
    assert (state.products, state.restarts > 0) == (number, number > 12)
    ritz = lanczos.ritz(state)
    pairs = vectors @ ritz.coefficients
    true = np.linalg.norm(operator.matrix @ pairs - pairs * ritz.values, axis=0)
    np.testing.assert_allclose(ritz.residuals, true, atol=error)


def test_the_whole_space(matrix):
    eigenvalues = np.array([-2.0, -1.0, 0.0, 0.5, 3.0, 8.0])
    operator, _ = matrix(eigenvalues)
    state = run(operator, 3, 2, 100, 6)
    assert state.is_whole
    np.testing.assert_allclose(lanczos.ritz(state).values, eigenvalues[[0, 1, 3, 4, 5]], atol=1e-13)
    np.testing.assert_array_equal(lanczos.ritz(state).residuals, 0)


def test_an_invariant_space_is_left(matrix):
    # Three multiple eigenvalues: the Krylov space has dimension 3.
    operator, _ = matrix(np.repeat([-1.0, 2.0, 5.0], 10))
    state = run(operator, 4, 4, 20, 15)
    assert state.coupling == 0.0 or state.products == 15
    ritz = lanczos.ritz(state)
    np.testing.assert_allclose(ritz.values, [-1.0] * 4 + [5.0] * 4, atol=1e-12)


def test_the_zero_matrix(matrix):
    operator, _ = matrix(np.zeros(8))
    state = run(operator, 1, 1, 5, 5)
    np.testing.assert_array_equal(lanczos.ritz(state).values, 0)
    assert np.isfinite(state.next).all()


@pytest.mark.parametrize(("largest", "smallest"), [(3, 0), (0, 3), (1, 1)])
def test_one_end_or_both(matrix, largest, smallest):
    eigenvalues = np.random.default_rng(1).normal(size=60) ** 3
    operator, _ = matrix(eigenvalues)
    state = run(operator, largest, smallest, 20, 90)
    expected = np.sort(eigenvalues)[[*range(smallest), *range(60 - largest, 60)]]
    np.testing.assert_allclose(lanczos.ritz(state).values, expected, atol=1e-10)


def test_on_disk_it_is_the_same(matrix):
    operator, _ = matrix(np.random.default_rng(0).normal(size=50))
    a, b = (run(operator, 3, 2, 12, 30, memory_limit=limit) for limit in (0, np.inf))
    assert a.basis.on_disk
    assert not b.basis.on_disk
    np.testing.assert_array_equal(a.matrix, b.matrix)


def test_what_was_left_out_can_be_taken_in(matrix):
    operator, _ = matrix(np.random.default_rng(0).normal(size=50))
    state = run(operator, 2, 1, 30, 10)
    state = steps(operator, lanczos.begin_anew(state, lanczos.ritz(state)), 6)

    def residuals(state):
        pairs = lanczos.ritz(state)
        vectors = state.basis.combine(pairs.coefficients).T
        return operator.matrix @ vectors - vectors * pairs.values

    pairs, before = lanczos.ritz(state), residuals(state)
    sizes = np.linalg.norm(before, axis=0)
    worst = (sizes - pairs.residuals).argmax()
    assert sizes[worst] > 1.5 * pairs.residuals[worst]
    state = steps(operator, lanczos.extend(state, pairs, before[:, worst]), 1)
    vectors = columns(state)
    scale = lanczos.rounding(3, "float64", steps=17)  # for values up to 3
    np.testing.assert_allclose(
        vectors.T @ operator.matrix @ vectors, state.matrix[:4, :4], atol=scale
    )
    np.testing.assert_allclose(
        vectors @ (vectors.T @ before[:, worst]), before[:, worst], atol=scale
    )
    state = steps(operator, state, 10)
    assert np.linalg.norm(residuals(state), axis=0).max() < sizes.max() / 2


def test_older_states_stay_valid_until_a_restart(matrix):
    operator, _ = matrix(np.random.default_rng(0).normal(size=50))
    early = run(operator, 3, 2, 12, 8)
    matrix_before, vectors = early.matrix.copy(), columns(early)
    late = steps(operator, early, 4)
    again = steps(operator, early, 4)
    np.testing.assert_array_equal(early.matrix, matrix_before)
    np.testing.assert_array_equal(columns(early), vectors)
    np.testing.assert_array_equal(again.matrix, late.matrix)
    assert early.is_valid
    assert late.is_full
    restarted = lanczos.restart(late)
    assert restarted.is_valid
    assert not late.is_valid
    assert not early.is_valid
