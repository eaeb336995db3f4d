import keras
import numpy as np
import pytest
import tensorflow as tf

from thesis_tf import gradient_norms, issgd
from thesis_tf.issgd import Proposal
from thesis_tf.issgd.sampling import variance

N, BATCH = 26, 4  # 6 steps per epoch
# By default, Keras computes losses in float32.
LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True, dtype="float64")
rng = np.random.default_rng(0)
X = rng.normal(size=(N, 5)) * np.linspace(0.1, 3, N)[:, np.newaxis]
Y = rng.integers(0, 3, N)


def network(optimizer=None, loss=LOSS, **options):
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((5,), dtype="float64"),
            keras.layers.Dense(6, "tanh", dtype="float64"),
            keras.layers.Dense(3, dtype="float64"),
        ]
    )
    model.compile(optimizer or keras.optimizers.SGD(0.1), loss, **options)
    return model


def make(refresh_every=4, **options):
    return issgd.ImportanceSampling(
        X, Y, **{"batch_size": BATCH, **options}, refresh_every=refresh_every
    )


def fit(model, sampling, epochs=1, callbacks=(), **options):
    return model.fit(
        sampling.dataset,
        epochs=epochs,
        verbose=0,
        shuffle=False,
        callbacks=[sampling, *callbacks],
        **options,
    )


class Watching(keras.callbacks.Callback):
    """Records the weights before training and after each call of the steps."""

    def on_train_begin(self, logs=None):
        self.weights = [self.model.get_weights()]

    def on_train_batch_end(self, batch, logs=None):
        self.weights.append(self.model.get_weights())


def by_hand(model, steps, measured_at):
    """Takes SGD steps of importance sampling by its formulas; measures norms before some steps."""
    norms, proposal = gradient_norms.per_example_gradient_norms(model, LOSS), Proposal(N)
    for step in steps:
        if step in measured_at:
            proposal.update(None, np.sqrt(norms(X, Y)[1].numpy()).astype(np.float32), step)
        rows, scales = proposal.sample(BATCH, step=step)
        with tf.GradientTape() as tape:
            losses = keras.losses.sparse_categorical_crossentropy(
                Y[rows], model(X[rows]), from_logits=True
            )
            loss = tf.reduce_mean(losses * scales)
        variables = model.trainable_variables
        for variable, gradient in zip(
            variables, tape.gradient(loss, [v.value for v in variables]), strict=True
        ):
            variable.assign_sub(np.float32(0.1) * gradient)


def assert_same_weights(a, b, rtol=1e-12):
    for one, other in zip(a.get_weights(), b.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, rtol, atol=1e-14)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.shuffle=True. was passed")
def test_the_five_lines():
    sampling = issgd.ImportanceSampling(X, Y, batch_size=4, refresh_every=4)
    model = network()
    history = model.fit(sampling.dataset, epochs=20, verbose=0, callbacks=[sampling])
    assert int(model.optimizer.iterations) == 20 * 6
    assert np.mean(history.history["loss"][-5:]) < np.mean(history.history["loss"][:5])
    (x, y, weights) = sampling.dataset.element_spec
    assert (x.shape, x.dtype, y.shape, y.dtype) == ((BATCH, 5), tf.float64, (BATCH,), tf.int64)
    assert (weights.shape, weights.dtype, len(sampling.dataset)) == ((BATCH,), tf.float32, 6)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("refresh_every", "measured_at"),
    [(4, [0, 4, 8, 12, 16]), (1, range(18)), (7, [0, 7, 14]), (1000, [0])],
)
def test_steps_are_those_taken_by_hand_with_norms_of_the_right_steps(refresh_every, measured_at):
    model, other = network(), network()
    sampling = make(refresh_every)
    fit(model, sampling, epochs=3)
    by_hand(other, range(18), measured_at)
    assert_same_weights(model, other)
    # The last measurement is after the last step.
    after = [step for step in [*measured_at, 18] if step % refresh_every == 0 and step > 0]
    assert [entry.step for entry in sampling.history.records] == after


def test_several_steps_in_one_call():
    model, other = network(steps_per_execution=3), network()
    sampling = make(4)
    fit(model, sampling, epochs=3)
    # Steps 4, 8, 12 and 16 are in calls that end at steps 6, 9, 12 and 18.
    by_hand(other, range(18), [0, 6, 9, 12])
    assert_same_weights(model, other)
    assert [entry.step for entry in sampling.history.records] == [6, 9, 12, 18]


def test_a_model_that_is_not_built_is_built_for_the_data():
    model = keras.Sequential([keras.layers.Dense(3)])
    model.compile("sgd", LOSS)
    sampling = make()
    fit(model, sampling)
    assert model.input_shape == (None, 5)
    assert sampling.tracker.proposal.num_examples == N


def test_a_second_fit_goes_on():
    model, other = network(), network()
    sampling = make(4)
    fit(model, sampling)
    fit(model, sampling, epochs=2)
    by_hand(other, range(6), [0, 4])
    # The second call measures at its beginning, step 6; the next measurement is still at step 8.
    by_hand(other, range(6, 18), [6, 8, 12, 16])
    assert_same_weights(model, other)
    assert [entry.step for entry in sampling.history.records] == [4, 6, 8, 12, 16]


@pytest.mark.slow
def test_a_new_optimizer_begins_again():
    sampling = make(4)
    fit(network(), sampling, epochs=2)
    model, other = network(), network()
    fit(model, sampling, epochs=2)
    by_hand(other, range(12), [0, 4, 8])
    assert_same_weights(model, other)


def test_never_measuring_draws_uniformly():
    model, other = network(), network()
    sampling = make(None)
    fit(model, sampling, epochs=3)
    by_hand(other, range(18), [])
    assert_same_weights(model, other)
    assert (sampling.history.records, sampling.tracker.proposal.is_uniform) == ([], True)


@pytest.mark.slow
def test_gradients_are_unbiased_and_have_the_variance_of_ideal_draws():
    # Steps are so small that the model stays the same: their sum is a mean of estimates.
    epochs, rate = 50, 1e-9
    model = network(keras.optimizers.SGD(rate))
    before = model.get_weights()
    norms = np.sqrt(gradient_norms.per_example_gradient_norms(model, LOSS)(X, Y)[1].numpy())
    with tf.GradientTape() as tape:
        losses = keras.losses.sparse_categorical_crossentropy(Y, model(X), from_logits=True)
        loss = tf.reduce_mean(losses)
    full = tape.gradient(loss, [v.value for v in model.trainable_variables])
    full = np.concatenate([g.numpy().ravel() for g in full])
    sampling, watching = make(1, smoothing=0.0), Watching()
    fit(model, sampling, epochs, [watching])
    rate = float(np.float32(rate))
    flat = np.array([np.concatenate([w.ravel() for w in ws]) for ws in watching.weights])
    estimates = -np.diff(flat, axis=0) / rate
    steps = len(estimates)
    assert steps == 6 * epochs
    # E|estimate - full|^2 = Tr Sigma / batch, whose first term is minimal.
    trace = variance.gradient_variance(norms, norms, true_gradient_squared=np.square(full).sum())
    deviations = np.square(estimates - full).sum(axis=1)
    error = deviations.std() / np.sqrt(steps)
    assert deviations.mean() == pytest.approx(trace / BATCH, abs=4 * error)
    # The mean over all steps is more precise by their number; a chi-square of several terms is
    # below 4 times its mean. The error of draws without importance weights would be much larger.
    off = np.square(estimates.mean(axis=0) - full).sum()
    assert off < 4 * trace / (BATCH * steps)
    biased = (norms[:, np.newaxis] / norms.sum() * gradients_of_examples(before)).sum(axis=0)
    assert np.square(biased - full).sum() > 16 * trace / (BATCH * steps)
    variances = sampling.history.records[-1].gradient_variances
    assert variances["actual"] == pytest.approx(variances["ideal"], rel=1e-5)
    assert variances["actual"] < 0.9 * variances["uniform"]


def test_variances_are_exact_with_the_true_gradient():
    model = network(keras.optimizers.SGD(0.0))
    # Parts of different sizes: 26 = 3 * 7 + 5.
    sampling = make(true_gradient=True, refresh_batch_size=7)
    fit(model, sampling)
    gradients = gradients_of_examples(model.get_weights())
    true = gradients.mean(axis=0)
    found = sampling.history.records[-1]
    assert found.true_gradient_squared == pytest.approx(np.square(true).sum(), rel=1e-12)
    uniform = np.square(gradients - true).sum(axis=1).mean()
    assert found.gradient_variances["uniform"] == pytest.approx(
        uniform, rel=1e-5
    )  # norms are float32
    weights = np.linalg.norm(gradients, axis=1)
    scaled = gradients * (weights.mean() / weights)[:, np.newaxis]
    ideal = np.average(np.square(scaled - true).sum(axis=1), weights=weights)
    assert found.gradient_variances["ideal"] == pytest.approx(ideal, rel=1e-5)


def gradients_of_examples(weights):
    model = network()
    model.set_weights(weights)
    with tf.GradientTape() as tape:
        losses = keras.losses.sparse_categorical_crossentropy(Y, model(X), from_logits=True)
    rows = tape.jacobian(losses, [v.value for v in model.trainable_variables])
    return np.concatenate([r.numpy().reshape(N, -1) for r in rows], axis=1)


@pytest.mark.slow
def test_the_loss_in_the_logs_is_an_estimate_of_the_whole_sets():
    model = network(keras.optimizers.SGD(0.0), weighted_metrics=["accuracy"])
    loss, accuracy = model.evaluate(X, Y, verbose=0)
    history = fit(model, make(1000), epochs=50).history
    for name, expected in (("loss", loss), ("accuracy", accuracy)):
        found = np.array(history[name])
        error = found.std() / np.sqrt(len(found))
        assert found.mean() == pytest.approx(expected, abs=4 * error), name
        assert error < 0.08


@pytest.mark.slow
def test_the_same_seed_gives_the_same_weights():
    models = []
    for seed in (1, 1, 2):
        models.append(network())
        fit(models[-1], make(4, seed=seed), epochs=2)
    one, again, other = ([w.tobytes() for w in m.get_weights()] for m in models)
    assert one == again
    assert one != other


@pytest.mark.slow
def test_dropout_and_one_hot_labels_and_lists():
    keras.utils.set_random_seed(0)
    layers = [keras.layers.Dense(16, "relu"), keras.layers.Dropout(0.5), keras.layers.Dense(3)]
    model = keras.Sequential([keras.Input((5,)), *layers])
    model.compile("adam", keras.losses.CategoricalCrossentropy(from_logits=True), metrics=["acc"])
    one_hot = np.eye(3, dtype=np.float32)[Y]
    sampling = issgd.ImportanceSampling(
        X.astype(np.float32).tolist(), one_hot, batch_size=BATCH, refresh_every=2
    )
    fit(model, sampling, epochs=2, validation_data=(X, one_hot))
    exact = np.sqrt(
        gradient_norms.per_example_gradient_norms(model, model.loss)(X, one_hot)[1].numpy()
    )
    np.testing.assert_allclose(sampling.tracker._norms, exact, rtol=1e-5)
    assert sampling.history.records[-1].step == 12


@pytest.mark.slow
def test_norms_do_not_depend_on_how_many_are_measured_at_once():
    models, samplings = [], []
    for size in (7, 1024):
        models.append(network())
        samplings.append(make(4, refresh_batch_size=size))
        fit(models[-1], samplings[-1])
    values = [sampling.tracker._norms for sampling in samplings]
    np.testing.assert_allclose(*values, rtol=1e-6)


def test_a_batch_of_everything():
    sampling = make(batch_size=N)
    fit(network(), sampling, epochs=2)
    assert len(sampling.dataset) == 1


@pytest.mark.slow
def test_examples_that_are_no_arrays_are_taken_by_integers():
    class Rows:
        def __len__(self):
            return N

        def __getitem__(self, rows):
            assert isinstance(rows, np.ndarray)
            return X[rows]

    sampling = issgd.ImportanceSampling(Rows(), Y, batch_size=BATCH, refresh_every=4)
    model, other = network(), network()
    fit(model, sampling)
    by_hand(other, range(6), [0, 4])
    assert_same_weights(model, other)


def test_without_the_callback():
    with pytest.raises(
        tf.errors.UnknownError, match="RuntimeError: Gradient norms were never measured: pass"
    ):
        network().fit(make().dataset, verbose=0, shuffle=False)
    with pytest.raises(tf.errors.UnknownError, match="pass the ImportanceSampling to `fit` as a"):
        next(iter(make().dataset))


def test_several_devices(two_devices):
    to_one = tf.distribute.ReductionToOneDevice()
    with tf.distribute.MirroredStrategy(two_devices, cross_device_ops=to_one).scope():
        model = network()
    with pytest.raises(
        tf.errors.UnknownError, match=r"Under a tf\.distribute strategy `fit` reads"
    ):
        fit(model, make())


@pytest.mark.slow
def test_a_model_that_has_diverged():
    sampling = make()
    with pytest.warns(UserWarning, match="gradient norms of 26 of 26 examples are not finite"):
        fit(network(keras.optimizers.SGD(np.inf)), sampling, epochs=2)
    assert (sampling.tracker.proposal.usable, sampling.history.records) == (0, [])


@pytest.mark.slow
@pytest.mark.parametrize("kind", [dict, list])
def test_several_inputs(kind):
    keras.utils.set_random_seed(0)
    inputs = {name: keras.Input((5,), name=name) for name in "ab"}
    outputs = keras.layers.Dense(3)(keras.layers.Concatenate()(list(inputs.values())))
    wrap = (lambda parts: parts) if kind is dict else (lambda parts: list(parts.values()))
    model = keras.Model(wrap(inputs), outputs)
    model.compile(keras.optimizers.SGD(0.1), keras.losses.SparseCategoricalCrossentropy(True))
    x = wrap({"a": X.astype("f"), "b": -X.astype("f")})
    sampling = issgd.ImportanceSampling(x, Y, batch_size=BATCH, refresh_every=2)
    before = model.evaluate(x, Y, verbose=0)
    fit(model, sampling, epochs=4)
    assert sampling.tracker.proposal.usable == 1
    assert model.evaluate(x, Y, verbose=0) < before


def test_a_prefetch_draws_ahead_and_harms_nothing():
    sampling, model = make(2), network()
    model.fit(
        sampling.dataset.prefetch(2), epochs=5, verbose=0, shuffle=False, callbacks=[sampling]
    )
    assert [entry.step for entry in sampling.history.records] == list(range(2, 31, 2))
    assert sampling.tracker.proposal.usable == 1


@pytest.mark.parametrize("reduction", ["mean_with_sample_weight", None])
def test_a_reduction_that_makes_the_gradient_biased(reduction):
    model = network(loss=keras.losses.SparseCategoricalCrossentropy(True, reduction=reduction))
    with pytest.raises(ValueError, match="The loss' `reduction` must be sum_over_batch_size, mean"):
        fit(model, make())


def test_the_sum_of_losses_and_the_name_of_one():
    loss = keras.losses.SparseCategoricalCrossentropy(True, reduction="sum", dtype="float64")
    model = network(keras.optimizers.SGD(0.1 / BATCH), loss)
    other = network()
    fit(model, make())
    by_hand(other, range(6), [0, 4])
    assert_same_weights(model, other, rtol=1e-5)
    model = network(loss="mse")
    fit(model, issgd.ImportanceSampling(X, np.eye(3)[Y], batch_size=BATCH))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": N + 1}, "`batch_size` must be at most the 26 examples. Received: 27"),
        ({"batch_size": 0}, "`batch_size` must be a positive integer"),
        ({"refresh_every": 0}, "`refresh_every` must be a positive integer"),
        ({"refresh_batch_size": 0}, "`refresh_batch_size` must be a positive integer"),
        ({"seed": -1}, "`seed` must be a non-negative integer"),
    ],
)
def test_bad_arguments(options, message):
    with pytest.raises(ValueError, match=message):
        make(**options)


def test_fit_on_other_data_is_refused():
    sampling = make()
    with pytest.raises(ValueError, match=r"pass `sampling\.dataset` to it"):
        network().fit(X, Y, batch_size=BATCH, verbose=0, callbacks=[sampling])
