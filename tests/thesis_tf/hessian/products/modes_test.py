"""Every layer and option of the table in docs/hessian_layers.md."""

import importlib.util
import pathlib

import keras
import numpy as np
import pytest
import tensorflow as tf

from thesis_tf import hessian
from thesis_tf.hessian.products import modes

HERE = pathlib.Path(__file__).parent
DOCS = HERE.parents[3] / "docs/hessian_layers.md"

spec = importlib.util.spec_from_file_location(
    "second_derivative_cases", HERE / "second_derivative_cases.py"
)
second_derivative_cases = importlib.util.module_from_spec(spec)
spec.loader.exec_module(second_derivative_cases)


ROWS = {
    name.strip(): verdict.strip()
    for _, name, verdict, _ in (
        line.split("|") for line in DOCS.read_text(encoding="utf-8").splitlines() if "|" in line
    )
    if name.strip("- ") not in ("", "layer")
}


@pytest.mark.slow
@pytest.mark.parametrize("name", second_derivative_cases.CASES)
def test_a_layer(name):
    found = second_derivative_cases.verdict(name)
    assert "WRONG" not in found
    # Only the mode: the error below the tolerance differs between machines.
    assert found.split(",")[0] == ROWS[name].split(",")[0]


def test_the_table_has_every_layer_and_no_other():
    assert list(ROWS) == list(second_derivative_cases.CASES)
    assert len(ROWS) >= 40


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    ["Conv2D, same, strided", "MaxPooling2D", "LayerNormalization", "MultiHeadAttention", "LSTM"],
)
def test_gauss_newton_products(name):
    error, _ = second_derivative_cases.error(name, kind=modes.GAUSS_NEWTON)
    assert error <= second_derivative_cases.TOLERANCE


@pytest.mark.slow
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_resizing_is_as_the_matrix_that_it_is(interpolation):
    # TensorFlow resizes only in float32, so the differences of the table can't be exact.
    keras.utils.set_random_seed(0)
    x, y = np.random.default_rng(0).normal(size=(2, 3, 16)).astype("f")
    first, last = keras.layers.Dense(16, "tanh"), keras.layers.Dense(2, "tanh")
    resize = keras.layers.UpSampling2D(interpolation=interpolation)
    basis = tf.reshape(tf.eye(16), (16, 4, 4, 1))
    matrix = tf.reshape(resize(basis), (16, 64))
    linear = keras.layers.Dense(64, use_bias=False, trainable=False)
    resized = [keras.layers.Reshape((4, 4, 1)), resize, keras.layers.Flatten()]
    results = []
    for middle in (resized, [linear]):
        model = keras.Sequential([keras.Input((16,)), first, *middle, last])
        if middle is not resized:
            linear.kernel.assign(matrix)
        operator = hessian.HessianOperator(model, "mse", (x, y[:, :2]))
        results.append(operator @ np.eye(operator.shape[0], dtype="f"))
    np.testing.assert_allclose(*results, atol=1e-5 * abs(results[0]).max())
