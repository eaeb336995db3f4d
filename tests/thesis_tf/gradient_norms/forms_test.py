import numpy as np
import pytest
import tensorflow as tf

from thesis_tf.gradient_norms.forms import Full, Outer, Rows, combined

RNG = np.random.default_rng(0)


def normal(*shape):
    return tf.constant(RNG.normal(size=shape))


FORMS = {
    "full": lambda: Full(normal(3, 4, 5)),
    "outer": lambda: Outer(normal(3, 1, 4), normal(3, 1, 5)),
    "outer, few places": lambda: Outer(normal(3, 2, 40), normal(3, 2, 50)),
    "outer, many places": lambda: Outer(normal(3, 9, 4), normal(3, 9, 5)),
    "outer, groups": lambda: Outer(
        normal(3, 2, 3, 4), normal(3, 2, 3, 5), shape=(4, 5, 2), axes=(2, 0, 1)
    ),
    "rows": lambda: Rows(tf.constant([[1, 1, 0], [2, 3, 2], [0, 0, 0]]), normal(3, 3, 5), 4),
    "rows, one": lambda: Rows(tf.constant([[1], [2], [0]]), normal(3, 1, 5), 4),
}  # fmt: skip


@pytest.mark.parametrize("name", FORMS)
def test_norms_and_inner_products_are_those_of_what_is_formed(name):
    form = FORMS[name]()
    dense = form.dense().numpy()
    direction = RNG.normal(size=dense.shape[1:])
    flat = dense.reshape(3, -1)
    np.testing.assert_allclose(form.squared_norm(), (flat**2).sum(1), rtol=1e-12)
    np.testing.assert_allclose(
        form.inner(tf.constant(direction)), flat @ direction.ravel(), rtol=1e-11, atol=1e-12
    )


@pytest.mark.parametrize("name", FORMS)
def test_sums_are_sums(name):
    a, b = FORMS[name](), FORMS[name]()
    both = combined([a, b])
    np.testing.assert_allclose(both.dense(), a.dense() + b.dense(), rtol=1e-12, atol=1e-12)
    wanted = tf.reduce_sum((a.dense() + b.dense()) ** 2, axis=range(1, len(a.dense().shape)))
    np.testing.assert_allclose(both.squared_norm(), wanted, rtol=1e-11)


def test_forms_of_several_kinds_add_up():
    outer, rows = FORMS["outer"](), FORMS["rows"]()
    both = combined([outer, rows])
    np.testing.assert_allclose(both.dense(), outer.dense() + rows.dense())


def test_outer_products_of_an_unknown_number_of_places():
    form = FORMS["outer, few places"]()
    spec = [tf.TensorSpec((None, None, n), tf.float64) for n in (40, 50)]

    @tf.function(input_signature=spec)
    def squared_norm(a, d):
        return Outer(a, d).squared_norm()

    for places in (1, 2, 60):
        a, d = normal(3, places, 40), normal(3, places, 50)
        np.testing.assert_allclose(squared_norm(a, d), Outer(a, d).squared_norm(), rtol=1e-11)
    assert form.squared_norm().shape == (3,)
