import functools

import keras
import numpy as np
import pytest
import tensorflow as tf

from thesis_tf.gradient_norms import forms
from thesis_tf.gradient_norms.registry import rule_of
from thesis_tf.gradient_norms.rules import dense

L = keras.layers


def einsum(equation, shape, axes=None):
    return functools.partial(L.EinsumDense, equation, shape, bias_axes=axes)


@pytest.mark.parametrize(
    ("make", "shape"),
    [
        (lambda: L.Dense(4, "tanh"), (5,)),
        (lambda: L.Dense(4, use_bias=False), (5,)),
        (lambda: L.Dense(3, "sigmoid"), (6, 4)),
        (lambda: L.Dense(30), (2, 3, 20)),  # by Gram matrices
        (einsum("abc,cd->abd", (6, 3), "d"), (6, 4)),
        (einsum("abc,dc->abd", (6, 3), "d"), (6, 4)),
        (einsum("abc,cde->abde", (6, 2, 3), "de"), (6, 4)),
        (einsum("abc,bcd->ad", (3,), "d"), (6, 4)),
        (einsum("abc,bcd->abd", (6, 3), "bd"), (6, 4)),
        (einsum("abc,cd->abd", (6, 3), "b"), (6, 4)),
        (einsum("...x,xy->...y", 3, "y"), (3, 2, 4)),
        (lambda: L.PReLU("ones"), (3, 2, 4)),
        (lambda: L.PReLU("ones", shared_axes=[1, 2]), (3, 2, 4)),
    ],
    ids=[
        "one place", "no bias", "places", "Gram",
        "einsum", "transposed", "two columns", "two rows", "groups", "shared bias", "ellipsis",
        "prelu", "shared prelu",
    ],
)  # fmt: skip
def test_gradients_are_those_of_jacobians(check_rule, make, shape):
    check_rule(make, shape)


@pytest.mark.parametrize("shape", [(), (1,), (8,), (2, 4)], ids=str)
def test_rows_of_a_table_are_those_of_jacobians(check_rule, shape):
    # The table has 5 rows, so some of 8 places use the same row.
    (form,) = check_rule(lambda: L.Embedding(5, 3), shape, integers=5).values()
    assert isinstance(form, forms.Rows)


def test_an_equation_that_is_no_matrix_product_has_no_rule(double):
    product = L.EinsumDense("ab,bc->ac", 3)
    summed_out = L.EinsumDense("ab,bc->a", ())
    two_examples = L.EinsumDense("ab,ac->abc", (4, 3))
    assert rule_of(product) is not None
    assert rule_of(summed_out) is rule_of(two_examples) is None


def test_kernels_that_are_not_used_as_they_are_have_no_rule():
    layer = L.Dense(4)
    layer.build((None, 5))
    assert dense.plain(layer)
    assert rule_of(layer) is not None
    layer.enable_lora(2)
    assert not dense.plain(layer)
    assert rule_of(layer) is None
    quantized = L.Dense(4)
    quantized.build((None, 5))
    quantized.quantize("int8")
    assert not dense.plain(quantized)


def test_sums_over_all_axes_but_some():
    x = np.random.default_rng(0).normal(size=(2, 3, 4, 5))
    np.testing.assert_allclose(dense.summed_but(tf.constant(x), [3]), x.sum((1, 2)))
    np.testing.assert_allclose(dense.summed_but(tf.constant(x), [1, 3]), x.sum(2))
    np.testing.assert_array_equal(dense.summed_but(tf.constant(x), [1, 2, 3]), x)
