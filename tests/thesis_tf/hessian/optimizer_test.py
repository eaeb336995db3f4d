import contextlib
import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf

from thesis_tf import hessian
from thesis_tf.hessian import NegativeCurvature


def saddle(optimizer, start=(0.1, 0.05), mode="forward_over_reverse"):
    """The loss sum(a^2 / 2 - b^2 / 2 + b^4 / 40) at `start`; the input is constant."""
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(2, use_bias=False)])
    model.layers[0].kernel.assign([start])

    def loss(y, outputs):
        a, b = outputs[:, 0], outputs[:, 1]
        return a**2 / 2 - b**2 / 2 + b**4 / 40

    model.compile(optimizer, loss)
    return model, (np.ones((4, 1), "f"), np.zeros((4, 1), "f"))


def fit(model, data, steps):
    x, y = data
    return model.fit(x, y, batch_size=len(x), epochs=steps, verbose=0).history


@pytest.mark.slow
def test_it_finds_the_direction_and_escapes_the_saddle():
    optimizer = NegativeCurvature(
        keras.optimizers.SGD(0.01), update_every=1, rate=0.5, momentum=0.0, average=0.5
    )
    model, data = saddle(optimizer)
    optimizer.attach(model)
    history = fit(model, data, 30)
    assert min(history["curvature"]) < -0.3
    assert float(optimizer.taken) >= 1
    # The minimum is -2.5, at b^2 = 10; with this rate, plain SGD has hardly left the saddle.
    assert history["loss"][-1] < -1
    plain, data = saddle(keras.optimizers.SGD(0.01))
    assert fit(plain, data, 30)["loss"][-1] > -0.1


@pytest.mark.slow
def test_the_direction_becomes_the_eigenvector_of_the_smallest_eigenvalue(problem):
    model, loss, (x, y) = problem(examples=40)
    optimizer = NegativeCurvature(
        keras.optimizers.SGD(0.0), update_every=1, average=0.0, step_sizes=()
    )
    model.compile(optimizer, loss)
    optimizer.attach(model)
    operator = hessian.HessianOperator(model, loss, (x, y))
    pairs = hessian.extreme_eigenpairs(operator, largest=1, smallest=1, tol=1e-8)
    # One epoch of 300 batches, each of all examples, is much faster than 300 epochs.
    batches = tf.data.Dataset.from_tensors((x, y)).repeat(300)
    model.fit(batches, verbose=0)
    v = optimizer.direction.numpy()
    assert np.linalg.norm(v) == pytest.approx(1)
    assert float(optimizer.curvature) == pytest.approx(pairs.values[0], rel=1e-3)
    assert v @ (operator @ v) == pytest.approx(pairs.values[0], rel=1e-3)
    assert float(optimizer.largest) == pytest.approx(pairs.values[-1], rel=1e-2)


@pytest.mark.slow
def test_with_nothing_to_follow_it_is_its_base(problem):
    results = []
    for wrapped in (True, False):
        model, loss, (x, y) = problem(examples=40)
        optimizer = keras.optimizers.RMSprop(0.01)
        if wrapped:
            optimizer = NegativeCurvature(optimizer, step_sizes=())
        model.compile(optimizer, loss)
        if wrapped:
            assert optimizer.attach(model) is model
        model.fit(x, y, batch_size=8, epochs=2, shuffle=False, verbose=0)
        results.append(model.get_weights())
        assert int(optimizer.iterations) == 10
    for a, b in zip(*results, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.slow
def test_a_step_never_raises_the_minibatch_loss():
    optimizer = NegativeCurvature(keras.optimizers.SGD(0.0), update_every=1)
    model, data = saddle(optimizer, start=(1.0, 3.16))
    optimizer.attach(model)
    optimizer.warm_start([0.0, 2.0])
    history = fit(model, data, 5)["loss"]
    assert all(b <= a + 1e-6 for a, b in itertools.pairwise(history))


@pytest.mark.slow
def test_every_so_many_steps():
    optimizer = NegativeCurvature(keras.optimizers.SGD(0.01), update_every=4)
    model, data = saddle(optimizer)
    optimizer.attach(model)
    seen = []
    for _ in range(9):
        fit(model, data, 1)
        seen.append(optimizer.direction.numpy())
    changed = [bool((a != b).any()) for a, b in itertools.pairwise(seen)]
    assert changed == [False, False, False, True, False, False, False, True]


@pytest.mark.slow
def test_warm_start(problem):
    model, loss, (x, y) = problem()
    optimizer = NegativeCurvature()
    model.compile(optimizer, loss)
    optimizer.attach(model)
    pairs = hessian.extreme_eigenpairs(
        hessian.HessianOperator(model, loss, (x, y)), largest=0, smallest=1
    )
    optimizer.warm_start(3 * pairs.vectors)
    np.testing.assert_allclose(optimizer.direction.numpy(), pairs.vectors[:, 0], rtol=1e-6)
    with pytest.raises(ValueError, match=r"`direction` must be of shape \(43,\)"):
        optimizer.warm_start(np.ones(4))
    with pytest.raises(ValueError, match="`direction` must be finite and not zero"):
        optimizer.warm_start(np.zeros(43))
    with pytest.raises(RuntimeError, match=r"attach\(model\) before warm_start"):
        NegativeCurvature().warm_start(np.ones(43))


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["reverse_over_reverse", "forward_over_reverse"])
def test_a_recurrent_network_by_two_tapes(mode):
    model = keras.Sequential([keras.Input((3, 2)), keras.layers.GRU(2)])
    optimizer = NegativeCurvature("adam", update_every=1, mode=mode)
    model.compile(optimizer, "mse")
    optimizer.attach(model)
    x, y = np.random.default_rng(0).normal(size=(2, 6, 3, 2)).astype("f")
    falls_back = pytest.warns(hessian.FallbackWarning, match="computed by reverse_over_reverse, as")
    with falls_back if mode == "forward_over_reverse" else contextlib.nullcontext():
        history = model.fit(x, y[:, 0], batch_size=3, epochs=2, verbose=0).history
    assert np.isfinite(history["curvature"]).all()


@pytest.mark.slow
def test_running_eagerly_is_the_same(problem):
    found = []
    for eagerly in (False, True):
        model, loss, (x, y) = problem()
        optimizer = NegativeCurvature(keras.optimizers.SGD(0.1))
        model.compile(optimizer, loss, run_eagerly=eagerly)
        optimizer.attach(model)
        model.fit(x, y, batch_size=10, epochs=2, shuffle=False, verbose=0)
        found.append([*model.get_weights(), optimizer.direction.numpy()])
    for a, b in zip(*found, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6)


@pytest.mark.slow
def test_sample_weights_count(problem):
    model, loss, (x, y) = problem()
    optimizer = NegativeCurvature(keras.optimizers.SGD(0.0), step_sizes=(), average=0.0)
    model.compile(optimizer, loss)
    optimizer.attach(model)
    weights = np.arange(len(x)) % 3.0
    # A single epoch, since each one takes Keras a tenth of a second.
    model.fit(tf.data.Dataset.from_tensors((x, y, weights)).repeat(400), verbose=0)
    rows = np.repeat(np.arange(len(x)), weights.astype(int))  # each row as often as its weight
    operator = hessian.HessianOperator(model, loss, (x[rows], y[rows]))
    largest = hessian.extreme_eigenpairs(operator, largest=1, smallest=0, tol=1e-8).values[0]
    assert float(optimizer.largest) == pytest.approx(largest * len(rows) / len(x), rel=1e-2)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["two outputs", "steps", "summed"])
def test_the_curvature_is_that_of_the_compiled_loss(kind):
    keras.utils.set_random_seed(0)
    rng = np.random.default_rng(0)
    i = keras.Input((4, 3))
    hidden = keras.layers.Dense(3, "tanh", kernel_regularizer="l2")(i)
    x, weights = rng.normal(size=(5, 4, 3)).astype("f"), None
    steps, numbers = rng.integers(0, 2, (5, 4)), x[..., :2]
    classes = keras.layers.Dense(2, "softmax", name="a")(hidden)
    cross = "sparse_categorical_crossentropy"
    model, y, loss, options = keras.Model(i, classes), steps, cross, {}
    if kind == "two outputs":
        outputs = {"a": classes, "b": keras.layers.Dense(2, name="b")(hidden)}
        model, y = keras.Model(i, outputs), {"a": steps, "b": numbers}
        loss, options = {"a": cross, "b": "mse"}, {"loss_weights": {"a": 0.5, "b": 2.0}}
    elif kind == "steps":
        weights = rng.uniform(0.5, 2, (5, 4)).astype("f")
    else:
        loss = keras.losses.SparseCategoricalCrossentropy(reduction="sum")
    optimizer = NegativeCurvature(keras.optimizers.SGD(0.0), average=0.0, step_sizes=())
    model.compile(optimizer, loss, **options)
    optimizer.attach(model)
    data = (x, y) if weights is None else (x, y, weights)
    operator = hessian.HessianOperator(model, None, data)
    optimizer.warm_start(rng.normal(size=operator.shape[0]))
    v = optimizer.direction.numpy()
    model.fit(x, y, sample_weight=weights, batch_size=5, verbose=0)
    scale = 5 if kind == "summed" else 1  # the curvature is then that of the mean
    assert float(optimizer.curvature) * scale == pytest.approx(v @ (operator @ v), rel=1e-4)


@pytest.mark.slow
def test_saving_and_settings(problem, tmp_path):
    model, loss, (x, y) = problem()
    optimizer = NegativeCurvature(keras.optimizers.Adam(0.02), update_every=3, step_sizes=(2.0,))
    assert float(optimizer.learning_rate) == pytest.approx(0.02)
    model.compile(optimizer, loss)
    optimizer.attach(model)
    model.fit(x, y, epochs=1, verbose=0)
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(again.optimizer.direction, optimizer.direction)
    assert again.optimizer.get_config() == optimizer.get_config()
    assert len(again.optimizer.variables) == len(optimizer.variables)
    with pytest.raises(RuntimeError, match=r"call optimizer.attach\(model\)"):
        again.fit(x, y, verbose=0)


def test_saved_models_keep_their_keys():
    optimizer = NegativeCurvature("sgd", update_every=3, rate=0.5)
    config = optimizer.get_config()
    assert config["every"] == 3
    again = NegativeCurvature.from_config(config)
    assert (again.update_every, again.rate) == (3, 0.5)
    assert isinstance(again.base_optimizer, keras.optimizers.SGD)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"update_every": 0}, "`update_every` must be a positive integer"),
        ({"rate": 0}, "`rate` must be above 0 and at most 2"),
        ({"momentum": 1}, "`momentum` must be at least 0 and below 1"),
        ({"mode": "x"}, "`mode` must be one of"),
        ({"step_sizes": (1.0, float("nan"))}, "`step_sizes` must be positive and finite"),
        ({"base_optimizer": NegativeCurvature()}, "`base_optimizer` must be another optimizer"),
    ],
)
def test_bad_settings(settings, message):
    with pytest.raises(ValueError, match=message):
        NegativeCurvature(**settings)


@pytest.mark.slow
def test_another_optimizer_after_it(problem):
    model, loss, (x, y) = problem()
    optimizer = NegativeCurvature()
    model.compile(optimizer, loss)
    optimizer.attach(model)
    model.fit(x, y, verbose=0)
    del model.train_step
    model.compile("sgd", loss)
    assert "curvature" not in model.fit(x, y, verbose=0).history


def test_a_model_that_is_not_built_needs_inputs():
    x, y = np.ones((4, 2), "f"), np.zeros((4, 3), "f")
    optimizer = NegativeCurvature("sgd")
    model = keras.Sequential([keras.layers.Dense(3)])
    model.compile(optimizer, keras.losses.MeanSquaredError())
    with pytest.raises(ValueError, match="`model` must be built"):
        optimizer.attach(model)
    optimizer.attach(model, inputs=x)
    assert "curvature" in fit(model, (x, y), 1)


def test_bad_models(problem, two_devices):
    model, loss, _ = problem()
    optimizer = NegativeCurvature()
    with pytest.raises(ValueError, match=r"compiled with this optimizer.*Call compile first"):
        optimizer.attach(model)
    with tf.distribute.MirroredStrategy(two_devices).scope():
        model, loss, _ = problem()
        optimizer = NegativeCurvature()
        model.compile(optimizer, loss)
    with pytest.raises(ValueError, match=r"on one device. Received: sequential.* on 2"):
        optimizer.attach(model)
