import collections

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

from thesis_tf.mcmc import FunctionKernel, SimpleKernel, transition_kernels

Pair = collections.namedtuple("Pair", ["x", "count"])


def walk(x, seed):
    return x + tf.random.stateless_normal(tf.shape(x), seed, dtype=x.dtype)


def test_a_function_as_a_kernel_of_tensorflow_probability():
    kernel = FunctionKernel(walk)
    assert isinstance(kernel, tfp.mcmc.TransitionKernel)
    assert kernel.is_calibrated
    assert kernel.parameters == {"function": walk}
    samples = tfp.mcmc.sample_chain(
        50, tf.zeros((400, 2)), kernel=kernel, trace_fn=None, seed=(1, 2)
    ).numpy()
    variance = samples.var(axis=1)
    np.testing.assert_allclose(variance[-1], 50, rtol=5 * (2 / 400) ** 0.5)
    assert np.isfinite(tfp.mcmc.sample_chain(3, tf.zeros(4), kernel=kernel, trace_fn=None)).all()


def test_a_subclass_defines_a_step():
    class Doubling(SimpleKernel):
        def step(self, state, seed):
            return 2 * state

    state, results = Doubling().one_step(tf.ones(3), (), seed=(0, 0))
    np.testing.assert_array_equal(state, 2 * np.ones(3))
    assert results == Doubling().bootstrap_results(state) == ()
    with pytest.raises(TypeError, match="abstract"):
        SimpleKernel()


def test_the_visible_part_of_a_state():
    x, count = tf.zeros(2), tf.constant([3, 4])

    def plus_one(x):
        return x + 1

    assert transition_kernels.visible(x) is x
    np.testing.assert_array_equal(transition_kernels.with_visible(x, plus_one), [1, 1])
    for state in ((x, count), [x, count], Pair(x, count)):
        assert transition_kernels.visible(state) is x
        after = transition_kernels.with_visible(state, plus_one)
        assert type(after) is type(state)
        np.testing.assert_array_equal(after[0], [1, 1])
        assert after[1] is count


def test_what_identifies_a_kernel():
    walk_kernel = tfp.mcmc.UncalibratedRandomWalk(lambda x: -(x**2))
    names = [
        name for name, _ in transition_kernels.settings(tfp.mcmc.MetropolisHastings(walk_kernel))
    ]
    assert names == ["MetropolisHastings", "UncalibratedRandomWalk"]
    state = tf.zeros((100, 2))
    values = transition_kernels.model_values(FunctionKernel(walk), state, tf.ones((100, 2)))
    assert 32 < len(values) <= 64
    assert (
        transition_kernels.model_values(FunctionKernel(walk), state, tf.ones(3, tf.int32)).size == 1
    )


def test_no_function():
    with pytest.raises(TypeError, match="`function` must be a function"):
        FunctionKernel(3)
