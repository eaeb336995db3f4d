"""Functions of NumPy arrays x layouts, dtypes, scales, shapes and values that aren't numbers.

Each cell is right, by a relation to the result for plain arrays, or refused by name.
"""

import dataclasses
import math

import layouts
import numpy as np
import pytest

from thesis_tf import autoencoders, gsn, hessian, issgd, mcmc
from thesis_tf.autoencoders import theory
from thesis_tf.datasets.assemble import Source, assemble, assemble_inputs
from thesis_tf.errors import ArgumentError
from thesis_tf.gsn import finite
from thesis_tf.persistence import fingerprint
from thesis_tf.plotting import draw_images

RNG = np.random.default_rng(0)
CHAIN, DATA = RNG.dirichlet(np.ones(4), size=4), RNG.dirichlet(np.ones(4))
CORRUPTION = RNG.dirichlet(np.ones(5), size=4)
BACK = RNG.dirichlet(np.ones(4), size=5)
HIDDEN, DECODER = RNG.dirichlet(np.ones(3), size=(4, 3)), RNG.dirichlet(np.ones(4), size=3)
JOINT, ROUNDS = RNG.dirichlet(np.ones(12)).reshape(3, 4), np.array([0.5, 0.3, 0.2])
GRID = np.linspace(-1.5, 1.5, 101)
P = np.exp(-((GRID - 0.3) ** 2))
SAMPLES = RNG.normal(size=(12, 3, 2))
NORMS, OLD = RNG.uniform(0.1, 2, (2, 40))
CLASSES = RNG.dirichlet(np.ones(5), size=(8, 3))
X, Y = RNG.normal(size=(2, 30, 3))
LABELS = np.arange(30) % 3
ROWS = np.array([3, 1, 21])


def drawn(norms):
    proposal = issgd.Proposal(len(NORMS), seed=1)
    proposal.update(None, norms, 0)
    return [proposal.probabilities(), *proposal.sample(7, step=3), proposal.entropy()]


def updated(rows):
    proposal = issgd.Proposal(len(NORMS), seed=1)
    proposal.update(None, NORMS, 0)
    proposal.update(rows, np.arange(1.0, len(ROWS) + 1), 0)
    return proposal.probabilities()


def gaussian(x):
    return np.exp(-(x**2).sum(axis=1))


def parts(splits):
    return [value for split in (splits.train, splits.test) for value in (split.x, split.y)]


# {function: (call, arguments, the dtype kinds in which each argument may come)}.
REAL, STOCHASTIC, FLOATS, WHOLE = "real", "stochastic", "floats", "whole"
FUNCTIONS = {
    "stationary_distribution": (finite.stationary_distribution, (CHAIN,), STOCHASTIC),
    "ergodicity": (finite.ergodicity, (CHAIN,), STOCHASTIC),
    "fundamental_matrix": (finite.fundamental_matrix, (CHAIN,), STOCHASTIC),
    "perturbation_bound": (finite.perturbation_bound, (CHAIN, CHAIN[::-1]), STOCHASTIC),
    "occupation_covariance": (
        lambda m: finite.occupation_covariance(m, 10), (CHAIN,), STOCHASTIC
    ),
    "posterior": (finite.posterior, (DATA, CORRUPTION), STOCHASTIC),
    "denoising_chain": (
        lambda d, c, r: finite.denoising_chain(d, c, reconstruction=r),
        (DATA, CORRUPTION, BACK), STOCHASTIC,
    ),
    "positivity": (finite.positivity, (DATA, CORRUPTION), STOCHASTIC),
    "counting_chain": (
        lambda d, c: finite.counting_chain(d, c, num_examples=99, num_results=20),
        (DATA, CORRUPTION), STOCHASTIC,
    ),
    "latent_chain": (finite.latent_chain, (DATA, HIDDEN), STOCHASTIC),
    "kept_hidden": (finite.kept_hidden, (HIDDEN,), STOCHASTIC),
    "latent_transition": (finite.latent_transition, (HIDDEN, DECODER), STOCHASTIC),
    "clamped_chain": (
        lambda h, r: finite.clamped_chain(h, r, np.array([True, True, False, True])),
        (HIDDEN, DECODER), STOCHASTIC,
    ),
    "walkback_chain": (finite.walkback_chain, (DATA, CORRUPTION, ROUNDS), STOCHASTIC),
    "walkback_corruption": (
        finite.walkback_corruption, (CORRUPTION, BACK, ROUNDS), STOCHASTIC
    ),
    "round_frequencies": (finite.round_frequencies, (ROUNDS,), STOCHASTIC),
    "counted_posterior": (
        lambda a, b: finite.counted_posterior(a, b, 4), (LABELS, LABELS[::-1]), WHOLE
    ),
    "parzen_chain": (
        lambda x: finite.parzen_chain(x, 0.3, 0.1, 3, num_chains=2), (X,), FLOATS
    ),
    "rcae_score_1d": (lambda p, g: theory.rcae_score_1d(p, g, 0.1), (P, GRID), FLOATS),
    "rcae_1d": (lambda p, g: theory.rcae_1d(p, g, 0.1), (P, GRID), FLOATS),
    "dae_score_1d": (lambda p, g: theory.dae_score_1d(p, g, 0.1), (P, GRID), FLOATS),
    "dae_1d": (lambda p, g: theory.dae_1d(p, g, 0.1), (P, GRID), FLOATS),
    "dae_loss_1d": (
        lambda r, p, g: theory.dae_loss_1d(r, p, g, 0.1), (0.9 * GRID, P, GRID), FLOATS
    ),
    "rcae_loss_1d": (
        lambda r, p, g: theory.rcae_loss_1d(r, p, g, 0.1), (0.9 * GRID, P, GRID), FLOATS
    ),
    "relative_rmse": (theory.relative_rmse, (0.9 * GRID, GRID, P), REAL),
    "asymptotic_moments": (
        lambda g, h, x: theory.asymptotic_moments(0.5, g, h, x, 0.1), (X[0], X[:3], X[1]), REAL
    ),
    "local_moments": (lambda x: theory.local_moments(gaussian, x, 0.1), (X[0],), REAL),
    "ball_integral": (lambda e: theory.ball_integral(e, 1.5), (np.array([2, 4]),), WHOLE),
    "r_hat": (mcmc.r_hat, (SAMPLES,), REAL),
    "effective_sample_size": (mcmc.effective_sample_size, (SAMPLES,), REAL),
    "gradient_variance": (issgd.gradient_variance, (NORMS, OLD), REAL),
    "compare_draws": (issgd.compare_draws, (NORMS, OLD), REAL),
    "true_gradient_bound": (issgd.true_gradient_bound, (NORMS,), REAL),
    "Proposal.update(norms)": (drawn, (NORMS,), REAL),
    "Proposal.update(rows)": (updated, (ROWS,), WHOLE),
    "sample_quality": (gsn.sample_quality, (CLASSES,), REAL),
    "nearest_neighbor_test": (autoencoders.nearest_neighbor_test, (X, Y), REAL),
    "fixed_subset": (
        lambda x, y: hessian.fixed_subset(x, y, fraction=0.3), (X, LABELS), "kept"
    ),
    "fingerprint.of_arrays": (lambda x: fingerprint.of_arrays([np.asarray(x)]), (X,), "kept"),
    "datasets.assemble": (lambda x, y: parts(assemble("d", Source((x, y)))), (X, LABELS), "kept"),
    "datasets.assemble_inputs": (
        lambda x: parts(assemble_inputs("d", Source((x, None)))), (X,), "kept"
    ),
}  # fmt: skip
ARGUMENTS = [(name, i) for name, case in FUNCTIONS.items() for i in range(len(case[1]))]


def unaligned(a):
    raw = np.frombuffer(b"\0" + a.tobytes(), np.uint8)[1:]
    return raw.view(a.dtype).reshape(a.shape)


LAYOUTS = {
    **layouts.LAYOUTS,
    "transposed": lambda a: np.ascontiguousarray(a.T).T,
    "unaligned": unaligned,
    "a list": lambda a: a.tolist(),
}


def leaves(value):
    """Returns the numbers and arrays of a result."""
    if dataclasses.is_dataclass(value):
        value = [getattr(value, field.name) for field in dataclasses.fields(value)]
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list | tuple):
        return [leaf for part in value for leaf in leaves(part)]
    return [] if value is None else [np.asarray(value)]


def assert_same(found, expected, rtol):
    found, expected = leaves(found), leaves(expected)
    assert len(found) == len(expected)
    for a, b in zip(found, expected, strict=True):
        assert a.shape == b.shape
        if b.dtype.kind == "f":
            # Sums of another order of the memory are rounded otherwise.
            np.testing.assert_allclose(a, b, rtol=rtol, atol=rtol * np.abs(b).max(initial=0))
        else:
            np.testing.assert_array_equal(a, b)


def call(name, number, change):
    function, arguments, _ = FUNCTIONS[name]
    return function(*(change(a) if i == number else a for i, a in enumerate(arguments)))


def plain(name):
    return call(name, -1, None)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(("name", "number"), ARGUMENTS)
def test_layouts(name, number, layout):
    assert_same(call(name, number, LAYOUTS[layout]), plain(name), rtol=1e-12)


@pytest.mark.parametrize(
    ("name", "number", "dtype"),
    [
        (name, number, dtype)
        for name, number in ARGUMENTS
        for dtype in ("float16", "float32", "longdouble")
        if FUNCTIONS[name][2] in (REAL, FLOATS)
        # In float64, sums of probabilities of 16 bits are no sums of a softmax.
        and (name, dtype) != ("sample_quality", "float16")
    ],
)
def test_floats(name, number, dtype):
    found = call(name, number, lambda a: a.astype(dtype))
    expected = call(name, number, lambda a: a.astype(dtype).astype(np.float64))
    # Functions of a grid compute in its dtype, with differences of its 100 points.
    rounding = 1000 * float(np.finfo(dtype).eps)
    assert_same(found, expected, 1e-12 if FUNCTIONS[name][2] == REAL else max(1e-12, rounding))


@pytest.mark.parametrize("dtype", ["uint8", "int8", "int64", "bool", ">i2"])
@pytest.mark.parametrize(
    ("name", "number"), [(n, i) for n, i in ARGUMENTS if FUNCTIONS[n][2] == REAL]
)
def test_integers(name, number, dtype):
    """Differences and squares of small integers must not wrap around."""
    if name == "sample_quality":
        integers = np.eye(5)[LABELS[:24].reshape(8, 3)].astype(dtype)
    else:
        size = FUNCTIONS[name][1][number].shape
        # The density around a point is 0 in float64 far from the origin.
        most = 2 if dtype == "bool" or name == "local_moments" else 120
        integers = np.random.default_rng(number).integers(0, most, size)
        integers = integers.astype(dtype)
    found = call(name, number, lambda a: integers)
    assert_same(found, call(name, number, lambda a: integers.astype(np.float64)), rtol=1e-12)


def with_value(value):
    def change(a):
        a = a.copy()
        a.flat[1] = value
        return a

    return change


WRONG = {
    "NaN": with_value(np.nan),
    "infinity": with_value(np.inf),
    "complex": lambda a: a + 0j,
    "strings": lambda a: np.full(a.shape, "one"),
    "objects": lambda a: np.full(a.shape, None),
    "nothing": lambda a: a[:0],
    "a column": lambda a: a[..., np.newaxis],
    "a row": lambda a: a[np.newaxis],
    "a number": lambda a: a.flat[0],
}
TAKEN = {
    "fixed_subset": "it draws rows of any arrays, and the test below is on labels",
    "fingerprint.of_arrays": "it hashes anything",
    ("relative_rmse", "NaN"): "NaN",
    ("relative_rmse", "infinity"): "infinity or NaN",
    ("relative_rmse", "objects"): "None is NaN",
    ("Proposal.update(norms)", "NaN"): "unknown",
    ("Proposal.update(norms)", "objects"): "None is unknown",
    ("Proposal.update(rows)", "nothing"): "nothing is replaced",
    ("datasets.assemble", "a column"): "examples and labels of another shape",
    ("datasets.assemble_inputs", "a column"): "examples of another shape",
    ("datasets.assemble_inputs", "a number"): "see `datasets.assemble`",
    ("r_hat", "a column"): "states of another shape",
    ("effective_sample_size", "a column"): "states of another shape",
    ("local_moments", "a number"): "a point of one dimension",
    ("asymptotic_moments", "a number"): "a point of one dimension, which the others don't fit",
    ("ball_integral", "a number"): "one dimension",
}
CELLS = [
    (name, number, wrong)
    for name, number in ARGUMENTS
    for wrong in WRONG
    if not {name, (name, wrong)} & TAKEN.keys()
    and not (FUNCTIONS[name][1][number].dtype.kind in "iu" and wrong in ("NaN", "infinity"))
]


@pytest.mark.parametrize(("name", "number", "wrong"), CELLS)
def test_what_is_wrong_is_refused_by_name(name, number, wrong):
    with pytest.raises(ArgumentError, match=r"must be .* Received: "):
        call(name, number, WRONG[wrong])


@pytest.mark.parametrize("dtype", ["uint8", "int8", "int64", "float32"])
@pytest.mark.parametrize("solve", [theory.rcae_score_1d, theory.dae_score_1d])
def test_densities_of_counts(solve, dtype):
    """Sums of neighboring counts must not wrap around."""
    counts = np.round((250 if dtype == "uint8" else 120) * P).astype(dtype)
    np.testing.assert_array_equal(
        solve(counts, GRID, 0.1), solve(counts.astype(np.float64), GRID, 0.1)
    )


BEYOND = 2**60


@pytest.mark.parametrize("dtype", ["int64", "uint64", ">i8"])
@pytest.mark.parametrize("estimate", [mcmc.r_hat, mcmc.effective_sample_size])
def test_states_beyond_float64(estimate, dtype):
    """What differs between the states is exact, whatever float64 rounds their values to."""
    states = RNG.integers(0, 50, (12, 3, 2))
    found = estimate((BEYOND + states).astype(dtype))
    np.testing.assert_array_equal(found, estimate(states.astype(np.float64)))
    ends = np.where(states < 25, 0, np.iinfo(dtype).max).astype(dtype)
    np.testing.assert_allclose(found * 0 + estimate(ends), estimate(ends.astype(np.float64)))


@pytest.mark.parametrize(
    ("function", "arguments"),
    [
        (autoencoders.nearest_neighbor_test, (BEYOND + np.arange(40), BEYOND + np.arange(40))),
        (theory.relative_rmse, (np.full(3, BEYOND + 1), np.full(3, BEYOND), np.ones(3))),
        (drawn, (np.full(len(NORMS), BEYOND + 1),)),
        (
            lambda x: assemble_inputs("d", Source((x, None)), value_range="none"),
            (BEYOND + np.arange(40).reshape(20, 2),),
        ),
    ],
)
def test_integers_beyond_float64_are_refused(function, arguments):
    with pytest.raises(ArgumentError, match=r"within ±2\^53"):
        function(*arguments)


def variance_by_definition(norms, weights):
    """Returns Tr Sigma(q) with q in proportion to weights, without the true gradient."""
    q = weights / weights.sum()
    return np.sum((norms / len(norms)) ** 2 / q)


def test_the_oracle_of_variances():
    assert issgd.gradient_variance(NORMS, OLD) == pytest.approx(variance_by_definition(NORMS, OLD))


# {name: (function of a scale, power of the scale in its result, largest exponent of the scale)}.
SCALED = {
    "r_hat": (lambda s: mcmc.r_hat(s * SAMPLES), 0, 300),
    "r_hat, values apart": (
        lambda s: mcmc.r_hat(np.concatenate([SAMPLES, s * SAMPLES], axis=2)), 0, 300
    ),
    "effective_sample_size": (lambda s: mcmc.effective_sample_size(s * SAMPLES), 0, 300),
    "nearest_neighbor_test": (
        lambda s: autoencoders.nearest_neighbor_test(s * X, s * (Y + 1)).accuracy, 0, 100
    ),
    "relative_rmse of values": (lambda s: theory.relative_rmse(s * X, s * Y, P[:30]), 0, 100),
    "relative_rmse of weights": (lambda s: theory.relative_rmse(X, Y, s * P[:30]), 0, 100),
    "gradient_variance of norms": (lambda s: issgd.gradient_variance(s * NORMS, OLD), 2, 100),
    "gradient_variance of weights": (lambda s: issgd.gradient_variance(NORMS, s * OLD), 0, 300),
    "compare_draws": (
        lambda s: issgd.compare_draws(s * NORMS, s * OLD, smoothings=[0.0]).actual, 2, 100
    ),
    "Proposal": (lambda s: drawn(s * NORMS)[0], 0, 200),
    "TargetEntropy": (
        lambda s: issgd.TargetEntropy(0.95).constant(s * NORMS.mean(), lambda: s * NORMS), 1, 100
    ),
    "dae_score_1d": (lambda s: theory.dae_score_1d(P, s * GRID, s * 0.1), -1, 30),
    "rcae_score_1d": (lambda s: theory.rcae_score_1d(P, s * GRID, s * 0.1), -1, 30),
    "dae_score_1d, density": (lambda s: theory.dae_score_1d(s * P, GRID, 0.1), 0, 100),
    "rcae_score_1d, density": (lambda s: theory.rcae_score_1d(s * P, GRID, 0.1), 0, 100),
    "dae_loss_1d": (lambda s: theory.dae_loss_1d(s * 0.9 * GRID, P, s * GRID, s * 0.1), 2, 30),
    "rcae_loss_1d": (lambda s: theory.rcae_loss_1d(s * 0.9 * GRID, P, s * GRID, s * 0.1), 2, 30),
    "local_moments": (
        lambda s: theory.local_moments(lambda x: gaussian(x / s), s * X[0], s * 0.1).mean, 1, 30
    ),
}  # fmt: skip


@pytest.mark.parametrize("sign", [-1, 1])
@pytest.mark.parametrize("name", SCALED)
def test_scales(name, sign):
    function, power, most = SCALED[name]
    for exponent in (30, most):
        scale = 10.0 ** (sign * exponent)
        if abs(power) * exponent > 300:
            continue
        expected = function(1.0)
        found = function(scale) / scale**power
        np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9 * np.max(expected))


@pytest.mark.parametrize("offset", [1e4, -1e7])
def test_states_far_from_zero(offset):
    # In float64 the offset rounds states by 1e-9, and ratios by a few times that.
    np.testing.assert_allclose(mcmc.r_hat(SAMPLES + offset), mcmc.r_hat(SAMPLES), rtol=1e-7)


@pytest.mark.parametrize("shape", [(-1, 1), (1, -1), ()])
@pytest.mark.parametrize("solve", [theory.dae_1d, theory.rcae_1d, theory.dae_score_1d])
def test_densities_of_another_shape(solve, shape):
    """Values (n, 1) would be broadcast to (n, n), in which the density cancels."""

    def density(x):
        return np.reshape(gaussian(x[:, np.newaxis]) if shape else 1.0, shape)

    with pytest.raises(ArgumentError, match="`density` must be a function from"):
        solve(density, GRID, 0.1)


LABEL_FORMS = {
    "integers": lambda y: y,
    "from 1": lambda y: y + 1,
    "with gaps": lambda y: 1000 * y - 7,
    "beyond 2^53": lambda y: BEYOND + y,
    "uint8": lambda y: y.astype(np.uint8),
    "big-endian": lambda y: y.astype(">i8"),
    "a column": lambda y: y[:, np.newaxis],
    "strings": lambda y: np.array(["a", "b", "c", "d"])[y],
}


@pytest.mark.parametrize("form", LABEL_FORMS)
def test_a_subset_has_its_share_of_each_class(form):
    y = np.random.default_rng(1).permutation(np.repeat(np.arange(4), [10, 20, 30, 40]))
    for seed in range(8):
        rows, labels = hessian.fixed_subset(
            np.arange(100), LABEL_FORMS[form](y), fraction=0.1, seed=seed
        )
        np.testing.assert_array_equal(labels, LABEL_FORMS[form](y)[rows])
        np.testing.assert_allclose(np.bincount(y[rows], minlength=4), [1, 2, 3, 4], atol=1)


def test_a_subset_has_its_share_of_true_and_false():
    for seed in range(5):
        _, labels = hessian.fixed_subset(
            np.arange(200), np.arange(200) < 50, fraction=0.1, seed=seed
        )
        assert labels.sum() in (4, 5, 6)


@pytest.mark.parametrize(
    ("x", "y"), [(X[:0], LABELS[:0]), (1.0, LABELS), (X, None), (X, LABELS[1:])]
)
def test_no_subset(x, y):
    with pytest.raises(ArgumentError):
        hessian.fixed_subset(x, y)


@pytest.mark.parametrize("form", LABEL_FORMS)
def test_labels_of_a_data_set(form):
    y = LABEL_FORMS[form](np.arange(30) % 4)
    if form in ("integers", "from 1", "uint8", "big-endian", "a column"):
        splits = assemble("d", Source((X, y)))
        for split in (splits.train, splits.validation, splits.test):
            assert split.y.dtype == np.int64
            np.testing.assert_array_equal(split.y, np.ravel(y)[split.rows])
        return
    with pytest.raises(ArgumentError):
        assemble("d", Source((X, y)))


@pytest.mark.parametrize("dtype", ["<f8", ">f8", "longdouble"])
def test_examples_keep_their_digits(dtype):
    x = (X + 1e9).astype(dtype)
    splits = assemble_inputs("d", Source((x, None)))
    assert splits.train.x.dtype == np.float64
    assert splits.train.x.dtype.isnative
    np.testing.assert_array_equal(splits.train.x, x[splits.train.rows].astype(np.float64))


IMAGES = RNG.uniform(size=(2, 5, 5))


@pytest.mark.parametrize(
    ("images", "match"),
    [
        ((255 * IMAGES).astype(np.uint8), "integers up to"),
        ((255 * IMAGES).astype(np.int64), "Divide pixels"),
        (IMAGES[0], "shape"),
        (IMAGES[..., np.newaxis].repeat(2, axis=3), "channels"),
        (IMAGES[:0], "at least one image"),
        (IMAGES + 0j, "real numbers"),
    ],
)
def test_images_that_would_look_otherwise(images, match, tmp_path):
    with pytest.raises(ArgumentError, match=match):
        draw_images({"a": images}, tmp_path / "a.png")


def test_images_of_other_units(tmp_path, recwarn):
    with pytest.warns(UserWarning, match="Divide pixels"):
        draw_images({"a": 255 * IMAGES}, tmp_path / "a.png")
    draw_images({"a": IMAGES * 1.2 - 0.1, "b": IMAGES > 0.5}, tmp_path / "a.png")
    assert not [w for w in recwarn if "Divide" in str(w.message)]


def test_the_volume_of_a_ball_is_that_of_its_definition():
    for dimension in (1, 2, 3, 7):
        volume = math.pi ** (dimension / 2) / math.gamma(1 + dimension / 2) * 1.5**dimension
        assert theory.ball_volume(np.uint8(dimension), 1.5) == pytest.approx(volume)
    for exponents in ([254, 0], [126]):
        wide = theory.ball_integral(np.array(exponents), 1.1)
        assert theory.ball_integral(np.array(exponents, np.uint8), 1.1) == wide
