import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

from thesis_tf.autoencoders import KernelDensity, OutsideDataWarning, ScoreEstimator

SIGMA = 0.3
COVARIANCE = np.array([[1.0, 0.5, 0.1], [0.5, 0.7, 0.0], [0.1, 0.0, 0.4]])
PRECISION = np.linalg.inv(COVARIANCE + SIGMA**2 * np.eye(3))
RNG = np.random.default_rng(0)
POINTS = RNG.normal(size=(6, 3))


def gaussian_dae(x):
    """The optimal DAE of N(0, COVARIANCE), which is linear."""
    return x - SIGMA**2 * tf.linalg.matmul(x, tf.cast(PRECISION, x.dtype))


def network(units=7, size=3, dtype="float64"):
    keras.utils.set_random_seed(1)
    layers = [keras.layers.Dense(units, "tanh", dtype=dtype), keras.layers.Dense(size, dtype=dtype)]
    return keras.Sequential([keras.Input((size,), dtype=dtype), *layers])


def differences(function, x, h=1e-6):
    """Returns df/dx (n, d, k) of f at x (n, d), by central differences."""
    steps = h * np.eye(x.shape[1])
    columns = [(np.asarray(function(x + s)) - np.asarray(function(x - s))) / (2 * h) for s in steps]
    return np.stack(columns, axis=-1)


def mixture():
    return tfp.distributions.MixtureSameFamily(
        tfp.distributions.Categorical(probs=np.array([0.3, 0.5, 0.2])),
        tfp.distributions.MultivariateNormalDiag(
            np.array([[0.0, 0.5], [1.0, -0.5], [-1.0, 0.0]]), np.array([[0.5, 0.4]] * 3)
        ),
    )


def mixture_dae(x):
    """Tweedie's formula with the mixture as p_sigma."""
    with tf.GradientTape() as tape:
        tape.watch(x)
        value = mixture().log_prob(x)
    return x + SIGMA**2 * tape.gradient(value, x)


def test_a_gaussian_in_closed_form():
    estimator = ScoreEstimator(gaussian_dae, sigma=SIGMA)
    np.testing.assert_allclose(estimator.score(POINTS), -POINTS @ PRECISION, atol=1e-13)
    hessian = np.broadcast_to(-PRECISION, (6, 3, 3))
    np.testing.assert_allclose(estimator.hessian_log_prob(POINTS), hessian, atol=1e-13)
    np.testing.assert_allclose(estimator.conservativity(POINTS), 0, atol=1e-14)
    ends = RNG.normal(size=(6, 3))
    energy = lambda x: np.einsum("ni,ij,nj->n", x, PRECISION, x) / 2  # noqa: E731
    for rule, count in (("gauss_legendre", 1), ("midpoint", 1), ("trapezoid", 2), ("simpson", 3)):
        found = estimator.energy_difference(POINTS, ends, num_points=count, rule=rule)
        np.testing.assert_allclose(found, energy(ends) - energy(POINTS), atol=1e-13)


@pytest.mark.slow
def test_a_mixture_in_closed_form():
    x, ends = RNG.normal(size=(2, 5, 2))
    estimator = ScoreEstimator(mixture_dae, sigma=SIGMA)
    log_prob = lambda x: mixture().log_prob(x).numpy()  # noqa: E731
    np.testing.assert_allclose(estimator.score(x), differences(log_prob, x), atol=1e-8)
    hessian = differences(lambda x: differences(log_prob, x, 1e-4), x, 1e-4)
    np.testing.assert_allclose(estimator.hessian_log_prob(x), hessian, atol=1e-6)
    expected = log_prob(x) - log_prob(ends)
    straight = estimator.energy_difference(x, ends, num_points=30)
    np.testing.assert_allclose(straight, expected, atol=1e-10)
    # The result doesn't depend on the path.
    around = estimator.energy_difference(
        x, ends, num_points=120, waypoints=RNG.normal(size=(3, 5, 2))
    )
    np.testing.assert_allclose(around, expected, atol=1e-9)


@pytest.mark.slow
def test_derivatives_of_a_network_against_two_oracles():
    model = network()
    estimator = ScoreEstimator(model, sigma=SIGMA)
    jacobian = estimator.jacobian(POINTS)
    np.testing.assert_allclose(jacobian, differences(model, POINTS), atol=1e-9)
    x = tf.constant(POINTS)
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = model(x)
    np.testing.assert_allclose(jacobian, tape.batch_jacobian(y, x), atol=1e-14)
    skew = (jacobian - jacobian.transpose(0, 2, 1)) / 2
    ratio = np.linalg.norm(skew, axis=(1, 2)) / np.linalg.norm(jacobian, axis=(1, 2))
    np.testing.assert_allclose(estimator.conservativity(POINTS), ratio, atol=1e-14)
    tangents = estimator.tangent_directions(POINTS)
    np.testing.assert_allclose(tangents.asymmetry, ratio, atol=1e-14)
    symmetric = (jacobian + jacobian.transpose(0, 2, 1)) / 2
    expected = (symmetric - np.eye(3)) / SIGMA**2
    np.testing.assert_allclose(estimator.hessian_log_prob(POINTS), expected, atol=1e-12)
    operator = estimator.hessian_operator(POINTS)
    assert operator.shape == (6, 3, 3)
    np.testing.assert_allclose(operator.to_dense(), expected, atol=1e-12)
    vectors = RNG.normal(size=(6, 3))
    products = np.einsum("nij,nj->ni", expected, vectors)
    np.testing.assert_allclose(operator.matvec(vectors), products, atol=1e-11)
    several = RNG.normal(size=(6, 3, 4))
    np.testing.assert_allclose(operator.matmul(several), expected @ several, atol=1e-11)
    transposed = operator.matmul(several.transpose(0, 2, 1), adjoint_arg=True)
    np.testing.assert_allclose(transposed, expected @ several, atol=1e-11)


@pytest.mark.slow
def test_random_vectors_estimate_the_asymmetry():
    estimator = ScoreEstimator(network(), sigma=SIGMA)
    exact, many = estimator.conservativity(POINTS), 20_000
    found = estimator.conservativity(np.repeat(POINTS[:1], 100, axis=0), num_vectors=many // 100)
    # A ratio of two means of squares over many vectors has a relative error of order 1/sqrt(many).
    assert np.sqrt(np.mean(found**2)) == pytest.approx(float(exact[0]), rel=6 / many**0.5)


def test_a_rotation_is_no_gradient():
    turn = np.array([[0.0, -1.0], [1.0, 0.0]])
    estimator = ScoreEstimator(lambda x: x @ turn.T)
    x = RNG.normal(size=(4, 2))
    np.testing.assert_allclose(estimator.conservativity(x), 1)
    np.testing.assert_allclose(estimator.conservativity(x, num_vectors=3), 1)
    np.testing.assert_allclose(estimator.conservativity(0 * x), 1)
    assert (ScoreEstimator(tf.zeros_like).conservativity(x) == 0).all()


def test_directions_need_no_sigma():
    estimator = ScoreEstimator(gaussian_dae)
    score = -POINTS @ PRECISION
    expected = score / np.linalg.norm(score, axis=1, keepdims=True)
    np.testing.assert_allclose(estimator.direction(POINTS), expected, atol=1e-13)
    assert (estimator.direction(np.zeros((1, 3))) == 0).all()
    for method in (estimator.score, estimator.hessian_log_prob, estimator.hessian_operator):
        with pytest.raises(ValueError, match="`sigma` must be known"):
            method(POINTS)


def test_tangents_of_a_plane():
    # Data in a plane of R^4 with variances 1 and 2: r shrinks by 1 / (1 + sigma^2 / v) along it.
    basis = np.linalg.qr(RNG.normal(size=(4, 4)))[0]
    shrink = np.diag(1 / (1 + SIGMA**2 / np.array([2.0, 1.0])))
    matrix = basis[:, :2] @ shrink @ basis[:, :2].T
    found = ScoreEstimator(lambda x: x @ matrix, sigma=SIGMA).tangent_directions(
        RNG.normal(size=(3, 4))
    )
    expected = [*np.diag(shrink), 0, 0]
    np.testing.assert_allclose(found.eigenvalues, np.tile(expected, (3, 1)), atol=1e-13)
    assert found.dimension.tolist() == [2, 2, 2]
    overlap = abs(basis[:, :2].T @ found.directions[0][:, :2])
    np.testing.assert_allclose(overlap, np.eye(2), atol=1e-10)


def test_score_matching_is_the_denoising_loss():
    estimator = ScoreEstimator(network(), sigma=SIGMA)
    noisy = POINTS + SIGMA * RNG.normal(size=POINTS.shape)
    matching = estimator.denoising_score_matching(POINTS, noisy)
    denoising = np.square(estimator.reconstruct(noisy) - POINTS).sum(axis=1)
    np.testing.assert_allclose(matching, denoising / (2 * SIGMA**4), rtol=1e-12)


def test_score_matching_of_noise_is_score_matching_of_the_density():
    """E|s - target|^2 / 2 and E|s - score|^2 / 2 differ by a constant, independent of s (3.3.7)."""
    data = RNG.normal(size=(5, 1))
    density = KernelDensity(data, SIGMA)
    nodes = np.linspace(-9, 9, 1001)
    weights = np.exp(-(nodes**2) / 2)
    weights = weights / weights.sum() / len(data)
    x = np.repeat(data, len(nodes), axis=0)
    noisy = x + SIGMA * np.tile(nodes, len(data))[:, None]
    gaps = []
    for shift in (0.0, 0.7):
        estimator = ScoreEstimator(lambda x, s=shift: gaussian_like(x, s), sigma=SIGMA)
        matching = np.tile(weights, len(data)) @ estimator.denoising_score_matching(x, noisy)
        off = (estimator.score(noisy) - density.score(noisy)) ** 2
        gaps.append(matching - np.tile(weights, len(data)) @ off.sum(axis=1) / 2)
    assert gaps[0] == pytest.approx(gaps[1], rel=1e-8)


def gaussian_like(x, shift):
    return x * 0.8 + shift * tf.sin(x)


@pytest.mark.parametrize(
    "method",
    ["reconstruct", "score", "direction", "jacobian", "hessian_log_prob", "conservativity"],
)
def test_arrays_come_back_as_the_kind_that_was_given(method):
    function = getattr(ScoreEstimator(lambda x: 0.5 * x, sigma=SIGMA), method)
    array, tensor = function(POINTS), function(tf.constant(POINTS))
    assert isinstance(array, np.ndarray)
    assert tf.is_tensor(tensor)
    np.testing.assert_array_equal(array, tensor)


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [("float64", 1e-12), ("float32", 1e-4), ("bfloat16", 1.0)]
)
def test_every_float_dtype(dtype, tolerance):
    estimator = ScoreEstimator(gaussian_dae, sigma=SIGMA)
    x = tf.cast(POINTS, dtype)
    for values in (estimator.score(x), estimator.direction(x), estimator.jacobian(x)):
        assert values.dtype == dtype
    expected = -tf.cast(x, tf.float64).numpy() @ PRECISION
    np.testing.assert_allclose(tf.cast(estimator.score(x), tf.float64), expected, atol=tolerance)
    assert estimator.energy_difference(x, 2 * x).dtype == dtype


def test_images_and_one_example():
    shape = (1, 4, 3, 2)
    estimator = ScoreEstimator(lambda x: 0.5 * x, sigma=SIGMA)
    x = RNG.normal(size=shape)
    np.testing.assert_allclose(estimator.score(x), -0.5 * x / SIGMA**2)
    assert estimator.hessian_log_prob(x).shape == (1, 24, 24)
    assert estimator.energy_difference(x, 2 * x).shape == (1,)
    assert estimator.tangent_directions(x).directions.shape == (1, 24, 24)
    assert estimator.hessian_operator(x).matvec(np.ones((1, 24))).shape == (1, 24)


def test_mixed_precision_and_compiled():
    keras.config.set_dtype_policy("mixed_bfloat16")
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(3)])
    x = POINTS.astype(np.float32)
    for jit_compile in (False, True):
        score = ScoreEstimator(model, sigma=0.5, jit_compile=jit_compile).score(x)
        assert score.dtype == tf.float32
        r = tf.cast(model(x), tf.float32)
        # Eager code rounds both the product and the sum with the bias, a fused kernel only the sum:
        # 3/2 units in the last place of bfloat16, each at most 2^-7 of the number.
        rounding = 1.5 * 2**-7 * np.abs(r).max()
        np.testing.assert_allclose(score, (r - x) / 0.25, rtol=1e-6, atol=rounding / 0.25)


def test_inside_a_function_of_ones_own():
    estimator = ScoreEstimator(gaussian_dae, sigma=SIGMA, data=POINTS)

    @tf.function
    def both(x):
        return estimator.score(x), estimator.energy_difference(x, 100 * x)

    score, difference = both(tf.constant(POINTS))
    np.testing.assert_allclose(score, -POINTS @ PRECISION, atol=1e-13)
    assert difference.shape == (6,)


@pytest.mark.slow
def test_operations_that_tensorflow_cannot_vectorize():
    # A `tf.while_loop` with a dynamic end can't be vectorized.
    def loop(x):
        return tf.map_fn(lambda row: tf.sin(row) * tf.reduce_sum(row), x)

    jacobian = ScoreEstimator(loop, sigma=SIGMA).jacobian(POINTS)
    np.testing.assert_allclose(
        jacobian, differences(lambda x: loop(tf.constant(x)), POINTS), atol=1e-8
    )


def test_a_path_away_from_the_data_warns_with_the_distance():
    data = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    estimator = ScoreEstimator(lambda x: 0.9 * x, sigma=0.1, data=data)
    here, far = np.zeros((1, 2)), np.full((1, 2), 5.0)
    with pytest.warns(OutsideDataWarning, match=r"farthest 6\.\d+ \(6\d\.\d+? sigma\)"):
        estimator.energy_difference(here, far)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        estimator.energy_difference(here, here + 0.2)
        ScoreEstimator(lambda x: 0.9 * x, sigma=0.1).energy_difference(here, far)


@pytest.mark.parametrize(
    ("make", "error", "match"),
    [
        (lambda: ScoreEstimator("r", sigma=0.1), TypeError, "`reconstruct` must be a model"),
        (lambda: ScoreEstimator(gaussian_dae, sigma=0.0), ValueError, "`sigma` must be a positive"),
        (lambda: ScoreEstimator(gaussian_dae, sigma=-1), ValueError, "`sigma` must be a positive"),
        (
            lambda: ScoreEstimator(gaussian_dae, sigma=0.1, data=[[np.nan]]),
            ValueError,
            "`data` .* NaN",
        ),
        (lambda: estimator().score(np.ones((2, 3), int)), TypeError, "`x` must be .* floating"),
        (lambda: estimator().score(np.ones(3)), ValueError, r"shape \(n, ...\)"),
        (lambda: estimator().score([[0.0, np.inf, 1.0]]), ValueError, "1 of 1, the first at 0"),
        (lambda: wrong().score(POINTS), ValueError, r"the shape of x, \(6, 3\)"),
        (lambda: wrong().jacobian(POINTS), ValueError, "the shape of x"),
        (lambda: estimator().energy_difference(POINTS, POINTS[:2]), ValueError, "`x_star`"),
        (
            lambda: estimator().energy_difference(POINTS, POINTS.astype("f")),
            ValueError,
            "`x_star` must be float64",
        ),
        (
            lambda: estimator().energy_difference(POINTS, POINTS, num_points=0),
            ValueError,
            "`num_points`",
        ),
        (
            lambda: estimator().energy_difference(POINTS, POINTS, rule="euler"),
            ValueError,
            "one of gauss_legendre",
        ),
        (
            lambda: estimator().energy_difference(POINTS, POINTS, waypoints=POINTS[None, :2]),
            ValueError,
            r"`waypoints\[0\]`",
        ),
        (
            lambda: estimator().energy_difference(POINTS, POINTS, waypoints=POINTS),
            ValueError,
            r"of shape \(m, 6, 3\)",
        ),
        (
            lambda: ScoreEstimator(gaussian_dae, sigma=0.1, data=POINTS[:0]),
            ValueError,
            "at least 1",
        ),
        (
            lambda: ScoreEstimator(tf.identity, sigma=0.1, data=POINTS[:, :1]).energy_difference(
                POINTS, POINTS
            ),
            ValueError,
            r"of shape \(1,\), as `data`",
        ),
    ],
)
def test_bad_input(make, error, match):
    with pytest.raises(error, match=match):
        make()


def estimator():
    return ScoreEstimator(gaussian_dae, sigma=SIGMA)


def wrong():
    return ScoreEstimator(lambda x: x[:, :2], sigma=SIGMA)


def test_points_of_several_shapes_and_numbers():
    estimator = ScoreEstimator(lambda x: 0.5 * x, sigma=SIGMA)
    for shape in ((3, 2), (5, 2), (4, 7), (6, 2), (2, 3, 3, 1), (9, 7)):
        x = RNG.normal(size=shape)
        np.testing.assert_allclose(estimator.score(x), -0.5 * x / SIGMA**2)
        size = x[0].size
        assert estimator.hessian_log_prob(x).shape == (len(x), size, size)
        assert estimator.energy_difference(x, 2 * x).shape == (len(x),)


def test_no_points_and_errors_of_one_line():
    nothing = POINTS[:0]
    some = ScoreEstimator(gaussian_dae, sigma=SIGMA, data=POINTS)
    assert some.score(nothing).shape == (0, 3)
    assert some.energy_difference(nothing, nothing).shape == (0,)
    assert some.conservativity(nothing).shape == (0,)
    for call in (lambda: wrong().score(POINTS), lambda: ScoreEstimator(tf.identity).score(POINTS)):
        with pytest.raises(ValueError) as caught:
            call()
        assert "\n" not in str(caught.value)


METHODS = {
    "score": lambda e, x: e.score(x),
    "direction": lambda e, x: e.direction(x),
    "jacobian": lambda e, x: e.jacobian(x),
    "hessian": lambda e, x: e.hessian_log_prob(x),
    "energy": lambda e, x: e.energy_difference(x, x + 0.1),
    "asymmetry": lambda e, x: e.conservativity(x),
    "estimated asymmetry": lambda e, x: e.conservativity(x, num_vectors=2),
    "tangents": lambda e, x: e.tangent_directions(x),
    "score matching": lambda e, x: e.denoising_score_matching(x, x + 0.1),
}


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("name", METHODS)
def test_r_that_is_not_finite_is_refused(name, value):
    estimator = ScoreEstimator(lambda x: value * x * tf.where(x > 2, 1.0, 0.0) + x, sigma=0.1)
    if np.isinf(value):
        estimator = ScoreEstimator(lambda x: tf.where(x > 2, np.float32(value), 1) * x, sigma=0.1)
    x = np.array([[1.0, 1.0], [3.0, 3.0]], np.float32)
    with pytest.raises(ValueError, match=r"r\(x\).* must be finite.*for 1 of 2|for 2 of 2"):
        METHODS[name](estimator, x)
