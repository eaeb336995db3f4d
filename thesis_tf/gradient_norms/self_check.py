"""Compares per-example gradient norms with ordinary gradients of a few single examples."""

import dataclasses

import keras
import numpy as np
import tensorflow as tf

from thesis_tf._core.types import Array, Structure
from thesis_tf._keras.objective import Objective
from thesis_tf.gradient_norms import single_examples
from thesis_tf.gradient_norms.recording import exits

FIRST, LARGEST = 2, 3
# Relative tolerance of a squared norm. Rounding accumulates over layers; wrong rules exceed this.
TOLERANCE = {tf.float64: 1e-8, tf.float32: 1e-3, tf.bfloat16: 0.1, tf.float16: 0.1}
# The spacing of numbers near 1.
UNIT = {tf.float64: 2.0**-52, tf.float32: 2.0**-23, tf.bfloat16: 2.0**-7, tf.float16: 2.0**-10}
# Absolute tolerance for each variable, as a fraction of the whole squared norm.
SMALL = 1e-3
# Rounding errors add up over layers: the factor by which they may exceed those of one operation.
SAFETY = 16


@dataclasses.dataclass(frozen=True)
class Plain:
    """Squared norms of ordinary gradients, and how well they are determined.

    Attributes:
        squares: (examples, variables) float64.
        rounding: likewise; how far they may be off, and other ways to compute them as well.
    """

    squares: Array
    rounding: Array


def chosen(losses: Array) -> Array:
    """Returns the numbers of the examples to compare: the first, and those of the largest losses.

    A rule that is wrong may be right for most examples, and gradients of well-fitted examples are
    rounding errors.
    """
    finite = np.flatnonzero(np.isfinite(losses))
    largest = finite[np.argsort(losses[finite], kind="stable")[::-1][:LARGEST]]
    return np.unique([*finite[:FIRST], *largest]).astype(int)


class PlainSquares:
    """Computes ordinary gradients of single examples, and estimates their rounding errors.

    A computed gradient is about that of inputs and parameters which are off by one rounding, so two
    such changes are tried: a sum whose terms cancel shows that its digits are lost. Besides, the
    gradient of the loss with respect to the model's outputs has rounding errors of its own, which
    are as large for a well-fitted example, whose gradient is almost 0, as for any other.

    Args:
        objective: the `Objective`.
        regularization: whether losses include the regularizers.
        training: whether the model runs in training mode.
    """

    def __init__(
        self, objective: Objective, *, regularization: bool, training: bool = False
    ) -> None:
        self._objective, self._regularization = objective, regularization
        self._training = training
        self._unit = max(UNIT[dtype] for dtype in _dtypes(objective))
        self._traced = tf.function(self._squares, autograph=False)

    def __call__(
        self, x: Structure, y: Structure, *, divisors: list[tf.Tensor] | None = None
    ) -> Plain:
        """Returns the `Plain` of a batch, one example after the other.

        Args:
            x, y: the batch.
            divisors: as for `Objective.example_losses`.
        """
        squares, rounding = [], []
        for i in range(len(keras.tree.flatten(x)[0])):
            one = [keras.tree.map_structure(lambda t: t[i : i + 1], part) for part in (x, y)]  # noqa: B023
            found, scales = self._at(one, divisors, 0.0, 0)
            moved = [self._at(one, divisors, self._unit, seed)[0] for seed in (1, 2)]
            error = SAFETY * self._unit * np.sqrt(scales)
            squares.append(found)
            rounding.append(
                SAFETY * np.max([abs(other - found) for other in moved], axis=0)
                + 2 * np.sqrt(found) * error
                + error**2
            )
        return Plain(np.stack(squares), np.stack(rounding))

    def _at(
        self, one: list[Structure], divisors: list[tf.Tensor] | None, relative: float, seed: int
    ) -> tuple[Array, Array]:
        change = tf.constant(relative, tf.float64), tf.constant([seed, 0])
        found = self._traced(*one, divisors, *change)
        squares, scales = (np.asarray(part, np.float64) for part in found)
        return squares, scales

    def _squares(
        self,
        x: Structure,
        y: Structure,
        divisors: list[tf.Tensor] | None,
        relative: tf.Tensor,
        seed: tf.Tensor,
    ) -> tuple[list[tf.Tensor], list[tf.Tensor]]:
        """Returns (squared norms, those of the gradients of outputs that the loss may be off by).

        Args:
            x, y: a batch of one example.
            divisors: as for `Objective.example_losses`.
            relative: by how much inputs and parameters change, with random signs.
            seed: the seed of the signs.
        """
        values, constants = self._objective.read()
        values = [_moved(value, relative, seed) for value in values]
        x = keras.tree.map_structure(lambda t: _moved(t, relative, seed), x)
        with tf.GradientTape(persistent=True, watch_accessed_variables=False) as tape:
            tape.watch(values)
            # Two copies, so that no product has an axis of size 1.
            loss, outputs = single_examples.loss_of_one(
                self._objective,
                values,
                constants,
                x,
                y,
                divisors=divisors,
                regularization=self._regularization,
                training=self._training,
                copies=2,
            )
            size = tf.constant(1, tf.float64)
            for tensor in [*exits(outputs), *keras.tree.flatten(y)]:
                if tensor.dtype.is_floating:
                    size = tf.maximum(size, tf.cast(tf.reduce_max(abs(tensor)), tf.float64))
            sums = [tf.reduce_sum(t[0] * _signs(t[0], seed)) for t in exits(outputs)]
            signed = tf.add_n([tf.cast(s, tf.float64) for s in sums])
        gradients, of_outputs = (
            tape.gradient(target, values, unconnected_gradients="zero") for target in (loss, signed)
        )
        squares, scales = (
            single_examples.squared_norms(several, tf.float64)
            for several in (gradients, of_outputs)
        )
        return squares, [scale * size**2 for scale in scales]


def compare(found: Array, plain: Plain, objective: Objective, *, examples: Array) -> bool:
    """Raises if squared norms differ from those of ordinary gradients by more than rounding.

    Args:
        found: (examples, variables) float64, the squared norms to check.
        plain: those of ordinary gradients.
        objective: the `Objective` of the gradients.
        examples: the examples' numbers in their batch.

    Returns:
        Whether they could be compared: False if no ordinary gradient is finite.

    Raises:
        ValueError: a variable's norm is wrong.
    """
    expected = plain.squares
    known = np.isfinite(expected).all(axis=1, keepdims=True)
    tolerance = max(TOLERANCE[dtype] for dtype in _dtypes(objective))
    allowed = tolerance * (expected + SMALL * expected.sum(axis=1, keepdims=True))
    allowed += np.nan_to_num(plain.rounding, nan=np.inf)
    wrong = known & ~(np.abs(found - expected) <= allowed)
    if wrong.any():
        row, number = np.argwhere(wrong)[0]
        variable: keras.Variable = objective.variables[number]
        raise ValueError(
            f"The squared gradient norm of {variable.path} for example {examples[row]} should be"
            f" {expected[row, number]:.6g}, and came out as {found[row, number]:.6g}. Either an"
            " example's output depends on other examples of its batch, so that there are no"
            " per-example gradients, or the layer's rule is wrong (a custom rule, or a rule for"
            " another version of Keras). Correct the layer or its rule."
        )
    return bool(known.any())


def _dtypes(objective: Objective) -> set[tf.DType]:
    """Returns the floating dtypes in which layers of the model compute."""
    dtypes = {tf.as_dtype(layer.compute_dtype) for layer in objective.model._flatten_layers()}
    return {dtype for dtype in dtypes if dtype in UNIT}


def _moved(tensor: tf.Tensor, relative: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    if not tensor.dtype.is_floating:
        return tensor
    return tensor * (1 + tf.cast(relative, tensor.dtype) * _signs(tensor, seed))


def _signs(tensor: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """Returns random numbers of 1 and -1, as many as a tensor has elements."""
    bits = tf.random.stateless_uniform(tf.shape(tensor), seed, 0, 2, tf.int32)
    return tf.cast(2 * bits - 1, tensor.dtype)
