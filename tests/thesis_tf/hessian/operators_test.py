import json
import socket

import keras
import numpy as np
import pytest
import scipy.sparse.linalg
import tensorflow as tf

from thesis_tf import hessian
from thesis_tf.hessian import GaussNewtonOperator, HessianOperator, OperatorOptions

OPTIMIZED_GRAPHS = True

MODES = ("forward_over_reverse", "forward_accumulator", "reverse_over_reverse")


def dense(operator):
    return operator @ np.eye(operator.shape[0], dtype=operator.dtype)


@pytest.mark.slow
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("batch_size", "memory_limit"), [(20, 1 << 20), (7, 1 << 20), (7, 0)])
def test_the_columns_are_the_hessian(problem, dense_hessian, mode, batch_size, memory_limit):
    model, loss, data = problem(kernel_regularizer=keras.regularizers.L2(0.125))
    operator = HessianOperator(
        model, loss, data, mode=mode, batch_size=batch_size, memory_limit=memory_limit
    )

    assert operator.mode == mode
    np.testing.assert_allclose(dense(operator), dense_hessian(model, data), rtol=0, atol=1e-14)
    assert operator.products == operator.shape[0] == 43


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["forward_over_reverse", "reverse_over_reverse"])
def test_gauss_newton(problem, mode):
    model, loss, (x, y) = problem(kernel_regularizer=keras.regularizers.L2(0.125))
    operator = GaussNewtonOperator(model, loss, (x, y), mode=mode, batch_size=8)

    with tf.GradientTape(persistent=True) as tape:
        logits = model(x)
    variables = [v.value for v in model.trainable_variables]
    parts = tape.jacobian(logits, variables)
    jacobian = np.concatenate([p.numpy().reshape(len(x), 3, -1) for p in parts], axis=2)
    p = tf.nn.softmax(logits).numpy()
    curvature = np.einsum("ni,ij->nij", p, np.eye(3)) - np.einsum("ni,nj->nij", p, p)
    expected = np.einsum("nia,nij,njb->ab", jacobian, curvature, jacobian) / len(x)
    expected[np.arange(20), np.arange(20)] += 0.25  # for the regularized kernel
    np.testing.assert_allclose(dense(operator), expected, rtol=0, atol=1e-14)


@pytest.mark.slow
def test_gauss_newton_is_the_hessian_of_a_linear_model(problem):
    model, loss, (x, y) = problem()
    linear = keras.Sequential([model.layers[1]])
    linear.build((None, 5))
    x = np.random.default_rng(0).normal(size=(20, 5))
    a, b = (kind(linear, loss, (x, y)) for kind in (HessianOperator, GaussNewtonOperator))
    np.testing.assert_allclose(dense(a), dense(b), atol=1e-15)


@pytest.mark.slow
def test_gradient_and_loss(problem):
    model, loss, (x, y) = problem()
    operator = HessianOperator(model, loss, (x, y), batch_size=6)
    with tf.GradientTape() as tape:
        losses = keras.losses.sparse_categorical_crossentropy(y, model(x), from_logits=True)
        value = tf.reduce_mean(losses)
    gradient = tape.gradient(value, [v.value for v in model.trainable_variables])
    gradient = np.concatenate([g.numpy().ravel() for g in gradient])
    theta = np.concatenate([v.numpy().ravel() for v in model.trainable_variables])

    np.testing.assert_array_equal(operator.parameters, theta)
    np.testing.assert_allclose(operator.gradient(), gradient, atol=1e-15)
    assert operator.loss() == pytest.approx(float(value), rel=1e-14)
    h = 1e-5
    slope = (operator.loss(theta + h * gradient) - operator.loss(theta - h * gradient)) / (2 * h)
    assert slope == pytest.approx(gradient @ gradient, rel=1e-8)
    # Central differences of `gradient` along the gradient.
    change = operator.gradient(theta + h * gradient) - operator.gradient(theta - h * gradient)
    np.testing.assert_allclose(change / (2 * h), operator @ gradient, atol=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("parameters", "rows"),
    [
        ("first", slice(0, 25)),
        (["last"], slice(25, 43)),
        ("first/kernel", slice(0, 20)),
        ("*/bias", np.r_[20:25, 40:43]),
        (["last/bias", "first/bias"], np.r_[20:25, 40:43]),
    ],
)
def test_some_of_the_parameters(problem, dense_hessian, parameters, rows):
    model, loss, data = problem()
    for chosen in (parameters, [model.get_layer(parameters)] if parameters == "first" else None):
        if chosen is not None:
            operator = HessianOperator(model, loss, data, parameters=chosen)
            expected = dense_hessian(model, data)[rows][:, rows]
            np.testing.assert_allclose(dense(operator), expected, atol=1e-14)


@pytest.mark.slow
def test_data_sets_are_as_arrays(problem):
    model, loss, (x, y) = problem()
    whole = dense(HessianOperator(model, loss, (x, y)))
    for batch in (3, 20):
        dataset = tf.data.Dataset.from_tensor_slices((x, y)).batch(batch)
        for memory in (0, 1 << 20):
            operator = HessianOperator(model, loss, dataset, batch_size=8, memory_limit=memory)
            np.testing.assert_allclose(dense(operator), whole, atol=1e-14)


@pytest.mark.slow
def test_structures_of_inputs_and_a_loss_function():
    first, second = keras.Input((3,), name="a"), keras.Input((3,), name="b")
    product = keras.layers.Multiply()([keras.layers.Dense(3)(first), keras.layers.Dense(3)(second)])
    model = keras.Model({"a": first, "b": second}, [product, keras.layers.Dense(1)(product)])
    rng = np.random.default_rng(0)
    x = {name: rng.normal(size=(6, 3)).astype("f") for name in "ab"}
    y = rng.normal(size=(6,)).astype("f")

    def loss(labels, outputs):
        return tf.reduce_sum(outputs[0] ** 2, 1) + (outputs[1][:, 0] - labels) ** 2

    operator = HessianOperator(model, loss, (x, y), batch_size=4)
    matrix = dense(operator)
    np.testing.assert_allclose(matrix, matrix.T, atol=1e-5)
    assert operator.loss() == pytest.approx(float(np.mean(loss(y, model(x)))), rel=1e-6)


@pytest.mark.slow
def test_the_weights_are_those_at_the_start_until_refreshed(problem):
    model, loss, data = problem()
    operator = HessianOperator(model, loss, data)
    before = dense(operator)
    for variable in model.trainable_variables:
        variable.assign(2 * variable)
    np.testing.assert_array_equal(dense(operator), before)
    operator.refresh()
    np.testing.assert_array_equal(dense(operator), dense(HessianOperator(model, loss, data)))


@pytest.mark.slow
def test_layers_are_as_at_inference():
    keras.utils.set_random_seed(0)
    layers = keras.layers
    model = keras.Sequential([keras.Input((4,)), layers.Dense(5), layers.BatchNormalization()])
    model.add(layers.Dropout(0.5))
    model.add(layers.Dense(1))
    model.layers[1].moving_variance.assign([1.0, 2.0, 3.0, 4.0, 5.0])
    x, y = np.random.default_rng(0).normal(size=(2, 10, 4)).astype("f")
    before = [v.numpy() for v in model.variables]
    whole = HessianOperator(model, "mse", (x, y[:, :1]), batch_size=10)
    parts = HessianOperator(model, "mse", (x, y[:, :1]), batch_size=3)
    np.testing.assert_allclose(dense(whole), dense(parts), atol=1e-6)
    for value, variable in zip(before, model.variables, strict=True):
        np.testing.assert_array_equal(value, variable.numpy())


def test_vectors(problem):
    model, loss, data = problem()
    operator = HessianOperator(model, loss, data)
    matrix, rng = dense(operator), np.random.default_rng(0)
    v, vectors = rng.normal(size=43), rng.normal(size=(43, 2))

    assert isinstance(operator @ v, np.ndarray)
    assert isinstance(operator @ tf.constant(v), tf.Tensor)
    np.testing.assert_allclose(operator @ v, matrix @ v, atol=1e-14)
    np.testing.assert_allclose(operator.matmat(vectors), matrix @ vectors, atol=1e-14)
    assert (operator @ vectors[:, :0]).shape == (43, 0)
    linear = operator.to_scipy()
    assert isinstance(linear, scipy.sparse.linalg.LinearOperator)
    np.testing.assert_allclose(linear @ v, matrix @ v, atol=1e-14)
    np.testing.assert_allclose(linear.H @ vectors, matrix @ vectors, atol=1e-14)
    values = scipy.sparse.linalg.eigsh(linear, 2, which="SA", return_eigenvectors=False)
    np.testing.assert_allclose(np.sort(values), np.linalg.eigvalsh(matrix)[:2], atol=1e-12)
    for bad in (v[:-1], vectors[:-1], np.zeros((43, 1, 1)), np.float64(1.0)):
        with pytest.raises(ValueError, match=r"The vector must be of shape \(43,\) or \(43, k\)"):
            operator @ bad
    for bad in (np.arange(43), np.zeros(43, bool)):
        with pytest.raises(TypeError, match=r"of a floating dtype. Received: (int|bool).*astype"):
            operator @ bad


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_vectors_of_another_floating_dtype_are_cast(dtype):
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, "tanh")])
    x, y = np.random.default_rng(0).normal(size=(2, 10, 4)).astype("f")
    operator = HessianOperator(model, "mse", (x, y[:, :3]))
    vectors = np.random.default_rng(1).normal(size=(operator.shape[0], 2)).astype(dtype)
    expected = operator @ vectors.astype("float32")
    for found in (operator @ vectors, (operator @ tf.constant(vectors)).numpy()):
        assert found.dtype == dtype
        np.testing.assert_array_equal(found, expected.astype(dtype))
    np.testing.assert_array_equal(operator @ vectors[:, 0], expected[:, 0].astype(dtype))
    assert (operator @ vectors[:, 0].tolist()).dtype == "float64"


@pytest.mark.slow
def test_the_public_surface(problem):
    operator = HessianOperator(*problem())
    names = {name for name in dir(operator) if not name.startswith("_")}
    assert names == {
        "dtype", "fingerprint", "gradient", "loss", "matmat", "matvec", "mode", "model",
        "parameters", "products", "refresh", "shape", "to_scipy",
    }  # fmt: skip


def test_options_make_either_operator(problem):
    options = OperatorOptions(mode="reverse_over_reverse", parameters="last", check=False)
    for kind, make in (
        (HessianOperator, options.hessian),
        (GaussNewtonOperator, options.gauss_newton),
    ):
        operator = make(*problem())
        assert type(operator) is kind
        assert (operator.mode, operator.shape) == ("reverse_over_reverse", (18, 18))


def test_one_example_and_one_parameter():
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, use_bias=False)])
    operator = HessianOperator(model, "mse", (np.full((1, 1), 3.0, "f"), np.zeros((1, 1), "f")))
    assert dense(operator) == pytest.approx(np.array([[18.0]]))


@pytest.mark.slow
def test_mixed_precision():
    keras.utils.set_random_seed(0)
    layers = [keras.layers.Dense(8, "tanh", dtype="mixed_bfloat16"), keras.layers.Dense(1)]
    model = keras.Sequential([keras.Input((4,)), *layers])
    x, y = np.random.default_rng(0).normal(size=(2, 50, 4)).astype("f")
    mixed = dense(HessianOperator(model, "mse", (x, y[:, :1])))
    layers[0].dtype_policy = "float32"
    exact = dense(HessianOperator(model, "mse", (x, y[:, :1])))
    error = np.linalg.norm(mixed - exact) / np.linalg.norm(exact)
    assert 1e-5 < error < 2**-6  # bfloat16 rounds to a relative precision of 2^-9


@pytest.mark.slow
@pytest.mark.parametrize("kind", [HessianOperator, GaussNewtonOperator])
def test_two_devices(problem, two_devices, kind):
    model, loss, data = problem(examples=21)
    alone = kind(model, loss, data, batch_size=8)
    with tf.distribute.MirroredStrategy(two_devices).scope():
        for memory in (0, 1 << 20):
            shared = kind(model, loss, data, batch_size=7, memory_limit=memory)
            np.testing.assert_allclose(dense(shared), dense(alone), atol=1e-14)
            np.testing.assert_allclose(shared.gradient(), alone.gradient(), atol=1e-15)
            assert shared.loss() == pytest.approx(alone.loss(), rel=1e-14)


WORKER = """
    import json, os, sys
    os.environ["TF_CONFIG"] = sys.argv[1]
    import numpy as np, tensorflow as tf
    distributed = bool(sys.argv[1])
    strategy = (
        tf.distribute.MultiWorkerMirroredStrategy() if distributed else tf.distribute.get_strategy()
    )
    import keras
    from thesis_tf import hessian
    keras.utils.set_random_seed(0)
    layers = [keras.Input((4,)), keras.layers.Dense(5, "tanh"), keras.layers.Dense(3)]
    rng = np.random.default_rng(0)
    data = rng.normal(size=(21, 4)).astype("f"), rng.integers(0, 3, 21)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    with strategy.scope():
        H = hessian.HessianOperator(keras.Sequential(layers), loss, data, batch_size=8)
        v = rng.normal(size=H.shape[0]).astype("f")
        pairs = hessian.extreme_eigenpairs(H, largest=2, smallest=1)
    print(json.dumps([(H @ v).tolist(), pairs.values.tolist(), H.loss()]))
"""


@pytest.mark.slow
def test_two_processes(start_python):
    sockets = [socket.create_server(("localhost", 0)) for _ in range(2)]
    cluster = {"worker": [f"localhost:{s.getsockname()[1]}" for s in sockets]}
    for s in sockets:
        s.close()
    configs = [{"cluster": cluster, "task": {"type": "worker", "index": i}} for i in (0, 1)]
    workers = [start_python(WORKER, json.dumps(config)) for config in configs]
    results = []
    for process in (*workers, start_python(WORKER, "")):
        out, error = process.communicate(timeout=900)
        assert process.returncode == 0, error
        results.append(json.loads(out.splitlines()[-1]))
    first, second, alone = results
    assert first == second
    for a, b in zip(first, alone, strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "kind", "message"),
    [
        ({"mode": "jit"}, ValueError, "`mode` must be one of forward_over_reverse, .*'jit'"),
        ({"parameters": "frist"}, ValueError, "layers or trainable variables.*'frist'.*first"),
        ({"parameters": []}, ValueError, "at least one trainable parameter"),
        ({"loss": 3}, TypeError, "`loss` must be a Keras loss.*outputs"),
        ({"loss": lambda y, p: tf.reduce_mean(p)}, ValueError, r"one value per example.*scalar"),
        ({"batch_size": 0}, ValueError, "`batch_size` must be a positive integer"),
        ({"data": np.zeros((3, 4))}, ValueError, r"`data` must be \(x, y\) or .*ndarray"),
        ({"data": (np.zeros((3, 4)), np.zeros(2))}, ValueError, "arrays of one length"),
        ({"data": (np.zeros((0, 4)), np.zeros(0))}, ValueError, "at least one example"),
        (
            {"data": tf.data.Dataset.from_tensors(np.zeros((3, 4)))},
            ValueError,
            r"`data` must be \(x, y\) or",
        ),
        (
            {"data": tf.data.Dataset.from_tensors((np.zeros((3, 4)), np.zeros(3))).repeat()},
            ValueError,
            "a finite data set",
        ),
        (
            {"data": (np.zeros((3, 4)), np.zeros(3), np.ones(3), np.ones(3))},
            ValueError,
            "sample_weight.*tuple of 4",
        ),
        (
            {"data": tf.data.Dataset.from_tensor_slices((np.zeros((3, 4)), np.zeros(3)))},
            ValueError,
            r"a batched tf.data.Dataset.*batch\(\)",
        ),
        (
            {"data": tf.data.Dataset.from_tensors((np.zeros((3, 4)), np.zeros(3))).take(0)},
            ValueError,
            "at least one example.*an empty tf.data.Dataset",
        ),
        ({"model": lambda x: x}, TypeError, "`model` must be a keras.Model. Received: function"),
    ],
)
def test_bad_arguments(problem, arguments, kind, message):
    model, loss, data = problem()
    arguments = {"model": model, "loss": loss, "data": data} | arguments
    with pytest.raises(kind, match=message):
        HessianOperator(**arguments)


def test_models_that_have_no_hessian(problem):
    _, loss, data = problem()
    frozen = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, trainable=False)])
    with pytest.raises(ValueError, match="a model with trainable parameters"):
        HessianOperator(frozen, loss, data)
    active = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, activity_regularizer="l2")])
    with pytest.raises(ValueError, match="adds losses"):
        HessianOperator(active, loss, data)


def test_the_point_must_fit(problem):
    operator = HessianOperator(*problem())
    for function in (operator.loss, operator.gradient):
        with pytest.raises(ValueError, match=r"`parameters` must be of shape \(43,\)"):
            function(np.ones(3))
    assert repr(operator).startswith("<HessianOperator 43 x 43 float64 of sequential")


class TwoInputs(keras.Model):
    """A subclassed model of two inputs, which is not built."""

    def __init__(self):
        super().__init__(dtype="float64")
        self.left = keras.layers.Dense(3, "tanh", dtype="float64")
        self.right = keras.layers.Dense(3, dtype="float64")

    def call(self, inputs):
        return self.left(inputs["a"]) * self.right(inputs["b"])


@pytest.mark.parametrize("as_dataset", [False, True])
def test_a_model_that_is_not_built_is_built_for_the_data(dense_hessian, as_dataset):
    keras.utils.set_random_seed(0)
    rng = np.random.default_rng(0)
    x, y = {"a": rng.normal(size=(8, 4)), "b": rng.normal(size=(8, 2))}, rng.integers(0, 3, 8)
    data = tf.data.Dataset.from_tensor_slices((x, y)).batch(3) if as_dataset else (x, y)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model = TwoInputs()
    operator = HessianOperator(model, loss, data)
    assert operator.shape == (24, 24)
    np.testing.assert_allclose(dense(operator), dense_hessian(model, (x, y)), atol=1e-14)


class AlwaysTraining(keras.layers.Layer):
    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def call(self, x):
        return self.inner(x, training=True)


@pytest.mark.parametrize("inner", ["Dropout", "BatchNormalization"])
def test_a_layer_left_in_training_mode(problem, inner):
    _, loss, data = problem()
    layer = {"Dropout": keras.layers.Dropout(0.5)}.get(inner, keras.layers.BatchNormalization())
    model = keras.Sequential([keras.Input((4,)), AlwaysTraining(layer), keras.layers.Dense(3)])
    with pytest.raises(ValueError, match=r"changes when .* training=False"):
        HessianOperator(model, loss, data)


@pytest.mark.slow
def test_falls_back_and_says_so():
    model = keras.Sequential([keras.Input((5, 2)), keras.layers.GRU(3)])
    x, y = np.random.default_rng(0).normal(size=(2, 6, 5, 3)).astype("f")
    with pytest.warns(hessian.FallbackWarning, match=r"by reverse_over_reverse, as .* loops do"):
        operator = HessianOperator(model, "mse", (x[..., :2], y[:, 0]))
    assert operator.mode == "reverse_over_reverse"
    matrix = dense(operator)
    np.testing.assert_allclose(matrix, matrix.T, atol=1e-6)
