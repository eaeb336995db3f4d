import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf

from thesis_tf import mcmc
from thesis_tf.gsn import (
    DependencyNetwork,
    Normal,
)
from thesis_tf.gsn.finite import (
    occupation_covariance,
    ordered_scan,
    random_scan,
    stationary_distribution,
)

# P(x_i = 1 | x_j) of two binary values, by the value of x_j; no joint has these conditionals.
INCONSISTENT = np.array([[0.2, 0.9], [0.7, 0.4]])
STATES = np.array(list(itertools.product([0, 1], repeat=2)), np.float32)


def pair(x):
    """Returns the logits of each value given the other, like a model that takes only x."""
    x = tf.cast(x, tf.int32)
    p = tf.stack([tf.gather(INCONSISTENT[i], x[:, 1 - i]) for i in (0, 1)], axis=1)
    return tf.cast(tf.math.log(p / (1 - p)), tf.float32)


def tables():
    """Returns the same conditionals in the format of the enumerated theory: {axes: table}."""
    first = np.stack([1 - INCONSISTENT[0], INCONSISTENT[0]])  # [x_0, x_1]
    second = np.stack([1 - INCONSISTENT[1], INCONSISTENT[1]], axis=1)
    return {(0,): first, (1,): second}


@pytest.mark.slow
@pytest.mark.parametrize("order", ["random", "ordered"])
def test_visits_are_those_of_the_enumerated_chain(order):
    model = DependencyNetwork(pair)
    chains, steps = 400, 200
    start = np.repeat(STATES[:1], chains, 0)
    found = mcmc.sample_chain(
        model.transition_kernel(order=order), start, steps, seed=3, num_burnin_steps=20
    ).samples
    scan = random_scan if order == "random" else ordered_scan
    matrix = scan(tables())
    expected = stationary_distribution(matrix)
    visits = np.bincount((found @ [2, 1]).astype(int).ravel(), minlength=4) / found[..., 0].size
    error = np.sqrt(np.diag(occupation_covariance(matrix, steps)) / chains)
    assert (np.abs(visits - expected) < 5 * error).all()


def test_a_subset_is_drawn_for_each_example_and_the_rest_stays():
    def nothing(x):
        return tf.zeros_like(x)

    x = tf.constant(np.full((4000, 2, 3), 7.0))
    for size in (1, 4, 6):
        model = DependencyNetwork(nothing, subset_size=size)
        chosen = model.sample_subsets(x, (0, 1)).numpy()
        assert (chosen.sum(axis=(1, 2)) == size).all()
        error = 5 * 0.5 / 4000**0.5
        np.testing.assert_allclose(chosen.mean(axis=0), size / 6, atol=error)
        after = model.transition_kernel().step(x, tf.constant([0, 1])).numpy()
        assert ((after != 7).sum(axis=(1, 2)) == size).all()
    subsets = np.zeros((2, 2, 3), bool)
    subsets[0, 0], subsets[1, 1] = True, True
    rows = DependencyNetwork(nothing, subsets=subsets).sample_subsets(x, (0, 1)).numpy()
    assert (rows[:, 0].all(axis=1) != rows[:, 1].all(axis=1)).all()
    swept = DependencyNetwork(nothing, subsets=subsets).transition_kernel(order="ordered")
    assert (swept.step(x, tf.constant([0, 1])).numpy() != 7).all()


@pytest.mark.slow
def test_it_learns_the_conditionals_of_a_joint():
    # x_2 = x_0 xor x_1, inverted with a probability of 1/5.
    keras.utils.set_random_seed(0)
    rng = np.random.default_rng(0)
    x = rng.integers(0, 2, (4000, 3)).astype(np.float32)
    x[:, 2] = (x[:, 0] != x[:, 1]) ^ (rng.uniform(size=4000) < 0.2)
    given, mask = keras.Input((3,)), keras.Input((3,))
    h = keras.layers.Dense(64, "tanh")(keras.layers.Concatenate()([given, mask]))
    network = keras.Model([given, mask], keras.layers.Dense(3)(h))
    model = DependencyNetwork(network)
    rate = keras.optimizers.schedules.CosineDecay(1e-2, 1200)
    model.compile(keras.optimizers.Adam(rate))
    model.fit(x, epochs=30, batch_size=100, verbose=0)
    states = np.array(list(itertools.product([0, 1], repeat=3)), np.float32)
    odd = states.sum(axis=1) % 2
    for i in range(3):
        chosen = np.zeros((8, 3), bool)
        chosen[:, i] = True
        logits = model.conditionals(tf.constant(states), tf.constant(chosen))[:, i]
        expected = np.where(states[:, i] == odd, 0.2, 0.8)
        np.testing.assert_allclose(tf.sigmoid(logits), expected, atol=0.1)
    chains = mcmc.sample_chain(model.transition_kernel(), x[:300], 200, num_burnin_steps=50).samples
    assert (chains.sum(axis=-1) % 2 == 1).mean() == pytest.approx(0.2, abs=0.05)


def test_a_network_of_x_alone_does_not_see_what_it_predicts():
    network = keras.Sequential([keras.Input((3,)), keras.layers.Dense(3)])
    network.layers[0].set_weights([10 * np.eye(3), np.zeros(3)])
    model = DependencyNetwork(network)
    x, chosen = tf.ones((1, 3)), tf.constant([[False, True, False]])
    np.testing.assert_array_equal(model.conditionals(x, chosen), [[10, 0, 10]])


def test_saving_and_real_values(tmp_path):
    network = keras.Sequential([keras.Input((3,)), keras.layers.Dense(6)])
    network.add(keras.layers.Reshape((3, 2)))
    model = DependencyNetwork(network, reconstruction=Normal(), subset_size=2)
    model.compile("adam")
    x = np.random.default_rng(0).normal(size=(20, 3)).astype(np.float32)
    model.fit(x, epochs=1, verbose=0)
    model.save(tmp_path / "m.keras")
    again = keras.saving.load_model(tmp_path / "m.keras", safe_mode=True)
    np.testing.assert_array_equal(model(x), again(x))
    assert again.subset_size == 2
    assert mcmc.sample_chain(again.transition_kernel(order="ordered"), x, 3).samples.shape == (
        3,
        20,
        3,
    )


@pytest.mark.parametrize(
    ("make", "error", "match"),
    [
        (lambda: DependencyNetwork(3), TypeError, "`network` must be a Keras model"),
        (lambda: DependencyNetwork(pair, subset_size=0), ValueError, "`subset_size`"),
        (lambda: DependencyNetwork(pair, subsets=np.eye(2)), ValueError, "boolean"),
        (lambda: DependencyNetwork(pair, subsets=np.eye(2, dtype=bool)[:1]), ValueError, "each"),
        (
            lambda: DependencyNetwork(pair).transition_kernel(order="sorted"),
            ValueError,
            "`order` must be",
        ),
        (
            lambda: DependencyNetwork(pair, subset_size=3).transition_kernel().step(STATES, (0, 1)),
            ValueError,
            "`subset_size` must be at most 2",
        ),
    ],
)
def test_bad_input(make, error, match):
    with pytest.raises(error, match=match):
        make()
