import numpy as np
import pytest
import tensorflow as tf

from thesis_tf._core import arrays

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_points_keep_their_values_and_dtype(dtype):
    x = RNG.normal(size=(4, 3)).astype(dtype)
    found = arrays.checked_points("`x`", x)
    assert tf.is_tensor(found)
    assert found.dtype == dtype
    np.testing.assert_array_equal(found, x)


@pytest.mark.parametrize(
    ("x", "options", "kind", "match"),
    [
        (np.ones((2, 3), int), {}, TypeError, "`x` must be of a floating dtype.*int64.*tf.cast"),
        (np.ones(3), {}, ValueError, r"of shape \(n, ...\). Received: shape \(3,\)"),
        (np.float64(1), {}, ValueError, r"Received: shape \(\)"),
        (np.ones((0, 3)), {"at_least": 1}, ValueError, "at least 1 point. Received: 0"),
        (
            np.ones((2, 3)),
            {"like": tf.ones((2, 3))},
            ValueError,
            r"float32 of shape \(2, 3\), .*float64",
        ),
        (
            np.ones((2, 3)),
            {"like": tf.ones((2, 4), tf.float64)},
            ValueError,
            r"of shape \(2, 4\), like the other points. Received: float64 of shape \(2, 3\)",
        ),
        (
            np.array([[0.0], [np.nan], [1.0], [-np.inf]]),
            {},
            ValueError,
            "finite points. Received: NaN or infinity in 2 of 4, the first at 1",
        ),
    ],
)
def test_what_are_no_points(x, options, kind, match):
    with pytest.raises(kind, match=match) as raised:
        arrays.checked_points("`x`", x, **options)
    assert raised.value.argument == "x"


def test_values_are_not_looked_at_while_a_graph_is_traced():
    @tf.function
    def traced(x):
        return arrays.checked_points("`x`", x)

    assert np.isnan(traced(tf.constant([[np.nan]]))).all()


@pytest.mark.parametrize("seed", [0, 1, 2**31, 2**32 - 1, 2**32, 2**63 + 5, 2**64 - 1])
def test_a_seed_is_a_pair_of_halves(seed):
    pair = arrays.stateless_seed(seed)
    assert pair.dtype == tf.int32
    assert pair.shape == (2,)
    high, low = (int(half) % 2**32 for half in pair)
    assert high * 2**32 + low == seed
    assert arrays.stateless_seed(pair) is pair


@pytest.mark.parametrize(
    ("seed", "kind"),
    [(-1, ValueError), (2**64, ValueError), (0.5, TypeError), ("0", TypeError)],
)
def test_what_is_no_seed(seed, kind):
    with pytest.raises(kind, match="`seed` must be"):
        arrays.stateless_seed(seed)


@pytest.mark.parametrize("shape", [(2, 3), (2, 3, 4, 5), (0, 3), (2, 1)], ids=str)
def test_points_are_flattened_as_numpy_does(shape):
    x = RNG.normal(size=shape)
    found = arrays.flat(tf.constant(x))
    np.testing.assert_array_equal(found, x.reshape(shape[0], int(np.prod(shape[1:]))))
    assert found.shape[1] is not None


def test_reconstructions_have_the_dtype_and_the_shape_of_points():
    x = tf.constant(RNG.normal(size=(2, 3)))
    single = arrays.reconstruction(lambda x: tf.cast(x, tf.float32) / 2, x)
    assert single.dtype == tf.float64
    np.testing.assert_allclose(single, x / 2, rtol=1e-6)
    np.testing.assert_array_equal(arrays.reconstruction(lambda x: x.numpy(), x), x)
    with pytest.raises(ValueError, match=r"the shape of x, \(2, 3\). Received: float64 of .*2, 2"):
        arrays.reconstruction(lambda x: x[:, :2], x)
    with pytest.raises(ValueError, match="Received: int64"):
        arrays.reconstruction(lambda x: tf.cast(x, tf.int64), x)


@pytest.mark.parametrize("batch_axes", [1, 2])
def test_compiled_functions_know_the_shape_of_a_point(batch_axes):
    traced = []

    def total(x, factor):
        traced.append(tuple(x.shape))
        return factor * tf.reduce_sum(x)

    compiled = arrays.compiled(total, batch_axes=batch_axes)
    for count in (2, 3, 4, 5):
        for point in ((3,), (2, 2)):
            x = np.full((*[count] * batch_axes, *point), 0.5, np.float32)
            assert compiled(tf.constant(x), 2.0) == x.size
    # One number of points, then any: two tracings for each shape of a point, which are both kept.
    assert sorted(shape[batch_axes:] for shape in traced) == [(2, 2)] * 2 + [(3,)] * 2
    compiled(tf.ones([*[2] * batch_axes, 3], tf.float64), tf.constant(1.0, tf.float64))
    assert len(traced) == 5


def test_compiled_by_xla():
    compiled = arrays.compiled(lambda x: tf.tanh(x) ** 2, jit_compile=True)
    x = RNG.normal(size=(3, 2))
    np.testing.assert_allclose(compiled(tf.constant(x)), np.tanh(x) ** 2, rtol=1e-12)


def test_errors_of_compiled_functions_are_raised_as_they_are():
    def wrong(x):
        raise ValueError("one line")

    with pytest.raises(ValueError, match=r"^one line$"):
        arrays.compiled(wrong)(tf.ones((1, 1)))
