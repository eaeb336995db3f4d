"""The per-example gradients of a convolution's kernel, and three algorithms for their norms."""

import itertools
import math
from collections.abc import Iterator, Sequence

import tensorflow as tf

from thesis_tf.gradient_norms.forms import Form

# On a CPU, with fewer channels than this, strided slices of pixels cost more than the products: for
# the 7 x 7 convolution of a ResNet they take 17.8 ms per image; one image at a time takes 2.0 ms.
FEW_CHANNELS = 16
# The cost of one addition, in multiply-adds of a matrix product; it is limited by memory bandwidth.
ADDITION = 16


class Convolution(Form):
    """Gradients sum_t x_(t s + k e) d_t' for each element k of a kernel, at stride s, dilation e.

    Args:
        x: the padded inputs, (batch, *pixels, channels).
        d: the gradients with respect to the outputs, (batch, *places, filters).
        kernel_size: the kernel's spatial shape.
        strides, dilations: one number for each spatial axis.
        groups: the number of groups of channels and filters.

    The variable's shape is (*kernel_size, channels / groups, filters).
    """

    def __init__(
        self,
        x: tf.Tensor,
        d: tf.Tensor,
        kernel_size: Sequence[int],
        strides: Sequence[int],
        dilations: Sequence[int],
        *,
        groups: int = 1,
    ) -> None:
        self.x, self.d, self.groups = x, d, groups
        self.kernel_size, self.strides, self.dilations = kernel_size, strides, dilations

    def squared_norm(self) -> tf.Tensor:
        """Uses the algorithm with the fewest multiplications and additions."""
        pixels, places = self.x.shape[1:-1], self.d.shape[1:-1]
        known = pixels.is_fully_defined() and places.is_fully_defined()
        if self.groups == 1 and known and self._gram_cost() < self._forming_cost():
            return self._by_pixel_gram()
        if self._slices_are_scattered():
            return self._one_by_one()
        # One element of the kernel at a time, so that whole gradients are never in memory.
        return tf.add_n(
            [
                tf.reduce_sum(tf.square(g), axis=list(range(1, g.shape.rank)))
                for g in self._elements()
            ]
        )

    def dense(self) -> tf.Tensor:
        """Returns the gradients, (batch, *kernel_size, channels / groups, filters)."""
        elements = []
        for element in self._elements():
            if self.groups > 1:  # (batch, groups, channels a group, filters a group)
                element = tf.transpose(element, [0, 2, 1, 3])
                element = tf.reshape(element, [tf.shape(element)[0], element.shape[1], -1])
            elements.append(element)
        stacked = tf.stack(elements, axis=1)
        shape = [*self.kernel_size, self.x.shape[-1] // self.groups, self.d.shape[-1]]
        return tf.reshape(stacked, [tf.shape(stacked)[0], *shape])

    def inner(self, direction: tf.Tensor) -> tf.Tensor:
        """Convolves with the direction and multiplies by d."""
        if self.groups > 1:
            return super().inner(direction)
        moved = tf.nn.convolution(self.x, direction, self.strides, "VALID", None, self.dilations)
        # The padded pixels may be more than the last place of d needs.
        moved = moved[tuple(slice(n) for n in (None, *self.d.shape[1:-1]))]
        return tf.reduce_sum(moved * self.d, axis=list(range(1, self.d.shape.rank)))

    def _forming_cost(self) -> int:
        channels, filters = self.x.shape[-1], self.d.shape[-1]
        return math.prod(self.d.shape[1:-1]) * math.prod(self.kernel_size) * channels * filters

    def _gram_cost(self) -> int:
        pixels, places = math.prod(self.x.shape[1:-1]), math.prod(self.d.shape[1:-1])
        products = pixels**2 * self.x.shape[-1] + places**2 * self.d.shape[-1]
        return products + ADDITION * self._shifted_sizes()

    def _shifted_sizes(self) -> int:
        """Returns the number of additions of `_by_pixel_gram` after the products."""
        sizes, total = list(self.x.shape[1:-1]), 0
        for axis, length in enumerate(self.d.shape[1:-1]):
            sizes[axis] = length
            total += self.kernel_size[axis] * math.prod(sizes) ** 2
        return total

    def _by_pixel_gram(self) -> tf.Tensor:
        """Computes the Gram matrix of patches as a sum of shifted Gram matrices of pixels.

        The shifts along one spatial axis are summed before those along the next.
        """
        pixels = self.x.shape[1:-1].as_list()
        rank, batch = len(pixels), tf.shape(self.x)[0]
        x = tf.reshape(self.x, [batch, math.prod(pixels), self.x.shape[-1]])
        gram = tf.reshape(tf.matmul(x, x, transpose_b=True), [batch, *pixels, *pixels])
        for axis, length in enumerate(self.d.shape[1:-1]):
            shifted = []
            for element in range(self.kernel_size[axis]):
                part = self._part(axis, element, length)
                slices = [slice(None)] * (1 + 2 * rank)
                slices[1 + axis] = slices[1 + rank + axis] = part
                shifted.append(gram[tuple(slices)])
            gram = tf.add_n(shifted)
        places = math.prod(self.d.shape[1:-1])
        d = tf.reshape(self.d, [batch, places, self.d.shape[-1]])
        gram = tf.reshape(gram, [batch, places, places])
        return tf.reduce_sum(gram * tf.matmul(d, d, transpose_b=True), axis=[1, 2])

    def _part(self, axis: int, element: int, length: int | tf.Tensor) -> slice:
        start, stride = element * self.dilations[axis], self.strides[axis]
        return slice(start, start + (length - 1) * stride + 1, stride)

    def _shifted(self) -> Iterator[tf.Tensor]:
        """Yields, for each element of the kernel, its pixels: (batch, *places, channels)."""
        lengths = [
            n if n is not None else tf.shape(self.d)[1 + i]
            for i, n in enumerate(self.d.shape[1:-1].as_list())
        ]
        for element in itertools.product(*map(range, self.kernel_size)):
            parts = [self._part(axis, e, lengths[axis]) for axis, e in enumerate(element)]
            yield self.x[(slice(None), *parts)]

    def _flat(self, tensor: tf.Tensor) -> tf.Tensor:
        """Reshapes to (batch, places, channels), or (batch, groups, places, channels / groups)."""
        places = tensor.shape[1:-1]
        count = math.prod(places) if places.is_fully_defined() else -1
        if self.groups == 1:
            return tf.reshape(tensor, [tf.shape(tensor)[0], count, tensor.shape[-1]])
        shape = [tf.shape(tensor)[0], count, self.groups, tensor.shape[-1] // self.groups]
        return tf.transpose(tf.reshape(tensor, shape), [0, 2, 1, 3])

    def _elements(self) -> Iterator[tf.Tensor]:
        """Yields the gradients with respect to each element of the kernel."""
        d = self._flat(self.d)
        for pixels in self._shifted():
            yield tf.matmul(self._flat(pixels), d, transpose_a=True)

    def _slices_are_scattered(self) -> bool:
        if self.groups > 1 or len(self.kernel_size) != 2 or _has_accelerator():
            return False
        return self.x.shape[-1] < FEW_CHANNELS and max(self.strides) > 1

    def _one_by_one(self) -> tf.Tensor:
        """Computes the gradients one example after the other."""
        shape = [*self.kernel_size, self.x.shape[-1], self.d.shape[-1]]

        def one(example: tuple[tf.Tensor, tf.Tensor]) -> tf.Tensor:
            x, d = example
            # With pixels past those of the last place, the operation would infer other padding.
            gradient = tf.raw_ops.Conv2DBackpropFilter(
                input=x[tf.newaxis, : self._reach(0), : self._reach(1)],
                filter_sizes=shape,
                out_backprop=d[tf.newaxis],
                strides=[1, *self.strides, 1],
                padding="VALID",
                dilations=[1, *self.dilations, 1],
            )
            return tf.reduce_sum(tf.square(gradient))

        return tf.map_fn(one, (self.x, self.d), fn_output_signature=self.d.dtype)

    def _reach(self, axis: int) -> int | tf.Tensor:
        """Returns the number of pixels that the places cover along an axis."""
        places = self.d.shape[1 + axis]
        if places is None:
            places = tf.shape(self.d)[1 + axis]
        reach = (self.kernel_size[axis] - 1) * self.dilations[axis] + 1
        return (places - 1) * self.strides[axis] + reach


def depthwise(
    x: tf.Tensor,
    d: tf.Tensor,
    kernel_size: Sequence[int],
    strides: Sequence[int],
    dilations: Sequence[int],
) -> tf.Tensor:
    """Returns the gradients of a depthwise kernel: (batch, *kernel_size, channels, multiplier).

    The arguments are the same as for `Convolution`, with channels * multiplier filters.
    """
    one = Convolution(x, d, kernel_size, strides, dilations)
    channels = x.shape[-1]
    shape = [tf.shape(d)[0], *_sizes(d)[1:-1], channels, d.shape[-1] // channels]
    d = tf.reshape(d, shape)
    spatial = list(range(1, 1 + len(kernel_size)))
    elements = [tf.reduce_sum(p[..., tf.newaxis] * d, axis=spatial) for p in one._shifted()]
    stacked = tf.stack(elements, axis=1)
    return tf.reshape(stacked, [tf.shape(d)[0], *kernel_size, channels, d.shape[-1]])


def _has_accelerator() -> bool:
    return any(device.device_type != "CPU" for device in tf.config.list_logical_devices())


def _sizes(tensor: tf.Tensor) -> list[int | tf.Tensor]:
    shape = tf.shape(tensor)
    return [n if n is not None else shape[i] for i, n in enumerate(tensor.shape.as_list())]
