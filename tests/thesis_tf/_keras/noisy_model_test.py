import keras
import numpy as np
import pytest
import tensorflow as tf

from thesis_tf._keras.noisy_model import NoisyModel

RNG = np.random.default_rng(0)
X = RNG.normal(size=(64, 4)).astype(np.float32)
Y = RNG.normal(size=(64, 3)).astype(np.float32)
ORDERED = {"shuffle": False, "verbose": 0}


@keras.saving.register_keras_serializable(package="noisy_model_test")
class Regression(NoisyModel):
    """Least squares on noisy inputs."""

    def __init__(self, sigma=0.0, seed=0, **kwargs):
        super().__init__(seed, **kwargs)
        self.sigma, self.seen = sigma, []
        self.dense = keras.layers.Dense(3, kernel_initializer=keras.initializers.HeNormal(seed=1))

    def build(self, input_shape):
        self.dense.build(input_shape)
        self.built = True

    def call(self, x):
        return self.dense(x)

    def example_losses(self, x, target, seed, step, training):
        tf.py_function(lambda *s: self.seen.append(tuple(map(int, tf.concat(s, 0)))), [seed], [])
        target = x[:, :3] if target is None else target
        noise = tf.random.stateless_normal(tf.shape(x), seed)
        return tf.reduce_mean(tf.square(self.dense(x + self.sigma * noise) - target), axis=1)

    def get_config(self):
        return {**super().get_config(), "sigma": self.sigma, "seed": self.seed}


def compiled(sigma=0.0, seed=0, optimizer=None):
    model = Regression(sigma, seed)
    model.compile(optimizer or keras.optimizers.SGD(0.1))
    return model


def variables(model):
    return [v.numpy() for v in [*model.trainable_variables, *model.optimizer.variables]]


def assert_equal(model, other, **tolerances):
    for a, b in zip(variables(model), variables(other), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, **{"atol": 0, **tolerances})


def mirrored(devices):
    return tf.distribute.MirroredStrategy(
        devices, cross_device_ops=tf.distribute.ReductionToOneDevice()
    )


@pytest.mark.slow
@pytest.mark.parametrize("weighted", [False, True])
def test_without_noise_it_trains_as_keras_does(weighted):
    dense = Regression().dense
    plain = keras.Sequential([keras.Input((4,)), dense])
    plain.compile(keras.optimizers.Adam(0.1), "mse")
    model = compiled(optimizer=keras.optimizers.Adam(0.1))
    options = {**ORDERED, "batch_size": 16, "epochs": 2, "validation_data": (X + 1, Y)}
    options |= {"sample_weight": RNG.uniform(size=64)} if weighted else {}
    expected, found = plain.fit(X, Y, **options).history, model.fit(X, Y, **options).history
    assert found.keys() == expected.keys()
    for name in expected:
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-5)
    for a, b in zip(model.trainable_variables, plain.trainable_variables, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)


def test_noise_is_a_function_of_seed_and_step():
    model, same, other = compiled(0.5), compiled(0.5), compiled(0.5, seed=1)
    for each in (model, same, other):
        each.fit(X, batch_size=16, **ORDERED)
    assert_equal(model, same)
    assert model.seen == same.seen
    assert len({*model.seen, *other.seen}) == 8  # different noise in each of four steps


def test_validation_has_the_same_noise_each_time_and_another_in_each_batch():
    model = compiled(0.5)
    losses = [model.evaluate(X, Y, batch_size=16, verbose=0) for _ in range(2)]
    assert losses[0] == losses[1]
    assert model.seen[:4] == model.seen[4:]
    assert len(set(model.seen)) == 4


@pytest.mark.slow
def test_it_goes_on_from_a_checkpoint_with_the_noise_that_would_have_been():
    through, stopped, again = (compiled(0.5) for _ in range(3))
    options = {**ORDERED, "batch_size": 16}
    through.fit(X, epochs=4, **options)
    stopped.fit(X, epochs=2, **options)
    again.build((None, 4))
    again.optimizer.build(again.trainable_variables)
    state = lambda model: [*model.trainable_variables, *model.optimizer.variables]  # noqa: E731
    for new, old in zip(state(again), state(stopped), strict=True):
        new.assign(old.value)
    again.fit(X, epochs=2, **options)
    assert_equal(through, again)


def test_a_saved_model_goes_on(tmp_path):
    model = compiled(0.5, seed=3, optimizer=keras.optimizers.Adam(0.1))
    model.fit(X, Y, batch_size=16, **ORDERED)
    model.save(tmp_path / "m.keras")
    again = keras.saving.load_model(tmp_path / "m.keras", safe_mode=True)
    assert_equal(model, again)
    for each in (model, again):
        each.fit(X, Y, batch_size=16, **ORDERED)
    assert_equal(model, again)


def test_a_model_that_is_not_compiled_is_saved(tmp_path):
    model = Regression(0.5)
    model.build((None, 4))
    model.save(tmp_path / "m.keras")
    again = keras.saving.load_model(tmp_path / "m.keras", safe_mode=True)
    np.testing.assert_array_equal(again(X), model(X))
    assert (again.sigma, again.compiled) == (0.5, False)


def test_two_devices_take_the_step_of_one(two_devices):
    one = compiled()
    with mirrored(two_devices).scope():
        both = compiled()
    for model in (one, both):
        model.fit(X, Y, batch_size=32, **ORDERED)
    assert_equal(one, both, atol=1e-6)


@pytest.mark.parametrize("devices", [2, 4])
def test_last_batches_that_do_not_divide(devices, strategy_of):
    # The last batch of 5 gives four replicas 2, 2, 1 and no examples.
    one = compiled()
    with strategy_of(devices).scope():
        several = compiled()
    for model in (one, several):
        found = model.fit(X[:21], Y[:21], batch_size=8, epochs=2, **ORDERED).history["loss"]
    assert np.isfinite(found).all()
    assert_equal(one, several, atol=1e-6)


def test_replicas_draw_apart(two_devices):
    with mirrored(two_devices).scope():
        both = compiled(0.5)
    both.fit(X, batch_size=32, **ORDERED)
    assert len(both.seen) == len(set(both.seen)) == 4


def test_what_keras_would_leave_out_is_refused():
    model = compiled()
    for given in ({"loss": "mse"}, {"metrics": ["mae"]}):
        with pytest.raises(ValueError, match="Regression has a built-in loss"):
            model.compile("adam", **given)
    with pytest.raises(ValueError, match="`class_weight` must be left out"):
        model.fit(X, Y, class_weight={0: 1.0}, verbose=0)
    with pytest.raises(ValueError, match="`sample_weight` must be given with targets"):
        model.fit(X, sample_weight=np.ones(64), verbose=0)
    with pytest.raises(NotImplementedError):
        NoisyModel().example_losses(X, None, None, 0, True)
