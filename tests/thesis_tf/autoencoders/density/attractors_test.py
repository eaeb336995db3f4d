import numpy as np
import pytest
import tensorflow as tf

from thesis_tf.autoencoders import ScoreEstimator, far_points, find_attractors

RNG = np.random.default_rng(0)
CENTERS = np.array([[0.0, 0.0], [4.0, 0.0], [0.0, 9.0]])


def wells(x, overshoot=1.0):
    """Moves x to the nearest of three centers, or `overshoot` times as far."""
    centers = tf.constant(CENTERS, x.dtype)
    distance = tf.reduce_sum(tf.square(x[:, None] - centers), axis=2)
    nearest = tf.gather(centers, tf.argmin(distance, axis=1))
    return x + 0.5 * overshoot * (nearest - x)


def found(overshoot, **options):
    data = CENTERS[:2].repeat(5, axis=0) + 0.01 * RNG.normal(size=(10, 2))
    estimator = ScoreEstimator(lambda x: wells(x, overshoot), sigma=0.1)
    return find_attractors(estimator, data, RNG.uniform(-3, 12, (300, 2)), **options)


@pytest.mark.parametrize("overshoot", [1.0, 3.0, 7.0])
def test_three_wells_of_which_one_is_spurious(overshoot):
    result = found(overshoot)
    assert result.points.shape == (3, 2)
    order = [int(np.argmin(np.linalg.norm(CENTERS - p, axis=1))) for p in result.points]
    assert sorted(order) == [0, 1, 2]
    np.testing.assert_allclose(result.points, CENTERS[order], atol=1e-3)
    assert result.spurious.tolist() == [place == 2 for place in order]
    # dr/dx = 1 - overshoot / 2 in every direction; above 4, steps lead away from the center.
    np.testing.assert_allclose(result.spectral_radius, abs(1 - overshoot / 2), atol=1e-6)
    assert result.maximum.all()
    assert result.counts.tolist() == sorted(result.counts, reverse=True)
    assert result.counts.sum() == 300
    assert (np.bincount(result.labels, minlength=3) == result.counts).all()
    spurious = order.index(2)
    assert (result.ended_outside == (result.labels == spurious)).all()
    nearest = np.linalg.norm(CENTERS[:2] - CENTERS[2], axis=1).min()
    assert result.distance[spurious] == pytest.approx(nearest / 0.1, abs=1)
    summary = result.summary()
    assert summary["spurious_attractors"] == 1
    assert summary["fraction_at_spurious"] == result.counts[spurious] / 300


def test_a_saddle_is_no_maximum():
    # r contracts along one axis and expands along the other; initial points lie on the first.
    estimator = ScoreEstimator(lambda x: x * np.array([0.5, 1.5]), sigma=0.1)
    points = np.stack([RNG.normal(size=9), np.zeros(9)], axis=1)
    result = find_attractors(estimator, np.full((4, 2), 50.0), points)
    assert result.points.shape == (1, 2)
    assert result.spectral_radius[0] == pytest.approx(1.5)
    assert not result.maximum[0]
    assert not result.spurious[0]


def test_what_comes_to_rest_nowhere():
    away = ScoreEstimator(lambda x: 2 * x + 1, sigma=0.1)
    result = find_attractors(away, np.zeros((3, 2)), np.ones((7, 2)), max_iterations=2000)
    assert result.points.shape == (0, 2)
    assert (result.labels == -1).all()
    assert result.ended_outside.all()
    assert result.summary() == {
        "attractors": 0,
        "spurious_attractors": 0,
        "fraction_at_spurious": 0.0,
        "fraction_ended_outside": 1.0,
        "fraction_unsettled": 1.0,
    }
    assert result.warnings()[0].startswith("100 % of the 7 starts did not come to rest")
    assert result.table().endswith(result.warnings()[-1])


def test_images():
    estimator = ScoreEstimator(lambda x: 0.2 * x, sigma=0.1)
    data = RNG.normal(size=(5, 3, 3, 1)).astype(np.float32)
    result = find_attractors(estimator, data, far_points(data, 6, seed=1))
    assert result.points.shape == (1, 3, 3, 1)
    assert result.counts.tolist() == [6]


def test_a_table_has_a_row_for_each_attractor():
    data = RNG.normal(size=(20, 2))
    result = find_attractors(ScoreEstimator(lambda x: 0.5 * x, sigma=0.1), data, data[:7])
    assert repr(result) == "Attractors(1 from 7 initial points, 0 spurious)"
    assert len(result.table().splitlines()) == 2
    assert result.table().splitlines()[1].split()[:2] == ["0", "7"]


def test_far_points_fill_a_box_around_the_data():
    data = np.array([[0.0, 10.0], [2.0, 14.0]], np.float32)
    points = far_points(data, 2000, seed=3, margin=0.5)
    assert (points.shape, points.dtype) == ((2000, 2), np.float32)
    np.testing.assert_allclose(points.min(axis=0), [-1, 8], atol=0.05)
    np.testing.assert_allclose(points.max(axis=0), [3, 16], atol=0.05)
    np.testing.assert_array_equal(points, far_points(data, 2000, seed=3))


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"initial_points": [[np.nan, 0.0]]}, "`initial_points` must be finite"),
        ({"data": [[np.inf, 0.0]]}, "`data` must be finite"),
        ({"max_iterations": 0}, "`max_iterations`"),
        ({"estimator": ScoreEstimator(tf.identity)}, "`sigma` must be known"),
        ({"initial_points": np.zeros((2, 3)), "data": np.zeros((2, 2))}, "as `data`"),
    ],
)
def test_bad_input(arguments, match):
    given = {
        "estimator": ScoreEstimator(tf.identity, sigma=0.1),
        "data": CENTERS,
        "initial_points": CENTERS,
    }
    with pytest.raises(ValueError, match=match):
        find_attractors(**{**given, **arguments})


@pytest.mark.parametrize("points", [np.float32, np.float64])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("offset", [0.0, 1000.0, -3000.0])
def test_data_far_from_zero(offset, dtype, points):
    estimator = ScoreEstimator(Blurred(offset, dtype), sigma=0.1)
    data = (offset + CENTERS[:2].repeat(5, axis=0)).astype(points)
    starts = (offset + np.random.default_rng(2).uniform(-3, 12, (60, 2))).astype(points)
    result = find_attractors(estimator, data, starts, max_iterations=200)
    assert result.fraction_unsettled == 0
    assert len(result.points) == 3
    assert result.spurious.sum() == 1
    assert not result.warnings()


class Blurred:
    """Moves x halfway to the nearest center, computed as sums whose terms are as large as x."""

    def __init__(self, offset, dtype):
        self.offset, self.dtype = offset, dtype
        self.weights = np.random.default_rng(0).normal(size=(50, 1, 1)) * 3

    def __call__(self, x):
        place = tf.constant(CENTERS + self.offset, self.dtype)
        x = tf.cast(x, self.dtype)
        distance = tf.reduce_sum(tf.square(x[:, None] - place), axis=2)
        nearest = tf.gather(place, tf.argmin(distance, axis=1))
        # The mean over 50 terms (w x + (1 - w) x) is x, up to rounding of terms of size w x.
        weights = tf.constant(self.weights, self.dtype)
        same = tf.reduce_mean(weights * x + (1 - weights) * x, axis=0)
        return same + 0.5 * (nearest - x)


def test_too_few_digits():
    x = np.full((4, 2), 1e6, np.float32) + np.arange(8, dtype=np.float32).reshape(4, 2)
    estimator = ScoreEstimator(Blurred(1e6, "float32"), sigma=0.1)
    result = find_attractors(estimator, x, x, max_iterations=50)
    assert result.rounding > 0.1
    assert any("subtract the mean" in sentence for sentence in result.warnings())


def test_r_is_not_finite():
    def nan_beyond(x):
        return tf.where(x > 3, tf.constant(np.nan, x.dtype), 0.5 * x)

    estimator = ScoreEstimator(nan_beyond, sigma=0.1)
    inside, outside = np.ones((3, 1)), np.full((3, 1), 4.0)
    with pytest.raises(ValueError, match=r"r\(x\) at `initial_points` must be finite"):
        find_attractors(estimator, inside, outside)
    with pytest.raises(ValueError, match=r"r\(x\) at `data` must be finite"):
        find_attractors(estimator, outside, inside)
    assert len(find_attractors(estimator, inside, inside).points) == 1


def test_far_points_of_bad_data():
    with pytest.raises(TypeError, match="`data` must be of a floating dtype"):
        far_points(np.ones((3, 2), int), 5)
    with pytest.raises(ValueError, match="`data` must be finite"):
        far_points(np.full((3, 2), np.nan), 5)
