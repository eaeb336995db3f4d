"""Rules of layers that compute a matrix product or a table look-up."""

import string
from collections.abc import Sequence

import keras
import tensorflow as tf

from thesis_tf.gradient_norms.forms import Full, Outer, Rows, with_places
from thesis_tf.gradient_norms.recording import LayerCall
from thesis_tf.gradient_norms.registry import Forms, register


def plain(layer: keras.layers.Layer) -> bool:
    """Returns whether a layer uses its kernel unchanged: not quantized and without LoRA."""
    return getattr(layer, "quantization_mode", None) is None and not getattr(
        layer, "lora_enabled", False
    )


def bias(layer: keras.layers.Layer, gradient: tf.Tensor, *, axis: int = -1) -> Forms:
    """Yields the gradients of a bias along one axis of the outputs."""
    if getattr(layer, "bias", None) is not None:
        rank = gradient.shape.rank
        yield layer.bias, Full(summed_but(gradient, [axis % rank]))


def summed_but(gradients: tf.Tensor, axes: Sequence[int]) -> tf.Tensor:
    """Returns the sum over all axes but the first and those given."""
    others = [axis for axis in range(1, gradients.shape.rank) if axis not in axes]
    return tf.reduce_sum(gradients, axis=others) if others else gradients


@register(keras.layers.Dense, applies=plain)
def dense(call: LayerCall) -> Forms:
    """|x|^2 |d|^2 for one place (Prop 3); `Outer` for several, as on sequences."""
    yield call.layer.kernel, Outer(with_places(call.inputs), with_places(call.gradient))
    yield from bias(call.layer, call.gradient)


def _fits(layer: keras.layers.Layer) -> bool:
    return plain(layer) and _Letters(layer.equation).fit


@register(keras.layers.EinsumDense, applies=_fits)
def einsum_dense(call: LayerCall) -> Forms:
    """Rewrites the equation as a matrix product by assigning its letters to axes."""
    letters = _Letters(call.layer.equation, call.inputs.shape.rank)
    kernel, gradient = call.layer.kernel, call.gradient
    a = letters.matrix(call.inputs, letters.inputs, letters.rows)
    d = letters.matrix(gradient, letters.outputs, letters.columns)
    order = [*letters.groups, *letters.rows, *letters.columns]
    axes = [letters.kernel.index(letter) for letter in order]
    yield kernel, Outer(a, d, shape=kernel.shape, axes=axes)
    if call.layer.bias is not None:
        # The bias has the outputs' axes, of size 1 where it is shared, without leading such axes.
        shape = list(call.layer.bias.shape)
        rank = gradient.shape.rank
        shape = [1] * (rank - 1 - len(shape)) + shape
        kept = [1 + i for i, size in enumerate(shape) if size != 1]
        summed = summed_but(gradient, kept)
        full = [tf.shape(summed)[0], *call.layer.bias.shape]
        yield call.layer.bias, Full(tf.reshape(summed, full))


class _Letters:
    """The letters of an einsum equation "inputs,kernel->outputs", by their roles.

    `fit` tells whether each has one of four roles; a letter may also be summed out or repeated.
    """

    def __init__(self, equation: str, rank: int | None = None) -> None:
        left, self.outputs = equation.replace(" ", "").split("->")
        self.inputs, self.kernel = left.split(",")
        if "..." in left:
            named = len(self.inputs.replace("...", ""))
            some = "".join(c for c in string.ascii_letters if c not in equation)
            some = some[: 1 if rank is None else rank - named]
            self.inputs = self.inputs.replace("...", some)
            self.outputs = self.outputs.replace("...", some)
        given, weights, out = set(self.inputs), set(self.kernel), set(self.outputs)
        self.groups = [c for c in self.kernel if c in given & out]
        self.rows = [c for c in self.kernel if c in given - out]
        self.columns = [c for c in self.kernel if c in out - given]
        self.places = [c for c in self.inputs[1:] if c in out - weights]
        used = [*self.groups, *self.rows, *self.columns]
        self.fit: bool = (
            self.inputs[:1] == self.outputs[:1]  # the examples
            and self.inputs[0] not in weights
            and sorted(used) == sorted(self.kernel)
            and sorted([self.inputs[0], *self.places, *self.groups, *self.rows])
            == sorted(self.inputs)
            and sorted([self.inputs[0], *self.places, *self.groups, *self.columns])
            == sorted(self.outputs)
        )

    def matrix(self, tensor: tf.Tensor, names: str, last: Sequence[str]) -> tf.Tensor:
        """Reshapes a tensor to (batch, *groups, places, product of `last`)."""
        order = [names[0], *self.groups, *self.places, *last]
        sizes = dict(zip(names, tensor.shape, strict=True))
        tensor = tf.transpose(tensor, [names.index(c) for c in order])
        shape = [tf.shape(tensor)[0], *(sizes[c] for c in self.groups)]
        return tf.reshape(tensor, [*shape, _product(sizes, self.places), _product(sizes, last)])


def _product(sizes: dict[str, int | None], letters: Sequence[str]) -> int:
    product = 1
    for letter in letters:
        size = sizes[letter]
        if size is None:
            return -1
        product *= size
    return product


@register(keras.layers.Embedding, captures=(), applies=plain)
def embedding(call: LayerCall) -> Forms:
    """Yields rows of the table; each row has the sum over the places that looked it up."""
    table, ids = call.layer.embeddings, call.inputs
    ids = tf.cast(ids, ids.dtype if ids.dtype.is_integer else tf.int32)
    places = with_places(ids[..., tf.newaxis])[..., 0]  # there may be many axes between, or none
    yield table, Rows(places, with_places(call.gradient), table.shape[0])


@register(keras.layers.PReLU, captures=())
def prelu(call: LayerCall) -> Forms:
    """-alpha relu(-x), with alpha shared along some axes."""
    alpha = call.layer.alpha
    kept = [1 + i for i, size in enumerate(alpha.shape) if size != 1]
    gradients = summed_but(call.gradient * tf.minimum(call.inputs, 0), kept)
    yield alpha, Full(tf.reshape(gradients, [tf.shape(gradients)[0], *alpha.shape]))
