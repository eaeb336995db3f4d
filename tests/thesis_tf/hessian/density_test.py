import numpy as np
import pytest

from thesis_tf import hessian

SPECTRUM = np.concatenate([[-2.0, -1.0], np.linspace(0, 0.5, 90), np.linspace(3, 8, 8)])


@pytest.mark.slow
def test_moments_of_the_density(matrix):
    # A quadrature of n nodes is exact for polynomials of degree 2n - 1 and one random vector, so
    # the error is the variance between vectors.
    operator, _ = matrix(SPECTRUM)
    density = hessian.spectral_density(operator, num_steps=20, num_vectors=200)
    assert density.products == operator.products == 4000
    for power in (1, 2, 3):
        estimate = density.mean_of(lambda x, power=power: x**power)
        assert abs(estimate.value - np.mean(SPECTRUM**power)) < 4 * estimate.standard_error
        assert 0 < estimate.standard_error < 0.2 * np.mean(abs(SPECTRUM) ** power)
    np.testing.assert_allclose(density.weights.sum(axis=1), 1, atol=1e-12)


@pytest.mark.slow
def test_the_density_itself(matrix):
    operator, _ = matrix(SPECTRUM)
    density = hessian.spectral_density(operator, num_steps=40, num_vectors=100, width=0.3)
    bells = np.exp(-0.5 * ((density.grid[:, None] - SPECTRUM) / 0.3) ** 2)
    expected = bells.mean(axis=1) / (0.3 * np.sqrt(2 * np.pi))
    assert np.trapezoid(density.density, density.grid) == pytest.approx(1, abs=1e-3)
    deviations = (density.density - expected) / (density.standard_error + 1e-4)
    assert abs(deviations).max() < 5
    assert density.width == 0.3


def test_a_given_grid(matrix):
    grid = np.linspace(-3, 9, 50)
    density = hessian.spectral_density(matrix(SPECTRUM)[0], num_steps=10, num_vectors=2, grid=grid)
    np.testing.assert_array_equal(density.grid, grid)
    assert density.density.shape == density.standard_error.shape == (50,)
    assert density.width == pytest.approx(0.01 * np.ptp(density.nodes))


def test_the_trace_and_its_error(matrix):
    operator, _ = matrix(SPECTRUM)
    values = [hessian.trace(operator, num_vectors=20, seed=seed) for seed in range(100)]
    deviations = np.array([v.value - SPECTRUM.sum() for v in values])
    errors = np.array([v.standard_error for v in values])
    variance = 2 * (SPECTRUM @ SPECTRUM - np.diag(operator.matrix) @ np.diag(operator.matrix)) / 20
    # The sample variance of 100 normal numbers has a relative standard deviation of sqrt(2 / 99).
    assert np.mean(deviations**2) == pytest.approx(variance, rel=4 * np.sqrt(2 / 99))
    assert np.mean(errors**2) == pytest.approx(variance, rel=4 * np.sqrt(2 / 99))
    assert values[0].products == 20


def test_the_diagonal_and_its_error(matrix):
    operator, _ = matrix(SPECTRUM)
    estimate = hessian.diagonal(operator, num_vectors=500)
    expected = np.diag(operator.matrix)
    variance = ((operator.matrix**2).sum(axis=1) - expected**2) / 500
    np.testing.assert_allclose(estimate.standard_error**2, variance, rtol=0.5)
    assert abs((estimate.value - expected) / np.sqrt(variance)).max() < 5


def test_signs_make_a_diagonal_matrix_exact(matrix):
    operator, _ = matrix(np.arange(5.0))
    operator.matrix = np.diag(np.arange(5.0))
    estimate = hessian.diagonal(operator, num_vectors=2)
    np.testing.assert_array_equal(estimate.value, np.arange(5.0))
    np.testing.assert_array_equal(estimate.standard_error, 0)
    assert hessian.trace(operator, num_vectors=3).value == 10


def test_a_space_that_is_smaller_than_the_steps(matrix):
    density = hessian.spectral_density(
        matrix(np.repeat([1.0, 2.0], 3))[0], num_steps=30, num_vectors=2
    )
    assert density.nodes.shape == (2, 6)
    assert density.mean_of(np.log).value == pytest.approx(np.log(2) / 2, abs=0.5)


@pytest.mark.parametrize("call", [hessian.trace, hessian.diagonal, hessian.spectral_density])
def test_one_vector_has_no_error(matrix, call):
    with pytest.raises(ValueError, match="`num_vectors` must be at least 2, for a standard error"):
        call(matrix(SPECTRUM)[0], num_vectors=1)


def test_results_are_kept(matrix, tmp_path):
    density = hessian.spectral_density(matrix(SPECTRUM)[0], num_steps=30, num_vectors=3)
    density.save(tmp_path / "density.npz")
    again = hessian.SpectralDensity.load(tmp_path / "density.npz")
    np.testing.assert_array_equal(again.nodes, density.nodes)
    assert again.summary() == density.summary()
    assert density.summary()["largest"] == pytest.approx(8)
    # The median of the eigenvalues is in the dense part.
    row = next(row for row in density.table().splitlines() if row.startswith("0.5 "))
    assert 0.1 < float(row.split()[1]) < 0.4
    estimate = hessian.diagonal(matrix(SPECTRUM)[0], num_vectors=2)
    estimate.save(tmp_path / "diagonal.npz")
    np.testing.assert_array_equal(
        hessian.Estimate.load(tmp_path / "diagonal.npz").value, estimate.value
    )


@pytest.mark.parametrize("exponent", [-110, -83, 67, 100])
def test_the_scale_of_the_matrix_changes_only_the_scale_of_the_density(matrix, exponent):
    operator, _ = matrix(np.linspace(-1, 3, 50), "float32")
    expected = hessian.spectral_density(operator, num_steps=20, verbose=0)
    operator.matrix = operator.matrix * np.float32(2.0**exponent)
    found = hessian.spectral_density(operator, num_steps=20, verbose=0)
    np.testing.assert_array_equal(found.nodes / 2.0**exponent, expected.nodes)
    np.testing.assert_allclose(found.density * 2.0**exponent, expected.density, rtol=1e-6)
    assert np.trapezoid(found.density, found.grid) == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("value", [1e-25, 1.0, 1e25])
def test_a_multiple_of_the_identity_has_one_bell(matrix, value):
    operator, _ = matrix(np.full(20, value), "float32")
    density = hessian.spectral_density(operator, num_steps=5, verbose=0)
    assert density.width == pytest.approx(0.01 * value, rel=1e-5)
    assert np.trapezoid(density.density, density.grid) == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("width", [0, -1.0, np.nan, np.inf])
def test_the_width_of_bells_is_positive(matrix, width):
    operator, _ = matrix(np.linspace(-1, 3, 50))
    with pytest.raises(ValueError, match="`width` must be positive and finite"):
        hessian.spectral_density(operator, width=width, verbose=0)
