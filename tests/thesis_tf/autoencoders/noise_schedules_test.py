import numpy as np
import pytest
import tensorflow as tf

from thesis_tf import corruption
from thesis_tf.autoencoders import DecreasingNoise, SampledNoise
from thesis_tf.autoencoders.noise_schedules import NoiseSchedule

X = tf.zeros((200_000, 2), tf.float64)


def test_decreasing_noise_is_geometric_and_stays_at_its_end():
    noise = DecreasingNoise(0.8, 0.1, num_steps=30)
    assert [float(noise.sigma(s)) for s in (0, 10, 20, 30, 99)] == pytest.approx(
        [0.8, 0.4, 0.2, 0.1, 0.1]
    )
    drawn = noise.draw(X, (0, 1), step=10)
    # The relative standard deviation of a standard deviation of n values is 1 / sqrt(2 n).
    assert np.std(drawn.x) == pytest.approx(0.4, rel=4 / (2 * 400_000) ** 0.5)
    assert drawn.importance_weights is None


@pytest.mark.parametrize("fraction", [0.3, 1.0])
@pytest.mark.parametrize("power", [0.0, 2.0])
def test_sampled_noise_has_the_scales_and_weights_that_it_says(power, fraction):
    noise = SampledNoise(0.01, 1.0, power=power, fraction=fraction)
    drawn = noise.draw(X, (0, 1))
    sigma, weights = drawn.sigma.numpy(), drawn.importance_weights.numpy()
    larger = sigma > 0.01 * (1 + 1e-6)
    assert larger.mean() == pytest.approx(fraction, abs=4 * 0.5 / len(X) ** 0.5)
    if fraction < 1:
        np.testing.assert_allclose(sigma[~larger], 0.01)
    # Log-uniform: ln sigma is uniform on [ln .01, 0].
    logs = np.log(sigma[larger]) / np.log(0.01)
    assert logs.mean() == pytest.approx(0.5, abs=4 / (12 * larger.sum()) ** 0.5)
    assert (logs.min(), logs.max()) == pytest.approx((0, 1), abs=1e-3)
    error = weights.std() / len(weights) ** 0.5
    assert weights.mean() == pytest.approx(1, abs=4 * error + 1e-6)
    np.testing.assert_allclose(weights * sigma**power, weights[0] * sigma[0] ** power, rtol=1e-4)
    scaled = drawn.x.numpy() / sigma[:, None]
    assert scaled.std() == pytest.approx(1, abs=4 / (2 * scaled.size) ** 0.5)


def test_images_get_one_scale_each():
    drawn = SampledNoise(0.1, 0.5).draw(tf.zeros((50, 4, 4, 1)), (0, 0))
    assert drawn.x.shape == (50, 4, 4, 1)
    assert drawn.sigma.shape == drawn.importance_weights.shape == (50,)


def test_what_stands_for_a_corruption():
    process = corruption.Masking(0.5)
    assert NoiseSchedule.of(process).draw(X[:4], (0, 0)).sigma is None
    gaussian = NoiseSchedule.of(0.25).draw(X[:4], (0, 0))
    assert gaussian.sigma == 0.25
    np.testing.assert_array_equal(gaussian.x, corruption.Gaussian(0.25).sample(X[:4], (0, 0)))
    sampled = SampledNoise(0.1, 1.0)
    assert NoiseSchedule.of(sampled) is sampled


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: DecreasingNoise(0.1, 0.1, num_steps=5), "`final` must be below `initial`"),
        (lambda: DecreasingNoise(0.1, 0.01, num_steps=0), "`num_steps`"),
        (lambda: SampledNoise(1.0, 0.5), "`low` must be below `high`"),
        (lambda: SampledNoise(0.0, 0.5), "`low` must be a positive"),
        (lambda: SampledNoise(0.1, 0.5, power=-1.0), "`power`"),
        (lambda: SampledNoise(0.1, 0.5, fraction=0.0), "`fraction`"),
        (lambda: SampledNoise(0.1, 0.5, fraction=1.5), "`fraction`"),
    ],
)
def test_bad_input(make, match):
    with pytest.raises(ValueError, match=match):
        make()
