"""Forms of a variable's per-example gradients, with which norms are computed without gradients.

A layer's rule yields the form of each variable's gradients. The gradients of several calls of one
layer, or of several layers that share a variable, are added: `combined` joins their forms, since
the norm of a sum is not the sum of norms.
"""

import abc
import math
from collections.abc import Sequence
from typing import Self

import tensorflow as tf


class Form(abc.ABC):
    """The per-example gradients of one variable for a batch, in a compact form."""

    @abc.abstractmethod
    def squared_norm(self) -> tf.Tensor:
        """Returns the squared norm of each example's gradient: (batch,)."""

    @abc.abstractmethod
    def dense(self) -> tf.Tensor:
        """Returns the gradients themselves: (batch, *shape of the variable)."""

    def inner(self, direction: tf.Tensor) -> tf.Tensor:
        """Returns the inner product of each gradient with a tensor of the variable's shape."""
        return _sum(self.dense() * direction[tf.newaxis])

    @classmethod
    def joined(cls, forms: Sequence[Self]) -> Self | None:
        """Returns the sum of forms of this class as this form, or None if this is impossible."""
        return None


def combined(forms: Sequence[Form]) -> Form:
    """Returns the form of the sum of one or more forms."""
    if len(forms) == 1:
        return forms[0]
    if len({type(form) for form in forms}) == 1:
        joined = type(forms[0]).joined(forms)
        if joined is not None:
            return joined
    return Full(tf.add_n([form.dense() for form in forms]))


class Full(Form):
    """Explicit gradients: (batch, *shape of the variable)."""

    def __init__(self, gradients: tf.Tensor) -> None:
        self.gradients = gradients

    def squared_norm(self) -> tf.Tensor:
        """Returns the sum of squares."""
        return _sum(tf.square(self.gradients))

    def dense(self) -> tf.Tensor:
        """Returns the gradients."""
        return self.gradients


class Outer(Form):
    """Sums over places t of outer products a_t d_t' (Prop 3, where there is one place).

    Args:
        a: the layer's inputs, (batch, ..., places, rows).
        d: the gradients with respect to its outputs, (batch, ..., places, columns).
        shape: the variable's shape, if it is not (rows, columns).
        axes: the variable's axes in the order (..., rows, columns), if they are in another one.
    """

    def __init__(
        self,
        a: tf.Tensor,
        d: tf.Tensor,
        *,
        shape: Sequence[int] | None = None,
        axes: Sequence[int] | None = None,
    ) -> None:
        self.a, self.d = a, d
        self._shape = list(shape or (a.shape[-1], d.shape[-1]))
        self._axes = list(axes or range(len(self._shape)))

    def squared_norm(self) -> tf.Tensor:
        """For one place, multiplies two norms; otherwise uses Gram matrices or gradients."""
        places, rows, columns = self.a.shape[-2], self.a.shape[-1], self.d.shape[-1]
        if places == 1 and self.a.shape.rank == 3:
            return _sum(tf.square(self.a)) * _sum(tf.square(self.d))
        if places is not None:
            return (
                self._by_grams() if places * (rows + columns) < rows * columns else self._formed()
            )
        places = tf.shape(self.a)[-2]
        return tf.cond(places * (rows + columns) < rows * columns, self._by_grams, self._formed)

    def _by_grams(self) -> tf.Tensor:
        # |sum_t a_t d_t'|^2 = sum_st (a_s . a_t) (d_s . d_t)
        return _sum(_gram(self.a) * _gram(self.d))

    def _formed(self) -> tf.Tensor:
        return _sum(tf.square(tf.matmul(self.a, self.d, transpose_a=True)))

    def dense(self) -> tf.Tensor:
        """Computes the products, in the order of the variable's axes."""
        product = tf.matmul(self.a, self.d, transpose_a=True)
        permuted = [self._shape[axis] for axis in self._axes]
        back = [1 + self._axes.index(axis) for axis in range(len(self._axes))]
        product = tf.reshape(product, [tf.shape(product)[0], *permuted])
        return tf.transpose(product, [0, *back])

    def inner(self, direction: tf.Tensor) -> tf.Tensor:
        """Sums d_t' (D' a_t) over places."""
        direction = tf.transpose(direction, self._axes)
        groups = [n for n in self.a.shape[1:-2]]
        direction = tf.reshape(direction, [*groups, self.a.shape[-1], self.d.shape[-1]])
        return _sum(tf.matmul(self.a, direction) * self.d)

    @classmethod
    def joined(cls, forms: Sequence[Self]) -> Self | None:
        """Concatenates the places of all forms."""
        layouts = {(tuple(f._shape), tuple(f._axes), f.a.shape.rank) for f in forms}
        if len(layouts) > 1:
            return None
        a = tf.concat([form.a for form in forms], axis=-2)
        d = tf.concat([form.d for form in forms], axis=-2)
        return cls(a, d, shape=forms[0]._shape, axes=forms[0]._axes)


class Rows(Form):
    """Gradients of a table that are zero except in some rows, such as those of an embedding.

    Args:
        ids: the rows, integers (batch, places).
        d: the gradient that each place adds to its row, (batch, places, columns).
        rows: the number of rows of the table.
    """

    def __init__(self, ids: tf.Tensor, d: tf.Tensor, rows: int) -> None:
        self.ids, self.d, self.rows = ids, d, rows

    def squared_norm(self) -> tf.Tensor:
        """Sorts by row and sums the gradients of each row; shapes don't depend on values."""
        if self.ids.shape[1] == 1:
            return _sum(tf.square(self.d))
        batch, places = tf.shape(self.ids)[0], tf.shape(self.ids)[1]
        order = tf.argsort(self.ids, axis=1)
        ids = tf.gather(self.ids, order, batch_dims=1)
        d = tf.gather(self.d, order, batch_dims=1)
        starts = tf.cast(ids[:, 1:] != ids[:, :-1], tf.int32)
        segments = tf.pad(tf.cumsum(starts, axis=1), [[0, 0], [1, 0]])
        segments += tf.range(batch)[:, tf.newaxis] * places
        sums = tf.math.unsorted_segment_sum(
            tf.reshape(d, [-1, d.shape[-1]]), tf.reshape(segments, [-1]), batch * places
        )
        return _sum(tf.reshape(tf.square(sums), [batch, places, d.shape[-1]]))

    def dense(self) -> tf.Tensor:
        """Scatters the rows into whole tables."""
        batch = tf.shape(self.ids)[0]
        places = self.ids + tf.range(batch, dtype=self.ids.dtype)[:, tf.newaxis] * self.rows
        table = tf.math.unsorted_segment_sum(
            tf.reshape(self.d, [-1, self.d.shape[-1]]),
            tf.reshape(places, [-1]),
            batch * self.rows,
        )
        return tf.reshape(table, [batch, self.rows, self.d.shape[-1]])

    def inner(self, direction: tf.Tensor) -> tf.Tensor:
        """Looks up the rows of the direction."""
        return _sum(tf.gather(direction, self.ids) * self.d)

    @classmethod
    def joined(cls, forms: Sequence[Self]) -> Self | None:
        """Concatenates the places of all forms."""
        ids = tf.concat([form.ids for form in forms], axis=1)
        return cls(ids, tf.concat([form.d for form in forms], axis=1), forms[0].rows)


def with_places(x: tf.Tensor) -> tf.Tensor:
    """Reshapes (batch, ..., channels) to (batch, places, channels)."""
    channels, between = x.shape[-1], x.shape[1:-1]
    places = math.prod(between) if between.is_fully_defined() else -1
    return tf.reshape(x, [tf.shape(x)[0], places, channels])


def _gram(x: tf.Tensor) -> tf.Tensor:
    return tf.matmul(x, x, transpose_b=True)


def _sum(x: tf.Tensor) -> tf.Tensor:
    """Returns the sum over all axes but the first."""
    return tf.reduce_sum(x, axis=list(range(1, x.shape.rank)))
