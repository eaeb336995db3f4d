import keras
import numpy as np
import pytest

from thesis_tf import hessian

OPTIONS = {"largest": 2, "smallest": 1, "tol": 1e-6}


def trained(problem, callbacks, epochs=3):
    model, loss, (x, y) = problem(examples=40)
    model.compile("rmsprop", loss)
    model.fit(x, y, batch_size=8, epochs=epochs, shuffle=False, verbose=0, callbacks=callbacks)
    return model


@pytest.mark.slow
@pytest.mark.parametrize("live", [True, False])
def test_training_is_left_as_it_is(problem, tmp_path, live):
    _, _, data = problem()
    monitor = hessian.HessianMonitor(data, tmp_path, at_steps=[0, 3, 11], live=live, **OPTIONS)
    watched, plain = trained(problem, [monitor]), trained(problem, [])
    assert monitor.history.steps == [0, 3, 11]
    for a, b in zip(watched.get_weights(), plain.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    assert len(list(tmp_path.glob("step_*.weights.h5"))) == (0 if live else 3)


@pytest.mark.slow
def test_live_and_afterwards_are_the_same(problem, tmp_path):
    _, _, data = problem()
    found = []
    for live in (True, False):
        monitor = hessian.HessianMonitor(
            data, tmp_path / str(live), measure_every=5, live=live, **OPTIONS
        )
        trained(problem, [monitor])
        found.append(monitor.history.entries)
    assert [e.step for e in found[0]] == [0, 5, 10, 15]
    for a, b in zip(*found, strict=True):
        np.testing.assert_allclose(a.largest, b.largest, rtol=1e-10)


@pytest.mark.slow
@pytest.mark.parametrize("live", [True, False])
def test_another_training_in_the_same_folder(problem, tmp_path, live):
    _, _, data = problem()
    for seed in (0, 1):
        model, loss, (x, y) = problem(examples=40)
        model.set_weights([w + 0.1 * seed for w in model.get_weights()])
        model.compile("rmsprop", loss)
        monitor = hessian.HessianMonitor(data, tmp_path, at_steps=[2, 4], live=live, **OPTIONS)
        if seed:
            with pytest.raises(ValueError, match="step 2 of another training"):
                model.fit(x, y, batch_size=8, verbose=0, callbacks=[monitor])
        else:
            model.fit(x, y, batch_size=8, verbose=0, callbacks=[monitor])


@pytest.mark.slow
@pytest.mark.parametrize("live", [True, False])
def test_training_that_diverges_goes_on(problem, tmp_path, live):
    model, loss, (x, y) = problem(examples=40)
    model.compile(keras.optimizers.SGD(1e200), loss)
    monitor = hessian.HessianMonitor((x, y), tmp_path, at_steps=[0, 4], live=live, **OPTIONS)
    with pytest.warns(UserWarning, match="No eigenvalues at step 4.*diverged"):
        model.fit(x, y, batch_size=8, verbose=0, callbacks=[monitor])
    assert monitor.history.steps == [0]
    assert int(model.optimizer.iterations) == 5


@pytest.mark.slow
def test_steps_that_are_not_seen(problem, tmp_path):
    model, loss, (x, y) = problem(examples=40)
    model.compile("rmsprop", loss, steps_per_execution=4)
    monitor = hessian.HessianMonitor((x, y), tmp_path, at_steps=[0, 1, 4, 100], **OPTIONS)
    with pytest.warns(UserWarning, match=r"No eigenvalues at steps \[1\].*steps_per_execution"):
        model.fit(x, y, batch_size=8, verbose=0, callbacks=[monitor])
    assert monitor.history.steps == [0, 4]


def test_bad_arguments(problem, tmp_path):
    model, _, data = problem()
    with pytest.raises(ValueError, match="`measure_every` must be a positive integer"):
        hessian.HessianMonitor(data, tmp_path, measure_every=0)
    for steps in ({}, {"measure_every": 2, "at_steps": [1]}):
        with pytest.raises(ValueError, match="`at_steps` must be given, or `measure_every`"):
            hessian.HessianMonitor(data, tmp_path, **steps)
    with pytest.raises(ValueError, match="`at_steps` must be 0 or above"):
        hessian.HessianMonitor(data, tmp_path, at_steps=[3, -1])
    monitor = hessian.HessianMonitor(data, tmp_path, measure_every=5, loss=None)
    monitor.set_model(model)
    model.compile("sgd")
    with pytest.raises(ValueError, match="`model` must be compiled with a loss"):
        monitor.on_train_begin()
    assert isinstance(monitor, keras.callbacks.Callback)


def test_a_step_of_several_batches_is_one_step(tmp_path, recwarn):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(40, 5)).astype("f"), rng.integers(0, 2, 40)
    keras.utils.set_random_seed(0)
    # The dropout draws in each batch, which is no other course of the training.
    layers = [keras.layers.Dense(4, "tanh"), keras.layers.Dropout(0.2), keras.layers.Dense(2)]
    model = keras.Sequential([keras.Input((5,)), *layers])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.1, gradient_accumulation_steps=2), loss)
    options = {"largest": 1, "smallest": 1, "verbose": 0}
    monitor = hessian.HessianMonitor((x, y), tmp_path, measure_every=1, **options)
    model.fit(x, y, batch_size=10, verbose=0, callbacks=[monitor])
    entries = monitor.history.entries
    assert [entry.step for entry in entries] == [0, 1, 2]
    assert [entry.largest_angles is not None for entry in entries] == [False, True, True]
    assert not [w for w in recwarn if "differs from the earlier run" in str(w.message)]
