import numpy as np
import pytest
import tensorflow as tf

from thesis_tf.mcmc import FunctionKernel, MaskClamp, sample_chain

X = np.random.default_rng(0).normal(size=(3, 4, 2)).astype(np.float32)
MASK = np.array([[True, False]] * 4)


def test_what_is_held_is_the_same_bits():
    held = MaskClamp(MASK, X)(tf.zeros_like(X)).numpy()
    assert held[:, MASK].tobytes() == X[:, MASK].tobytes()
    assert (held[:, ~MASK] == 0).all()
    odd = X.copy()
    odd[0, 0, 0] = -0.0
    assert np.signbit(MaskClamp(MASK, odd)(tf.ones_like(X)).numpy()[0, 0, 0])


@pytest.mark.parametrize(
    ("mask", "values"),
    [(MASK, X), (MASK, X[0]), (np.stack([MASK] * 3), X), (np.stack([MASK] * 3), X[0])],
)
def test_one_mask_for_all_or_one_for_each(mask, values):
    held = MaskClamp(mask, values)(tf.zeros_like(X)).numpy()
    np.testing.assert_array_equal(held, np.where(mask, np.broadcast_to(values, X.shape), 0))


def test_a_set_given_by_a_projection():
    # Points of the simplex stay in it at every step.
    def project(x):
        x = tf.maximum(x, 0)
        total = tf.reduce_sum(x, axis=1, keepdims=True)
        # A power of two, so that a second division has no effect.
        return x / 2 ** tf.math.ceil(tf.math.log(tf.maximum(total, 1)) / np.log(2.0))

    def walk(x, seed):
        return x + tf.random.stateless_normal(tf.shape(x), seed)

    chains = sample_chain(FunctionKernel(walk), np.ones((5, 3), np.float32) / 4, 20, clamp=project)
    assert (chains.samples >= 0).all()
    assert (chains.samples.sum(axis=-1) <= 1).all()
    assert len(np.unique(chains.samples)) > 50


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (lambda: MaskClamp(MASK.astype(int), X), TypeError, "`mask` must be boolean.*mask == 1"),
        (lambda: MaskClamp(MASK[:3], X), ValueError, "`mask` must be of the shape of values"),
        (lambda: MaskClamp(MASK, X)(tf.zeros((5, 4, 2))), ValueError, "`values` of a clamp"),
        (lambda: MaskClamp(MASK.T, X[0].T)(tf.zeros((5, 4, 2))), ValueError, "`mask` of a clamp"),
    ],
)
def test_bad_input(call, error, match):
    with pytest.raises(error, match=match):
        call()
