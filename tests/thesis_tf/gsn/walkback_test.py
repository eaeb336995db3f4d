import keras
import numpy as np
import pytest
import tensorflow as tf

from models.gsn import walkback_dae
from thesis_tf import corruption
from thesis_tf.gsn import GSN, Bernoulli, Normal, Walkback
from thesis_tf.gsn.walkback import walkback_losses

X = tf.constant(np.random.default_rng(0).integers(0, 2, (6, 5)), tf.float32)
SEED = tf.constant([3, 4])
fold = tf.random.experimental.stateless_fold_in


def by_hand(network, x, rounds, of):
    """Returns the losses of consecutive rounds, each compared with the clean x."""
    target, hidden, losses = x, network.zero_hidden(x), []
    for number in range(rounds):
        seed = fold(SEED, number)
        hidden, outputs = network.advance(x, hidden, seed)
        alpha = network.alphas[number]
        losses.append(-network.reconstruction.distribution(outputs, alpha=alpha).log_prob(target))
        x = network.reconstruction.sample(outputs, fold(seed, 1), alpha=alpha)
    return of(losses)


def small(**kwargs):
    network = GSN([4, 3], noise=0.5, corruption=corruption.SaltAndPepper(0.3), **kwargs)
    network.build((None, 5))
    for index, variable in enumerate(network.trainable_variables):
        variable.assign(keras.random.normal(variable.shape, stddev=0.4, seed=index))
    return network


@pytest.mark.parametrize("scaling", [False, True])
@pytest.mark.parametrize("loss", ["every", "last"])
def test_losses_of_a_fixed_number_of_rounds(loss, scaling):
    network = small(walkback=Walkback(3, loss=loss), scaling=scaling)
    losses, hidden = walkback_losses(network, X, X, SEED, None, network.walkback)
    of = (lambda parts: sum(parts) / 3) if loss == "every" else (lambda parts: parts[-1])
    np.testing.assert_allclose(losses, by_hand(network, X, 3, of), rtol=1e-5)
    assert hidden[0].shape == (6, 3)


@pytest.mark.slow
@pytest.mark.parametrize("walkback", [Walkback((2, 4)), Walkback(5, stop=0.4)])
def test_losses_of_a_drawn_number_of_rounds(walkback):
    network = small(walkback=walkback)
    seen = set()
    for number in range(12):
        seed = tf.constant([number, 9])
        rounds = int(walkback.draw(fold(seed, -1)))
        seen.add(rounds)
        losses, _ = tf.function(walkback_losses)(network, X, X, seed, None, walkback)
        alone = Walkback(rounds)
        fixed, _ = walkback_losses(network, X, X, seed, None, alone)
        np.testing.assert_allclose(losses, fixed * rounds / walkback.mean_steps, rtol=1e-5)
    assert len(seen) > 1


@pytest.mark.slow
def test_numbers_of_rounds():
    geometric = Walkback(4, stop=0.5)
    np.testing.assert_allclose(geometric.probabilities(), [0.5, 0.25, 0.125, 0.125])
    assert geometric.mean_steps == pytest.approx(1.875)
    assert Walkback((2, 4)).probabilities() == pytest.approx([0, 1 / 3, 1 / 3, 1 / 3])
    assert Walkback(3).probabilities() == [0, 0, 1]
    assert (Walkback(3).fixed_steps, Walkback((2, 2)).max_steps, geometric.fixed_steps) == (
        3,
        2,
        None,
    )
    assert Walkback(1, stop=0.5).fixed_steps == 1
    draws = [int(geometric.draw((0, i))) for i in range(2000)]
    probabilities = np.bincount(draws, minlength=5)[1:] / 2000
    np.testing.assert_allclose(probabilities, geometric.probabilities(), atol=4 * 0.5 / 2000**0.5)


def gradient_by_differences(value_of, variable, index, step):
    before = variable.numpy()
    values = []
    for sign in (1, -1):
        moved = before.copy()
        moved[index] += sign * step
        variable.assign(moved)
        values.append(float(value_of()))
    variable.assign(before)
    return (values[0] - values[1]) / (2 * step)


def test_gradients_flow_through_normal_samples():
    keras.config.set_dtype_policy("float64")
    network = walkback_dae(
        (5,), units=4, corruption=corruption.Gaussian(0.3), walkback=3, reconstruction=Normal(0.5)
    )
    x = tf.cast(X, tf.float64)

    def value():
        losses, _ = walkback_losses(network, x, x, SEED, None, network.walkback)
        return tf.reduce_mean(losses)

    with tf.GradientTape() as tape:
        loss = value()
    gradients = tape.gradient(loss, [v.value for v in network.trainable_variables])
    for variable, gradient in zip(network.trainable_variables, gradients, strict=True):
        index = tuple(0 for _ in variable.shape)
        expected = gradient_by_differences(value, variable, index, 1e-5)
        # Errors of central differences: step^2 times third derivatives, and rounding / step.
        np.testing.assert_allclose(gradient[index], expected, rtol=1e-5, atol=1e-8)


def test_binary_samples_are_constants():
    network = small(walkback=Walkback(2, loss="last"))
    bias = network._biases[0]
    with tf.GradientTape() as tape:
        losses, _ = walkback_losses(network, X, X, SEED, None, network.walkback)
        loss = tf.reduce_sum(losses)
    gradient = tape.gradient(loss, bias.value)
    # The gradient of the bias of x is only that of the last logits: sum(probability - target).
    hidden, outputs = network.advance(X, None, fold(SEED, 0))
    x = Bernoulli().sample(outputs, fold(fold(SEED, 0), 1))
    _, outputs = network.advance(x, hidden, fold(SEED, 1))
    np.testing.assert_allclose(gradient, tf.reduce_sum(tf.sigmoid(outputs) - X, 0), rtol=1e-4)


def test_keras_saves_it():
    for walkback in (Walkback(3), Walkback((2, 4), loss="last"), Walkback(9, stop=0.5)):
        config = keras.saving.serialize_keras_object(walkback)
        assert keras.saving.deserialize_keras_object(config) == walkback


@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        ({"steps": 0}, ValueError, "`steps` must be a positive integer"),
        ({"steps": 2.5}, TypeError, "`steps` must be a positive integer"),
        ({"steps": (3, 2)}, ValueError, "low <= high"),
        ({"steps": (1, 2, 3)}, ValueError, r"a number, or \(low, high\)"),
        ({"steps": (1, 2), "stop": 0.5}, ValueError, "`stop` must be None"),
        ({"stop": 1.5}, ValueError, r"`stop` must be in \(0, 1\]"),
        ({"loss": "first"}, ValueError, "`loss` must be one of every, last"),
    ],
)
def test_bad_input(arguments, error, match):
    with pytest.raises(error, match=match):
        Walkback(**arguments)
