"""Compares the form with its definition, a loop over the kernel's elements in NumPy."""

import itertools

import numpy as np
import pytest
import tensorflow as tf

from thesis_tf.gradient_norms.forms import combined
from thesis_tf.gradient_norms.rules import convolution_form
from thesis_tf.gradient_norms.rules.convolution_form import Convolution

RNG = np.random.default_rng(0)

# The shapes of x and d, kernel size, strides, dilations and groups.
CASES = {
    "one axis": ((3, 6, 4), (3, 4, 5), (3,), (1,), (1,), 1),
    "strided": ((3, 6, 5, 4), (3, 2, 2, 5), (2, 3), (3, 2), (1, 1), 1),
    "dilated": ((3, 7, 6, 4), (3, 3, 4, 2), (3, 2), (1, 1), (2, 2), 1),
    "more pixels than the kernel reaches": ((3, 8, 9, 2), (3, 3, 4, 5), (3, 2), (2, 2), (1, 1), 1),
    "Gram": ((3, 4, 4, 20), (3, 2, 2, 30), (3, 3), (1, 1), (1, 1), 1),
    "three axes": ((3, 3, 4, 3, 2), (3, 2, 2, 2, 3), (2, 2, 2), (1, 2, 1), (1, 1, 1), 1),
    "groups": ((3, 5, 6), (3, 4, 4), (2,), (1,), (1,), 2),
    "groups, two axes": ((3, 5, 5, 4), (3, 2, 2, 6), (3, 2), (2, 2), (1, 1), 2),
}


def made(name):
    x, d, *settings, groups = CASES[name]
    x, d = (tf.constant(RNG.normal(size=size)) for size in (x, d))
    return Convolution(x, d, *settings, groups=groups)


def patches(form):
    """Yields (element, its pixels (batch, places, channels)) for each element of the kernel."""
    x, places = form.x.numpy(), form.d.shape[1:-1]
    for element in itertools.product(*map(range, form.kernel_size)):
        axes = [
            e * dilation + stride * np.arange(length)
            for e, dilation, stride, length in zip(
                element, form.dilations, form.strides, places, strict=True
            )
        ]
        pixels = x[(slice(None), *np.ix_(*axes))]
        yield element, pixels.reshape(len(x), -1, x.shape[-1])


def by_hand(form):
    """Returns the gradients (batch, *kernel_size, channels / groups, filters), group by group."""
    channels, filters = form.x.shape[-1] // form.groups, form.d.shape[-1] // form.groups
    d = form.d.numpy().reshape(len(form.d), -1, form.d.shape[-1])
    found = np.zeros((len(d), *form.kernel_size, channels, d.shape[-1]))
    for element, pixels in patches(form):
        for group in range(form.groups):
            rows = slice(group * channels, (group + 1) * channels)
            columns = slice(group * filters, (group + 1) * filters)
            product = np.einsum("ntc,ntf->ncf", pixels[..., rows], d[..., columns])
            found[(slice(None), *element, slice(None), columns)] = product
    return found


@pytest.mark.parametrize("name", CASES)
def test_gradients_norms_and_inner_products(name):
    form = made(name)
    expected = by_hand(form)
    flat = expected.reshape(3, -1)
    np.testing.assert_allclose(form.dense(), expected, rtol=1e-11, atol=1e-12)
    np.testing.assert_allclose(form.squared_norm(), (flat**2).sum(1), rtol=1e-11)
    direction = RNG.normal(size=expected.shape[1:])
    inner = form.inner(tf.constant(direction))
    np.testing.assert_allclose(inner, flat @ direction.ravel(), rtol=1e-10, atol=1e-11)


@pytest.mark.parametrize("name", [name for name in CASES if "groups" not in name])
def test_all_algorithms_for_norms_agree(name):
    form = made(name)
    expected = (by_hand(form).reshape(3, -1) ** 2).sum(1)
    np.testing.assert_allclose(form._by_pixel_gram(), expected, rtol=1e-11)
    if len(form.kernel_size) == 2 and form.dilations == (1, 1):
        np.testing.assert_allclose(form._one_by_one(), expected, rtol=1e-11)


def test_the_cheapest_algorithm_is_taken(monkeypatch):
    taken = []
    for algorithm in ("_by_pixel_gram", "_one_by_one", "_elements"):
        original = getattr(Convolution, algorithm)

        def noted(self, algorithm=algorithm, original=original):
            taken.append(algorithm)
            return original(self)

        monkeypatch.setattr(Convolution, algorithm, noted)
    monkeypatch.setattr(convolution_form, "_has_accelerator", lambda: False)
    for name in ("Gram", "more pixels than the kernel reaches", "dilated"):
        made(name).squared_norm()
    assert taken == ["_by_pixel_gram", "_one_by_one", "_elements"]
    monkeypatch.setattr(convolution_form, "_has_accelerator", lambda: True)
    made("more pixels than the kernel reaches").squared_norm()
    assert taken[3:] == ["_elements"]


@pytest.mark.parametrize("name", ["strided", "groups"])
def test_sums_of_two(name):
    one, other = made(name), made(name)
    both = by_hand(one) + by_hand(other)
    squares = (both.reshape(3, -1) ** 2).sum(1)
    np.testing.assert_allclose(combined([one, other]).squared_norm(), squares, rtol=1e-11)


def test_images_of_unknown_size():
    form = made("strided")
    specs = [tf.TensorSpec((None, None, None, n), tf.float64) for n in (4, 5)]

    @tf.function(input_signature=specs)
    def measured(x, d):
        traced = Convolution(x, d, form.kernel_size, form.strides, form.dilations)
        return traced.dense(), traced.squared_norm()

    dense, squares = measured(form.x, form.d)
    np.testing.assert_allclose(dense, by_hand(form), rtol=1e-11, atol=1e-12)
    np.testing.assert_allclose(squares, (by_hand(form).reshape(3, -1) ** 2).sum(1), rtol=1e-11)


def test_depthwise_kernels():
    x, d = RNG.normal(size=(3, 6, 5, 2)), RNG.normal(size=(3, 2, 2, 6))
    settings = ((2, 3), (3, 2), (1, 1))
    found = convolution_form.depthwise(tf.constant(x), tf.constant(d), *settings)
    assert found.shape == (3, 2, 3, 2, 3)
    # Each channel has three separate filters, so it is a convolution with one group per channel.
    grouped = by_hand(Convolution(tf.constant(x), tf.constant(d), *settings, groups=2))
    expected = grouped.reshape(3, 2, 3, 1, 2, 3)[:, :, :, 0]
    np.testing.assert_allclose(found, expected, rtol=1e-11, atol=1e-12)
