import keras
import numpy as np
import pytest
import tensorflow as tf

from thesis_tf import hessian


def quadratic(eigenvalues, start):
    """Returns the operator of sum(eigenvalues * theta^2) / 2 at `start`, in float64."""
    model = keras.Sequential(
        [keras.Input((1,)), keras.layers.Dense(len(start), use_bias=False, dtype="float64")]
    )
    model.layers[0].kernel.assign([start])
    scale = tf.constant(eigenvalues, tf.float64)

    def loss(y, outputs):
        return tf.reduce_sum(scale * outputs**2, axis=1) / 2

    return hessian.HessianOperator(model, loss, (np.ones((2, 1)), np.zeros(2)), check=False)


EIGENVALUES, START = np.array([4.0, 0.5, -2.0]), np.array([1.0, -2.0, 3.0])


def test_a_quadratic_is_its_own_model():
    operator = quadratic(EIGENVALUES, START)
    alphas = np.linspace(-1, 1, 7)
    for i, direction in enumerate(np.eye(3)):
        found = hessian.line_search(operator, 5 * direction, alphas)
        moved = START[i] - alphas * EIGENVALUES[i] * START[i]
        expected = EIGENVALUES @ START**2 / 2 + EIGENVALUES[i] * (moved**2 - START[i] ** 2) / 2
        np.testing.assert_allclose(found.loss, expected, atol=1e-14)
        np.testing.assert_allclose(found.quadratic, expected, atol=1e-14)
        assert found.initial_loss == pytest.approx(EIGENVALUES @ START**2 / 2)
        assert found.slope == pytest.approx(EIGENVALUES[i] * START[i])
        assert found.curvature == pytest.approx(EIGENVALUES[i])
        assert found.optimum == pytest.approx(1 / EIGENVALUES[i])


def test_known_numbers_are_taken():
    operator = quadratic(EIGENVALUES, START)
    gradient = operator.gradient()
    before = operator.products
    found = hessian.line_search(operator, np.eye(3)[0], [0.1], gradient=gradient, curvature=7.0)
    assert operator.products == before
    assert found.curvature == 7.0


@pytest.mark.parametrize("sign", [1, -1])
def test_the_best_step_of_a_quadratic(sign):
    operator = quadratic(EIGENVALUES, START)
    for i in (0, 1):
        best = hessian.best_step(operator, sign * np.eye(3)[i], rounds=5)
        resolution = 10 ** (0.5 / 3**4)
        assert 1 / resolution < best.alpha * EIGENVALUES[i] < resolution
        assert best.decrease == pytest.approx(EIGENVALUES[i] * START[i] ** 2 / 2, rel=1e-3)
        assert best.displacement == pytest.approx(sign * START[i], rel=0.05)
        assert best.loss == operator.loss(START - best.displacement * sign * np.eye(3)[i])
        assert type(best.alpha) is type(best.displacement) is float
    down = hessian.best_step(operator, np.eye(3)[2])  # the largest size that is tried
    assert abs(down.displacement) >= 100
    assert down.alpha < 0 or down.decrease > 9000


@pytest.mark.slow
def test_the_lower_of_two_minima_is_found():
    # theta^4 / 4 - theta^2 / 2 + theta / 10, from near the saddle: the lower minimum is at -1.05.
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, use_bias=False)])
    model.layers[0].kernel.assign([[0.3]])

    def loss(y, outputs):
        t = outputs[:, 0]
        return t**4 / 4 - t**2 / 2 + t / 10

    operator = hessian.HessianOperator(model, loss, (np.ones((1, 1), "f"), np.zeros(1)))
    for direction in ([1.0], [-1.0]):
        best = hessian.best_step(operator, np.array(direction), rounds=6)
        assert 0.3 - best.displacement * direction[0] == pytest.approx(-1.0467, abs=0.01)
        assert best.curvature == pytest.approx(3 * 0.09 - 1, rel=1e-5)


def test_no_step_from_a_minimum():
    best = hessian.best_step(quadratic([4.0, 0.5], [0.0, 0.0]), np.array([1.0, 0.0]))
    assert (best.displacement, best.decrease, best.evaluations) == (0.0, 0.0, 27)


def test_losses_that_are_not_finite_are_no_minima():
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, use_bias=False)])
    model.layers[0].kernel.assign([[2.0]])

    def loss(y, outputs):
        return tf.math.log(outputs[:, 0])

    operator = hessian.HessianOperator(model, loss, (np.ones((1, 1), "f"), np.zeros(1)))
    best = hessian.best_step(operator, np.ones(1))
    assert np.isfinite(best.loss)
    assert 0 < 2 - best.displacement < 0.1


@pytest.mark.parametrize(
    ("direction", "message"),
    [
        (np.ones(2), r"`direction` must be of shape \(3,\)"),
        (np.zeros(3), "finite and not zero"),
        (np.full(3, np.nan), "finite and not zero"),
    ],
)
def test_bad_directions(direction, message):
    operator = quadratic(EIGENVALUES, START)
    for search in (hessian.best_step, lambda o, d: hessian.line_search(o, d, [0.1])):
        with pytest.raises(ValueError, match=message):
            search(operator, direction)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rounds": 0}, "`rounds` must be a positive integer"),
        ({"displacements": (0.0, 1.0)}, "`displacements` must be two increasing positive numbers"),
        ({"displacements": (1.0, 0.1)}, "`displacements` must be two increasing positive numbers"),
    ],
)
def test_bad_ranges(options, message):
    with pytest.raises(ValueError, match=message):
        hessian.best_step(quadratic(EIGENVALUES, START), np.ones(3), **options)


def test_a_single_alpha():
    search = hessian.line_search(quadratic(EIGENVALUES, START), np.ones(3), 0.1)
    assert search.loss.shape == search.quadratic.shape == (1,)


def test_results_are_kept(tmp_path):
    operator = quadratic(EIGENVALUES, START)
    search = hessian.line_search(operator, np.eye(3)[0], [0.0, 0.1, 0.3])
    search.save(tmp_path / "search.npz")
    again = hessian.LineSearch.load(tmp_path / "search.npz")
    np.testing.assert_array_equal(again.loss, search.loss)
    assert (type(again.slope), again.summary()) == (float, search.summary())
    assert search.table().splitlines()[0].split() == ["alpha", "loss", "quadratic", "model"]
    assert len(search.table().splitlines()) == 4
    best = hessian.best_step(operator, np.eye(3)[0])
    best.save(tmp_path / "best.npz")
    assert hessian.BestStep.load(tmp_path / "best.npz") == best
    assert repr(best).startswith("BestStep(alpha=0.25")
    with pytest.raises(ValueError, match="the fields of LineSearch; it lacks alphas"):
        hessian.LineSearch.load(tmp_path / "best.npz")
