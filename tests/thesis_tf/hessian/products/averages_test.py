import numpy as np
import pytest
import tensorflow as tf

from thesis_tf._keras.objective import Objective
from thesis_tf._keras.sharding import ShardedData
from thesis_tf.hessian.products import modes
from thesis_tf.hessian.products.averages import Averages


def averages(problem, memory_limit=1 << 20, batch_size=7):
    model, loss, data = problem()
    objective, sharded = Objective(model, loss), ShardedData(data, batch_size)
    return Averages(objective, sharded, modes.HESSIAN, "forward_over_reverse", memory_limit), model


@pytest.mark.slow
@pytest.mark.parametrize("memory_limit", [0, 8000, 1 << 20])
def test_kept_values_change_nothing(problem, dense_hessian, memory_limit):
    found, model = averages(problem, memory_limit)
    vectors = [tf.constant(v) for v in np.random.default_rng(0).normal(size=(2, 43))]
    expected = dense_hessian(model, problem()[2]) @ np.stack(vectors, axis=1)
    for _ in range(3):  # with kept values from the second round on
        np.testing.assert_allclose(np.stack(found.multiply(vectors), axis=1), expected, atol=1e-14)
    assert found.products == 6


def test_batches_add_up_to_the_average(problem):
    found, _ = averages(problem)
    vector = tf.constant(np.random.default_rng(0).normal(size=43))
    parts = [found.on_batch(vector, batch) for batch, _ in found.data.batches()]
    np.testing.assert_allclose(tf.add_n(parts) / 20, found.multiply([vector])[0], atol=1e-15)


def test_the_gradient_is_the_slope_of_the_loss(problem):
    found, _ = averages(problem)
    theta = found.objective.layout.pack(found.parameters)
    gradient = found.gradient()
    h = 1e-5
    slope = (found.loss(theta + h * gradient) - found.loss(theta - h * gradient)) / (2 * h)
    assert slope == pytest.approx(float(tf.reduce_sum(gradient**2)), rel=1e-8)
    np.testing.assert_array_equal(found.gradient(theta), gradient)
