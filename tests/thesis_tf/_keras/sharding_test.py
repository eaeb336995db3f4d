import numpy as np
import pytest
import tensorflow as tf

from thesis_tf._keras.sharding import Replicas, ShardedData


def total(data, function=lambda x, y, weights: tf.reduce_sum(weights * x[:, 0] * y)):
    """Returns the sum over the data of a function of a batch, computed on every replica."""
    on_each = data.replicas.on_each(function)
    return sum(float(data.replicas.total(on_each(*batch))) for batch, _ in data.batches())


def arrays(n=7):
    return np.arange(2.0 * n, dtype="f").reshape(n, 2), np.arange(n, dtype="f")


@pytest.mark.parametrize("batch_size", [1, 3, 7, 100])
def test_sums_over_replicas_are_those_of_one_device(two_devices, batch_size):
    x, y = arrays()
    alone = ShardedData((x, y), batch_size)
    assert alone.stream.batch_size == min(batch_size, 7)
    with tf.distribute.MirroredStrategy(two_devices).scope():
        shared = ShardedData((x, y), batch_size)
    assert shared.stream.batch_size % 2 == 0
    assert shared.spec()[0].shape[0] == shared.stream.batch_size // 2
    assert total(alone) == total(shared) == float(x[:, 0] @ y)


def test_batches_from_a_later_example():
    data = ShardedData(arrays(), 3)
    found = [(x.numpy()[:, 0].tolist(), w.numpy().tolist(), n) for (x, _, w), n in data.batches(3)]
    assert found == [([6, 8, 10], [1, 1, 1], 3), ([12, 12, 12], [1, 0, 0], 1)]


def test_each_replica_has_its_rows(two_devices):
    with tf.distribute.MirroredStrategy(two_devices).scope():
        replicas = Replicas()
    assert replicas.count == 2
    assert [replicas.round_up(n) for n in (1, 2, 3)] == [2, 2, 4]
    whole = {"a": np.arange(6), "b": np.arange(12.0).reshape(6, 2)}
    divided = replicas.divide(whole)
    assert [v.numpy().tolist() for v in replicas.local(divided["a"])] == [[0, 1, 2], [3, 4, 5]]
    assert replicas.size_of(divided) == 6 * 8 + 12 * 8
    # Every replica gets the whole batch; the rows are the same.
    rows = replicas.on_each(lambda a: replicas.own_rows(a))(tf.range(6))
    assert [v.numpy().tolist() for v in replicas.local(rows)] == [[0, 1, 2], [3, 4, 5]]
    assert int(replicas.total(replicas.on_each(tf.reduce_sum)(divided["a"]))) == 15


def test_a_single_device_takes_everything():
    replicas = Replicas()
    assert (replicas.count, replicas.round_up(5)) == (1, 5)
    divided = replicas.divide({"a": np.arange(3)})
    assert divided["a"].numpy().tolist() == [0, 1, 2]
    assert replicas.own_rows(divided) is divided
    assert replicas.on_each(total) is total


@pytest.mark.parametrize("given", [True, False])
def test_a_strategy_of_one_device_places_what_runs(two_devices, given):
    strategy = tf.distribute.OneDeviceStrategy(two_devices[1])
    if given:
        replicas = Replicas(strategy)
    else:
        with strategy.scope():
            replicas = Replicas()
    assert replicas.count == 1
    devices = []

    @replicas.on_each
    def double(x):
        doubled = 2 * x
        devices.append(doubled.device.rpartition("device:")[2])
        return doubled

    (doubled,) = replicas.local(double(replicas.divide(np.arange(3))))
    assert doubled.numpy().tolist() == [0, 2, 4]
    assert devices == [two_devices[1]]
    assert int(replicas.total(replicas.on_each(tf.reduce_sum)(replicas.divide(np.arange(3))))) == 3
