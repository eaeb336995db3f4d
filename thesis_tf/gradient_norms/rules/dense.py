"""Rules of layers whose weights enter by a matrix product or a look-up."""

import string

import keras
import tensorflow as tf

from thesis_tf.gradient_norms.forms import Full, Outer, Rows, with_places
from thesis_tf.gradient_norms.registry import register


def plain(layer):
    """Whether a layer uses its kernel as it is: not quantised and without LoRA."""
    return getattr(layer, "quantization_mode", None) is None and not getattr(
        layer, "lora_enabled", False
    )


def bias(layer, gradient, axis=-1):
    """Yields the gradients of a bias along one axis of what was put out."""
    if getattr(layer, "bias", None) is not None:
        rank = gradient.shape.rank
        yield layer.bias, Full(summed_but(gradient, [axis % rank]))


def summed_but(gradients, axes):
    """Sums over all axes but the first and those given."""
    others = [axis for axis in range(1, gradients.shape.rank) if axis not in axes]
    return tf.reduce_sum(gradients, axis=others) if others else gradients


@register(keras.layers.Dense, applies=plain)
def dense(call):
    """Prop 3: |x|^2 |d|^2 for one place; `Outer` for several, as in time-distributed use."""
    yield call.layer.kernel, Outer(with_places(call.inputs), with_places(call.gradient))
    yield from bias(call.layer, call.gradient)


@register(
    keras.layers.EinsumDense, applies=lambda layer: plain(layer) and _Letters(layer.equation).fit
)
def einsum_dense(call):
    """Sorts the letters of the equation into groups, places, rows and columns."""
    letters = _Letters(call.layer.equation, call.inputs.shape.rank)
    kernel, gradient = call.layer.kernel, call.gradient
    a = letters.matrix(call.inputs, letters.inputs, letters.rows)
    d = letters.matrix(gradient, letters.outputs, letters.columns)
    order = [*letters.groups, *letters.rows, *letters.columns]
    axes = [letters.kernel.index(letter) for letter in order]
    yield kernel, Outer(a, d, kernel.shape, axes)
    if call.layer.bias is not None:
        # The bias has the outputs' axes, but 1 where its letter is left out, and no leading ones.
        shape = list(call.layer.bias.shape)
        rank = gradient.shape.rank
        shape = [1] * (rank - 1 - len(shape)) + shape
        kept = [1 + i for i, size in enumerate(shape) if size != 1]
        summed = summed_but(gradient, kept)
        full = [tf.shape(summed)[0], *call.layer.bias.shape]
        yield call.layer.bias, Full(tf.reshape(summed, full))


class _Letters:
    """The letters of an einsum equation "inputs,kernel->outputs", by what they do.

    `fit` is whether each does one of four things; a letter may also be summed out or repeated.
    """

    def __init__(self, equation, rank=None):
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
        self.fit = (
            self.inputs[:1] == self.outputs[:1]  # the examples
            and self.inputs[0] not in weights
            and sorted(used) == sorted(self.kernel)
            and sorted([self.inputs[0], *self.places, *self.groups, *self.rows])
            == sorted(self.inputs)
            and sorted([self.inputs[0], *self.places, *self.groups, *self.columns])
            == sorted(self.outputs)
        )

    def matrix(self, tensor, names, last):
        """Arranges a tensor as (batch, *groups, places, product of `last`)."""
        order = [names[0], *self.groups, *self.places, *last]
        sizes = dict(zip(names, tensor.shape, strict=True))
        tensor = tf.transpose(tensor, [names.index(c) for c in order])
        shape = [tf.shape(tensor)[0], *(sizes[c] for c in self.groups)]
        return tf.reshape(tensor, [*shape, _product(sizes, self.places), _product(sizes, last)])


def _product(sizes, letters):
    product = 1
    for letter in letters:
        if sizes[letter] is None:
            return -1
        product *= sizes[letter]
    return product


@register(keras.layers.Embedding, captures=(), applies=plain)
def embedding(call):
    """Each place adds to the row that it looked up."""
    table, ids = call.layer.embeddings, call.inputs
    ids = tf.cast(ids, ids.dtype if ids.dtype.is_integer else tf.int32)
    places = with_places(ids[..., tf.newaxis])[..., 0]  # an example may have many axes, or none
    yield table, Rows(places, with_places(call.gradient), table.shape[0])


@register(keras.layers.PReLU, captures=())
def prelu(call):
    """-alpha relu(-x), with alpha shared along some axes."""
    alpha = call.layer.alpha
    kept = [1 + i for i, size in enumerate(alpha.shape) if size != 1]
    gradients = summed_but(call.gradient * tf.minimum(call.inputs, 0), kept)
    yield alpha, Full(tf.reshape(gradients, [tf.shape(gradients)[0], *alpha.shape]))
