"""Norms of models with positions, tables, tokens, windows, experts and latents."""

import importlib.util
import pathlib

import keras
import numpy as np
import pytest
import tensorflow as tf

from thesis_tf import gradient_norms

HERE = pathlib.Path(__file__).parent
spec = importlib.util.spec_from_file_location("no_batch_cases", HERE / "no_batch_cases.py")
cases = importlib.util.module_from_spec(spec)
spec.loader.exec_module(cases)

LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


@pytest.mark.parametrize("name", cases.CASES)
def test_norms_are_those_of_single_examples(name):
    model = cases.build(name)
    x, y = cases.data(model, 7)
    expected = cases.tapes(model, LOSS, x, y)
    whole = sum(expected.values())
    f = gradient_norms.per_example_gradient_norms(model, LOSS, per_layer=True)
    plain = gradient_norms.per_example_gradient_norms(model, LOSS, check=False)
    for size in (7, cases.STEPS, 5, 1):  # one as the number of steps, others as no axis
        tensors = tf.constant(x[:size]), tf.constant(y[:size])
        found = f._variable_squares(*tensors)
        for variable, square in zip(f.objective.variables, found, strict=True):
            wanted = expected[variable.path][:size]
            np.testing.assert_allclose(
                square, wanted, rtol=2e-4, atol=1e-5 * whole.max(), err_msg=variable.path
            )
        _, squares, layers = f(*tensors)
        np.testing.assert_allclose(squares, whole[:size], rtol=1e-4)
        np.testing.assert_allclose(sum(layers.values()), squares, rtol=1e-5)
        scales = np.linspace(0.5, 2, size).astype("f")
        _, squares, _ = plain.with_gradients(*tensors, scales)
        np.testing.assert_allclose(squares, whole[:size], rtol=1e-4)
