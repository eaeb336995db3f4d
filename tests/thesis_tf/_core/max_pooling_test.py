import itertools

import numpy as np
import pytest
import tensorflow as tf

from thesis_tf._core import max_pooling

OPTIMIZED_GRAPHS = True

REPEATS = 200


def at_maxima(image, values, size, strides, padding):
    """The values at the first maximum of each window, one window after the other."""
    pads, counts = [], []
    for length, k, step in zip(image.shape[1:-1], size, strides, strict=True):
        if padding == "SAME":
            counts.append(-(-length // step))
            total = max((counts[-1] - 1) * step + k - length, 0)
            pads.append((total // 2, total - total // 2))
        else:
            counts.append((length - k) // step + 1)
            pads.append((0, 0))
    image = np.pad(image, [(0, 0), *pads, (0, 0)], constant_values=-np.inf)
    values = np.pad(values, [(0, 0), *pads, (0, 0)])
    result = np.zeros((len(image), *counts, image.shape[-1]), image.dtype)
    for place in np.ndindex(*counts):
        window = tuple(
            slice(i * step, i * step + k) for i, step, k in zip(place, strides, size, strict=True)
        )
        pixels, found = (
            a[(slice(None), *window)].reshape(len(a), -1, a.shape[-1]) for a in (image, values)
        )
        chosen = pixels.argmax(axis=1)[:, np.newaxis]
        result[(slice(None), *place)] = np.take_along_axis(found, chosen, axis=1)[:, 0]
    return result


def derivatives(pool):
    """Two functions (x, v) -> J v of a pooling, by nested tapes and by an accumulator.

    The factors of 2 make v a temporary, whose memory TensorFlow would take.
    """

    def two_tapes(x, v):
        upstream = tf.zeros_like(pool(x))
        with tf.GradientTape() as outer:
            outer.watch(upstream)
            with tf.GradientTape() as inner:
                inner.watch(x)
                pooled = pool(x)
            back = inner.gradient(pooled, x, upstream)
        return outer.gradient(back, upstream, v * 2.0) / 2.0

    def accumulator(x, v):
        with tf.autodiff.ForwardAccumulator(x, v * 2.0) as forward:
            pooled = pool(x)
        return forward.jvp(pooled) / 2.0

    return two_tapes, accumulator


CASES = [
    (rank, size, step, padding)
    for rank, size, step, padding in itertools.product(
        (1, 2, 3), (1, 2, 3), (1, 2), ("SAME", "VALID")
    )
    if step <= size
]


@pytest.mark.parametrize(("rank", "size", "step", "padding"), CASES)
def test_second_derivatives_are_the_same_each_time(rank, size, step, padding):
    rng = np.random.default_rng(0)
    dtype = "float32" if rank == 3 else "float64"  # TensorFlow has no 3D pooling in float64
    x, v = rng.normal(size=(2, 2, *(6, 5, 4)[:rank], 3)).astype(dtype)
    expected = at_maxima(x, v, (size,) * rank, (step,) * rank, padding)

    def pool(image):
        return tf.nn.pool(image, (size,) * rank, "MAX", strides=(step,) * rank, padding=padding)

    for function in derivatives(pool):
        # Values are chosen, and multiplied by 2 and 1/2: no rounding.
        np.testing.assert_array_equal(function(tf.constant(x), tf.constant(v)), expected)
        compiled = tf.function(function, autograph=False)
        for _ in range(REPEATS if expected.shape == x.shape else 2):
            np.testing.assert_array_equal(compiled(tf.constant(x), tf.constant(v)), expected)


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_sizes_that_are_not_known_when_traced(rank):
    rng = np.random.default_rng(0)
    x, v = rng.normal(size=(2, 2, *(6, 5, 4)[:rank], 3)).astype("float32")
    for size, step in ((3, 1), (3, 2), (1, 1)):
        expected = at_maxima(x, v, (size,) * rank, (step,) * rank, "SAME")

        def pool(image, size=size, step=step):
            return tf.nn.pool(image, (size,) * rank, "MAX", strides=(step,) * rank, padding="SAME")

        spec = tf.TensorSpec([None] * (rank + 1) + [3], x.dtype)
        for function in derivatives(pool):
            compiled = tf.function(function, [spec, spec], autograph=False)
            for _ in range(REPEATS // 4):
                np.testing.assert_array_equal(compiled(x, v), expected)


def test_explicit_padding_which_tensorflow_refuses():
    rng = np.random.default_rng(0)
    x, v = rng.normal(size=(2, 2, 6, 5, 3))
    pads = [[0, 0], [1, 1], [2, 0], [0, 0]]
    expected = at_maxima(
        np.pad(x, pads, constant_values=-np.inf), np.pad(v, pads), (3, 3), (1, 1), "VALID"
    )
    for function in derivatives(lambda image: tf.nn.max_pool2d(image, 3, 1, pads)):
        compiled = tf.function(function, autograph=False)
        np.testing.assert_array_equal(compiled(tf.constant(x), tf.constant(v)), expected)


def test_third_derivatives_exist():
    # sum(pool(x)^3) / 6, whose third derivative along v is sum(pool'(x) v)^3.
    x = tf.constant(np.random.default_rng(0).normal(size=(1, 4, 4, 1)))
    v = tf.constant(np.random.default_rng(1).normal(size=(1, 4, 4, 1)))

    @tf.function(autograph=False)
    def third(t):
        with tf.GradientTape() as a:
            a.watch(t)
            with tf.GradientTape() as b:
                b.watch(t)
                with tf.GradientTape() as c:
                    c.watch(t)
                    total = tf.reduce_sum(tf.nn.max_pool2d(x + t * v, 2, 1, "SAME") ** 3) / 6
                first = c.gradient(total, t)
            second = b.gradient(first, t)
        return a.gradient(second, t)

    along = at_maxima(x.numpy(), v.numpy(), (2, 2), (1, 1), "SAME")
    np.testing.assert_allclose(third(tf.zeros((), x.dtype)), (along**3).sum(), rtol=1e-12)


@pytest.mark.parametrize(
    ("size", "padding", "expected"),
    [(2, "SAME", True), (1, "SAME", True), (1, "VALID", True), (2, "VALID", False)],
)
def test_what_would_overwrite_its_input_is_found(size, padding, expected):
    with tf.Graph().as_default():
        image = tf.zeros((1, 6, 6, 1))
        result = tf.raw_ops.MaxPoolGradGrad(
            orig_input=image,
            orig_output=tf.nn.max_pool2d(image, size, 1, padding),
            grad=image + 1,
            ksize=[1, size, size, 1],
            strides=[1, 1, 1, 1],
            padding=padding,
        )
        assert max_pooling.overwrites(result.op) is expected
        assert not max_pooling.overwrites(image.op)
