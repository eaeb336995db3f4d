import threading

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from thesis_tf._keras.recording import record_pass, watch
from thesis_tf.probes.taps import forward, taps

CALL = keras.Operation.__call__


@pytest.fixture(autouse=True)
def call_is_put_back():
    """Checks after each test that `keras.Operation.__call__` is Keras' method again."""
    yield
    assert keras.Operation.__call__ is CALL


def mlp(*names):
    model = keras.Sequential([keras.Input((3,)), *(layers.Dense(3, name=name) for name in names)])
    return model


def test_the_call_is_put_back_after_an_exception():
    model = mlp("a")

    def run():
        with watch(model):
            assert keras.Operation.__call__ is not CALL
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run()
    assert keras.Operation.__call__ is CALL


def test_the_call_is_put_back_after_a_layer_fails():
    class Brittle(layers.Layer):
        broken = False

        def call(self, x):
            if self.broken:
                raise ArithmeticError("broken")
            return x

    model = keras.Sequential([keras.Input((3,)), layers.Dense(2, name="fine"), Brittle()])
    model.layers[1].broken = True

    with pytest.raises(ArithmeticError, match="broken"):
        taps(model)
    assert keras.Operation.__call__ is CALL
    assert [tap.name for tap in taps(mlp("a", "b"))] == ["input", "a", "b"]


def test_the_path_is_right_after_a_layer_that_failed_and_was_caught():
    class Fallback(keras.Model):
        def __init__(self):
            super().__init__()
            self.narrow = layers.Dense(2, name="narrow")
            self.narrow.build((None, 5))
            self.wide = layers.Dense(2, name="wide")
            self.wide.build((None, 3))

        def call(self, x):
            try:
                return self.narrow(x)
            except ValueError:
                return self.wide(x)

    found = taps(Fallback(), inputs=np.zeros((1, 3), np.float32))

    assert [tap.name for tap in found] == ["input", "wide"]


def test_watching_within_watching():
    outer, inner = mlp("a"), mlp("b")

    with watch(outer) as one:
        with watch(inner) as two:
            inner(tf.ones((1, 3)))
        outer(tf.ones((1, 3)))

    assert [place.name for place in one.places] == ["a"]
    assert [place.name for place in two.places] == ["b"]


def test_functions_that_run_eagerly():
    model, x = mlp("a", "b"), tf.constant([[1.0, 2.0, 3.0]])
    tf.config.run_functions_eagerly(True)
    try:
        _, values = tf.function(forward(model, ["a"]))(x)
    finally:
        tf.config.run_functions_eagerly(False)

    np.testing.assert_array_equal(values["a"], model.layers[0](x))


def test_threads_that_trace_at_once_see_their_own_model_alone():
    threads, rounds = 4, 5
    models = [mlp(*(f"t{i}_{layer}" for layer in range(i + 1))) for i in range(threads)]
    together = threading.Barrier(threads)
    found = [[] for _ in models]

    def work(index):
        for _ in range(rounds):
            together.wait()
            found[index].append([tap.name for tap in taps(models[index])])

    workers = [threading.Thread(target=work, args=(index,)) for index in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()

    for index, names in enumerate(found):
        expected = ["input", *(f"t{index}_{layer}" for layer in range(index + 1))]
        assert names == [expected] * rounds


def test_a_thread_that_does_not_watch_is_not_affected():
    watched, other = mlp("a"), mlp("b")
    inside, done = threading.Event(), threading.Event()
    places = []

    def work():
        with watch(watched) as recorder:
            inside.set()
            done.wait()
            watched(tf.ones((1, 3)))
        places.extend(recorder.places)

    worker = threading.Thread(target=work)
    worker.start()
    inside.wait()
    expected = other.layers[0](tf.ones((1, 3)))
    np.testing.assert_array_equal(other(tf.ones((1, 3))), expected)
    other.compile("sgd", "mse")
    other.fit(np.ones((4, 3)), np.ones((4, 3)), verbose=0)
    done.set()
    worker.join()

    assert [place.name for place in places] == ["a"]


def test_tracing_while_another_thread_trains():
    trained, traced = mlp("a"), mlp("b", "c")
    trained.compile("sgd", "mse")
    training = threading.Thread(
        target=lambda: trained.fit(np.ones((64, 3)), np.ones((64, 3)), verbose=0, epochs=3)
    )
    training.start()
    for _ in range(3):
        assert [tap.name for tap in taps(traced)] == ["input", "b", "c"]
    training.join()


def test_layers_inside_a_function_of_their_own_are_out_of_reach():
    class Compiled(layers.Layer):
        def __init__(self):
            super().__init__(name="compiled")
            self.dense = layers.Dense(3, name="inside")
            self.dense.build((None, 3))
            self.run = tf.function(self.dense, autograph=False)

        def call(self, x):
            return self.run(x)

    x = keras.Input((3,))
    model = keras.Model(x, Compiled()(x))

    assert [tap.name for tap in taps(model)] == ["input", "compiled"]
    with pytest.raises(ValueError, match="an outer layer calls it in a separate graph"):
        taps(model, "compiled/inside")


def test_the_graph_is_the_same_with_and_without_taps():
    model = mlp("a", "b")

    def operations(function):
        graph = tf.function(function, autograph=False).get_concrete_function(
            tf.TensorSpec((None, 3))
        ).graph  # fmt: skip
        return [operation.type for operation in graph.get_operations()]

    plain = operations(lambda x: model(x, training=False))
    tapped = operations(lambda x: forward(model, ["a", "b"])(x)[0])

    assert tapped == plain


MIRRORED = """
    import json
    import tensorflow as tf

    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
    import keras
    from thesis_tf.probes.taps import forward

    original = keras.Operation.__call__
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    with strategy.scope():
        layers = [keras.layers.Dense(3, name=name, kernel_initializer="ones") for name in "ab"]
        model = keras.Sequential([keras.Input((3,)), *layers])
    run = forward(model, ["a", "b"])

    @tf.function(autograph=False)
    def step(x):
        return strategy.run(lambda x: run(x)[1], args=(x,))

    values = strategy.experimental_distribute_values_from_function(
        lambda context: tf.fill((2, 3), 1.0 + context.replica_id_in_sync_group)
    )
    found = {
        name: [part.numpy().tolist() for part in strategy.experimental_local_results(value)]
        for name, value in step(values).items()
    }
    print(json.dumps([found, keras.Operation.__call__ is original]))
"""


@pytest.mark.slow
def test_mirrored_replicas(run_python):
    found, put_back = run_python(MIRRORED)

    # The input of replica r is r + 1; a kernel of ones sums three of them.
    assert found["a"] == [[[3.0] * 3] * 2, [[6.0] * 3] * 2]
    assert found["b"] == [[[9.0] * 3] * 2, [[18.0] * 3] * 2]
    assert put_back


def test_a_trace_has_the_inputs_the_calls_and_the_outputs():
    recorder = record_pass(mlp("a", "b"), tf.TensorSpec((None, 3)))

    assert [place.name for place in recorder.places] == ["input", "a", "b", "output"]
    assert recorder.outputs.shape == (None, 3)
