import numpy as np
import pytest

from thesis_tf.hessian import HessianOperator, NotFiniteError, SearchOptions, extreme_eigenpairs
from thesis_tf.hessian.eigen.lanczos import rounding

SPECTRUM = np.concatenate([[-2.0, -1.5, -1.2], np.linspace(-0.1, 0.1, 190), [1, 2, 3, 4, 5, 9, 20]])


@pytest.mark.parametrize("solver", ["lanczos", "eigsh"])
@pytest.mark.parametrize(("largest", "smallest"), [(5, 3), (3, 3), (7, 0), (0, 3)])
def test_both_ends(matrix, solver, largest, smallest):
    operator, vectors = matrix(SPECTRUM)
    pairs = extreme_eigenpairs(
        operator, largest=largest, smallest=smallest, tol=1e-8, search=SearchOptions(solver=solver)
    )
    chosen = [*range(smallest), *range(200 - largest, 200)]
    np.testing.assert_allclose(pairs.values, SPECTRUM[chosen], atol=1e-12)
    overlap = abs((pairs.vectors * vectors[:, chosen]).sum(axis=0))
    np.testing.assert_allclose(overlap, 1, atol=1e-12)
    true = operator.matrix @ pairs.vectors - pairs.vectors * pairs.values
    # One product with all vectors adds in another order than single products.
    true = np.linalg.norm(true, axis=0)
    np.testing.assert_allclose(pairs.residuals, true, atol=rounding(20, "float64"))
    assert pairs.converged.all()
    assert pairs.products + pairs.checks == operator.products
    assert (pairs.checks, pairs.smallest) == (largest + smallest, smallest)


def test_one_space_takes_fewer_products_than_two(matrix):
    counts = [
        extreme_eigenpairs(
            matrix(SPECTRUM)[0], largest=7, smallest=3, search=SearchOptions(solver=solver)
        ).products
        for solver in ("lanczos", "eigsh")
    ]
    assert counts[0] <= 0.65 * counts[1]


@pytest.mark.slow
def test_a_network_against_dense_eigenvalues(problem, dense_hessian):
    model, loss, data = problem()
    expected = np.linalg.eigvalsh(dense_hessian(model, data))
    operator = HessianOperator(model, loss, data)
    for solver in ("lanczos", "eigsh"):
        pairs = extreme_eigenpairs(
            operator, largest=4, smallest=3, tol=1e-10, search=SearchOptions(solver=solver)
        )
        np.testing.assert_allclose(pairs.values, expected[[0, 1, 2, -4, -3, -2, -1]], atol=1e-12)


def test_a_small_space_restarts(matrix):
    pairs = extreme_eigenpairs(
        matrix(SPECTRUM)[0], largest=5, smallest=3, tol=1e-10, search=SearchOptions(ncv=20)
    )
    np.testing.assert_allclose(pairs.values, SPECTRUM[[0, 1, 2, *range(195, 200)]], atol=1e-12)


def test_a_warm_start_takes_fewer_products(matrix):
    operator, vectors = matrix(SPECTRUM)
    cold = extreme_eigenpairs(operator, largest=5, smallest=3, tol=1e-6)
    nearby = vectors + 1e-3 * np.random.default_rng(0).normal(size=vectors.shape) / np.sqrt(200)
    v0 = nearby[:, [0, 1, 2, *range(195, 200)]]
    warm = extreme_eigenpairs(operator, largest=5, smallest=3, tol=1e-6, v0=v0)
    np.testing.assert_allclose(warm.values, cold.values, atol=1e-8)
    assert warm.products < cold.products


def test_what_has_not_converged_says_so(matrix):
    for solver in ("lanczos", "eigsh"):
        most = {"lanczos": 14, "eigsh": 1}[solver]
        operator, _ = matrix(np.linspace(0, 1, 200))
        pairs = extreme_eigenpairs(
            operator,
            largest=5,
            smallest=3,
            tol=1e-12,
            search=SearchOptions(solver=solver, max_products=most),
        )
        assert len(pairs.values) < 8 or not pairs.converged.all()
        assert len(pairs.values) == len(pairs.residuals) == pairs.vectors.shape[1]
        if solver == "lanczos":
            assert pairs.products == 14
            assert "NO" in pairs.table()


def test_zeros_converge(matrix):
    # A Gauss-Newton matrix has more parameters than rank; in float32, tol |0| is below rounding.
    operator, _ = matrix([0.0] * 50 + [1.0, 2.0, 3.0], "float32")
    pairs = extreme_eigenpairs(operator, largest=2, smallest=2)
    assert pairs.converged.all()
    error = rounding(3, "float32", steps=pairs.products)
    np.testing.assert_allclose(pairs.values, [0, 0, 2, 3], atol=error)


@pytest.mark.parametrize("ncv", [None, 14])
def test_confirming_finds_all_vectors_of_a_repeated_eigenvalue(matrix, ncv):
    spectrum = [*[-2.0] * 2, *np.linspace(-0.1, 0.1, 190), *[5.0] * 2, *[9.0] * 3]
    search = SearchOptions(confirm=20, ncv=ncv)
    pairs = extreme_eigenpairs(matrix(spectrum)[0], largest=5, smallest=2, tol=1e-8, search=search)
    np.testing.assert_allclose(pairs.values, [-2, -2, 5, 5, 9, 9, 9], atol=1e-10)
    assert pairs.converged.all()
    np.testing.assert_allclose(pairs.vectors.T @ pairs.vectors, np.eye(7), atol=1e-10)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("largest", "smallest"), [(0, 3), (5, 3), (0, 20), (20, 0)])
@pytest.mark.parametrize("rank", [0, 1, 5, 40])
def test_low_rank(matrix, dtype, largest, smallest, rank):
    spectrum = np.sort([0.0] * (100 - rank) + [*np.linspace(1, 3, rank)])
    pairs = extreme_eigenpairs(matrix(spectrum, dtype)[0], largest=largest, smallest=smallest)
    chosen = [*range(smallest), *range(100 - largest, 100)]
    assert pairs.converged.all()
    # The first term is from Lanczos' recurrence; rounding adds the second, by Paige's bound.
    zero = np.finfo(dtype).eps ** 0.5 * 3
    error = rounding(3, dtype, steps=pairs.products)
    assert (pairs.residuals <= 1e-3 * np.maximum(abs(pairs.values), zero) + error).all()
    # The error of a value is at most its squared residual over the gap, which is slightly smaller
    # than the true gap; the matrix is also rounded to the dtype.
    gaps = np.diff(np.unique(spectrum))
    errors = pairs.residuals**2 / (0.9 * gaps.min() if len(gaps) else np.inf) + error
    assert (abs(pairs.values - spectrum[chosen]) <= errors).all()


def test_what_was_left_out_at_a_restart_is_mended(matrix, poor_restarts):
    # The recurrence doesn't show residuals of 1e-5; additional products do.
    spectrum = [*[-2.0] * 2, *np.linspace(-0.1, 0.1, 60), *[5.0] * 3]
    operator, _ = matrix(spectrum)
    pairs = extreme_eigenpairs(
        operator, largest=3, smallest=2, tol=1e-8, search=SearchOptions(confirm=8)
    )
    assert pairs.converged.all()
    assert pairs.checks > 5
    assert pairs.checks % 5 == 0
    assert pairs.products + pairs.checks == operator.products
    np.testing.assert_allclose(pairs.values, [-2, -2, 5, 5, 5], atol=1e-12)


@pytest.mark.parametrize(("largest", "smallest"), [(19, 0), (0, 19), (10, 9), (10, 5)])
def test_nearly_all(matrix, largest, smallest):
    for spectrum in (np.linspace(-1, 1, 20), np.ones(20)):
        pairs = extreme_eigenpairs(
            matrix(spectrum)[0], largest=largest, smallest=smallest, tol=1e-8
        )
        chosen = [*range(smallest), *range(20 - largest, 20)]
        np.testing.assert_allclose(pairs.values, spectrum[chosen], atol=1e-12)


def test_an_operator_that_is_not_finite(matrix):
    operator, _ = matrix(SPECTRUM)
    operator.matrix[3, 3] = np.nan
    with pytest.raises(NotFiniteError, match=r"not finite.*diverged"):
        extreme_eigenpairs(operator, largest=2, smallest=2)


def test_arpack_says_what_to_do(matrix):
    with pytest.raises(ValueError, match="Try solver='lanczos'"):
        extreme_eigenpairs(
            matrix(np.zeros(50))[0], largest=2, smallest=1, search=SearchOptions(solver="eigsh")
        )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"largest": 200}, "`largest` .* from 1 to 199, .*: 200 \\+ 3.*eigvalsh"),
        ({"largest": 0, "smallest": 0}, "from 1 to 199"),
        ({"largest": -1}, "from 1 to 199"),
        ({"tol": 0}, "`tol` must be between 0 and 1"),
        ({"tol": np.inf}, "`tol` must be between 0 and 1"),
        ({"v0": np.ones(3)}, r"`v0` must be of shape \(200,\) or \(200, n\)"),
        ({"v0": np.zeros(200)}, "`v0` must be finite and not zero"),
        ({"search": SearchOptions(ncv=2)}, "`ncv` must be at least 25"),
        ({"seed": -1}, "`seed` must be a non-negative integer"),
        ({"verbose": 3}, "`verbose` must be one of auto, 0, 1, 2"),
    ],
)
def test_bad_arguments(matrix, arguments, message):
    with pytest.raises(ValueError, match=message):
        extreme_eigenpairs(matrix(SPECTRUM)[0], **arguments)


def test_counts_are_integers(matrix):
    with pytest.raises(TypeError, match=r"`largest` must be an integer\. Received: 2\.5"):
        extreme_eigenpairs(matrix(SPECTRUM)[0], largest=2.5)


def test_a_bar_counts_products(matrix, monkeypatch):
    bars = []

    class Bar:
        n = 0

        def __init__(self, **_):
            bars.append(self)

        def __enter__(self):
            return self

        def __exit__(self, *_):
            self.closed = True

        def update(self, n=1):
            self.n += n

        def set_postfix_str(self, text):
            self.text = text

    monkeypatch.setattr("thesis_tf.reporting.progress.tqdm.tqdm", Bar)
    pairs = extreme_eigenpairs(matrix(SPECTRUM)[0], largest=2, smallest=1)
    assert (bars[0].n, bars[0].text, bars[0].closed) == (pairs.products, "3 of 3 converged", True)


@pytest.mark.parametrize("exponent", [-110, -83, -63, 63, 67, 100])
@pytest.mark.parametrize("confirm", [None, 20])
def test_the_scale_of_the_matrix_changes_only_the_scale_of_eigenvalues(matrix, exponent, confirm):
    # Squares of 2^63 overflow in float32, those of 2^-63 underflow. Powers of two don't round.
    search = SearchOptions(confirm=confirm, ncv=20)
    operator, _ = matrix(np.r_[-3.0, -2.0, np.linspace(-1, 1, 60), 4.0, 5.0], "float32")
    options = {"largest": 2, "smallest": 2, "search": search, "verbose": 0}
    expected = extreme_eigenpairs(operator, **options)
    operator.matrix = operator.matrix * np.float32(2.0**exponent)
    found = extreme_eigenpairs(operator, **options)
    assert found.products == expected.products
    assert found.converged.all()
    np.testing.assert_array_equal(found.values / 2.0**exponent, expected.values)
    np.testing.assert_array_equal(found.vectors, expected.vectors)
    np.testing.assert_allclose(found.residuals / 2.0**exponent, expected.residuals, rtol=1e-6)


def test_whether_copies_were_searched_for_is_known(matrix):
    operator, _ = matrix(np.r_[np.linspace(-1, 1, 40), 2.0, 2.0, 2.0, 3.0])
    options = {"largest": 3, "smallest": 0, "verbose": 0}
    found = extreme_eigenpairs(operator, **options)
    assert found.converged.all()
    assert not found.confirmed
    assert "Copies of multiple eigenvalues may be missing" in found.table()
    assert not found.summary()["confirmed"]
    confirm = SearchOptions(confirm=20)
    found = extreme_eigenpairs(operator, **options, search=confirm)
    assert found.confirmed
    np.testing.assert_allclose(found.values, [2, 2, 3])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("copies", [2, 3, 5])
def test_copies_that_rounding_finds_lead_to_all_others(matrix, copies, dtype):
    # As for a linear layer of several outputs: each eigenvalue has as many copies. More are wanted
    # than there are different ones, so copies are found.
    spectrum = np.repeat(1 / np.arange(1.0, 9), copies)
    operator, _ = matrix(spectrum, dtype)
    found = extreme_eigenpairs(operator, largest=10, smallest=0, tol=1e-4, verbose=0)
    assert found.converged.all()
    assert found.confirmed
    np.testing.assert_allclose(found.values, np.sort(spectrum)[-10:], rtol=1e-4)
    assert found.warnings() == []
    assert "confirm" not in found.table()
    # A search that must not look for them says what it saw.
    blind = extreme_eigenpairs(
        operator, largest=10, smallest=0, tol=1e-4, verbose=0, search=SearchOptions(confirm=0)
    )
    wrong = abs(blind.values - np.sort(spectrum)[-10:]).max() > 0.01
    assert not (wrong and blind.confirmed)
    assert blind.confirmed != ("Eigenvalues are multiple" in blind.table())


def test_a_single_parameter(matrix):
    operator, _ = matrix(np.array([2.0]))
    with pytest.raises(ValueError, match=r"`operator` must be of at least 2 parameters"):
        extreme_eigenpairs(operator, largest=1, smallest=0, verbose=0)
