"""The loss of each example of a batch, as `compile` and `evaluate` define it."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from thesis_tf._core import checks
from thesis_tf._core.types import Loss, Structure
from thesis_tf._keras.loss.structure import LossOfOutput, losses_of_outputs


class WeightedLabels(NamedTuple):
    """Labels with the weights of the examples, which pass as labels wherever they are batched.

    Attributes:
        y: the labels.
        sample_weight: weights (n,), or of the losses' shape (n, ...); for several outputs also one
            of each, in the structure of `y`.
    """

    y: Structure
    sample_weight: Structure


def with_weights(parts: Sequence[Any]) -> tuple[Any, Any]:
    """Returns (x, labels) for (x, y) or (x, y, sample_weight)."""
    x, y, *weights = parts
    return (x, WeightedLabels(y, weights[0])) if weights and weights[0] is not None else (x, y)


class Term(NamedTuple):
    """The part of one output in the losses of a batch's examples.

    Attributes:
        factor: its weight in the total (`loss_weights`).
        values: (n,): the mean of each example's entries if `entries` is None, else their sum.
        entries: (n,): by whose mean over the examples the values must be divided: the number of an
            example's entries that are not masked, or the sum of their weights; None if all examples
            have equally many.
    """

    factor: float
    values: "tf.Tensor"
    entries: "tf.Tensor | None"


class ExampleLoss:
    """The losses of a batch's examples, whose mean is the loss that `evaluate` computes.

    Keras divides the sum of a batch's losses by the number of entries that are not masked. So the
    loss of an example is the sum over its entries, divided by the mean number of entries of an
    example; `divisors` are these means of a whole data set instead of one batch. With
    `reduction="sum"` the losses' sum is what `evaluate` computes, and `divisors` of
    1 / (number of examples) make it the mean.

    Labels and outputs narrower than float32 are cast to float32, as `keras.losses.Loss` does.
    Weights (n,) are those of examples, also where an example has several losses.

    Args:
        model: a Keras model.
        loss: what `compile` takes as `loss`, or a function of all labels and outputs of a model
            with several outputs; None for the loss and the `loss_weights` of the compiled model.

    Attributes:
        divides: whether a term had `entries` when the losses of a batch were last computed.

    Raises:
        TypeError: `loss` isn't a loss.
        ValueError: the model isn't compiled with a loss, or computes its loss by itself.
    """

    def __init__(self, model: keras.Model, loss: Loss | None) -> None:
        self._model = model
        self._is_compiled = loss is None
        self._weights = None
        if loss is None:
            loss, self._weights = _compiled(model)
        self._loss = loss
        for leaf in keras.tree.flatten(loss):
            _check_is_loss(leaf)
        self.divides = False

    @property
    def user_loss(self) -> Any:
        """The loss as it was given to `compile` or to this class."""
        return self._loss

    @property
    def user_loss_weights(self) -> Any:
        """The `loss_weights` of `compile`; None without."""
        return self._weights

    def terms(self, labels: Structure, outputs: Structure) -> list[Term]:
        """Returns the `Term` of each output that has a loss."""
        y, sample_weight = labels, None
        if isinstance(labels, WeightedLabels):
            y, sample_weight = labels
        if callable(self._loss) and not self._is_compiled and _is_total(self._loss, outputs):
            values = tf.convert_to_tensor(self._loss(y, outputs))
            _check_examples(values, keras.tree.flatten(outputs)[0])
            terms = [_reduced(1.0, values, None, sample_weight, "none")]
        else:
            terms = [
                _term(part)
                for part in losses_of_outputs(
                    self._model, self._loss, self._weights, y, outputs, sample_weight
                )
            ]
        self._check_reductions()
        self.divides = any(term.entries is not None for term in terms)
        return terms

    def __call__(
        self,
        labels: Structure,
        outputs: Structure,
        divisors: "Sequence[tf.Tensor] | None" = None,
    ) -> "tf.Tensor":
        """Returns the losses (n,) of a batch's examples, without regularization.

        Args:
            labels: the labels, or `WeightedLabels`.
            outputs: the model's outputs, as it returned them: with Keras' masks and logits.
            divisors: a number for each term, from `divisors_of`; None for those of this batch.
        """
        total = None
        for i, term in enumerate(self.terms(labels, outputs)):
            values = term.values
            if divisors is not None and (self.sums or term.entries is not None):
                values = tf.math.divide_no_nan(values, tf.cast(divisors[i], values.dtype))
            elif term.entries is not None:
                values = tf.math.divide_no_nan(values, tf.reduce_mean(term.entries))
            if term.factor != 1:
                values *= tf.cast(term.factor, values.dtype)
            if total is None:
                total = values
            else:
                # In the wider of both dtypes.
                dtype = tf.float64 if tf.float64 in (total.dtype, values.dtype) else total.dtype
                total = tf.cast(total, dtype) + tf.cast(values, dtype)
        if total is None:
            raise checks.invalid("The loss", "that of at least one output", repr(self._loss))
        return total

    def entries(self, labels: Structure, outputs: Structure) -> list["tf.Tensor"]:
        """Returns the entries (n,) of each term, ones where examples have equally many."""
        return [
            tf.ones_like(term.values) if term.entries is None else term.entries
            for term in self.terms(labels, outputs)
        ]

    def divisors(self, entries: Sequence["tf.Tensor"], examples: int) -> list["tf.Tensor"]:
        """Returns the divisors of a data set from the sums of `entries` over its examples."""
        if self.sums:
            return [tf.constant(1 / examples, e.dtype) for e in entries]
        return [e / examples for e in entries]

    @property
    def sums(self) -> bool:
        """Whether `evaluate` computes the sum of the losses."""
        return bool(self._reductions() & {"sum"})

    def _reductions(self) -> set[str]:
        leaves = keras.tree.flatten(self._loss)
        return {getattr(leaf, "reduction", "mean") or "none" for leaf in leaves if leaf is not None}

    def _check_reductions(self) -> None:
        found = self._reductions()
        if "sum" in found and len(found) > 1:
            raise checks.invalid(
                "The `reduction` of the outputs' losses", "sum for all or for none", sorted(found)
            )


def _compiled(model: keras.Model) -> tuple[Any, Any]:
    """Returns (loss, loss_weights) of a compiled model."""
    loss = getattr(model, "loss", None)
    if loss is None:
        raise checks.invalid(
            "`model`",
            "compiled with a loss",
            model.name,
            "Call model.compile(loss=...), or pass `loss`.",
        )
    if type(model).compute_loss is not keras.Model.compute_loss:
        raise checks.invalid(
            "`model`",
            "one whose loss is that of `compile`",
            f"{model.name}, which has a `compute_loss` of its own",
            "Pass a function of (labels, outputs) that returns the same loss as `loss`.",
        )
    return loss, getattr(model._compile_loss, "_user_loss_weights", None)


def _check_is_loss(leaf: Any) -> None:
    if leaf is None or isinstance(leaf, str):
        return
    if not callable(leaf):
        raise checks.invalid(
            "`loss`",
            "a Keras loss, its name, a function of (labels, outputs), or a list or dict of these",
            repr(leaf),
            kind=TypeError,
        )
    if (
        isinstance(leaf, keras.losses.Loss)
        and type(leaf).__call__ is not keras.losses.Loss.__call__
    ):
        raise checks.invalid(
            "`loss`",
            "a keras.losses.Loss that implements `call`",
            f"{type(leaf).__name__}, which has a `__call__` of its own",
            "Without `call` it has no losses of single examples.",
            kind=TypeError,
        )


def _is_total(loss: Any, outputs: Structure) -> bool:
    """Returns whether `loss` is a function of all outputs, which adds up their losses."""
    return not isinstance(loss, (keras.losses.Loss, str)) and keras.tree.is_nested(outputs)


def _term(part: LossOfOutput) -> Term:
    """Computes the losses of one output as `keras.losses.Loss.__call__` does, unreduced."""
    loss, outputs = part.loss, part.outputs
    mask = getattr(outputs, "_keras_mask", None)
    wide = _wide_dtype(loss, outputs)
    outputs, y = (_as_floating(tensor, wide) for tensor in (outputs, part.y))
    if isinstance(loss, keras.losses.Loss):
        values = loss.call(y, outputs)
    else:
        values = loss(*_of_one_rank(y, outputs))
    values = tf.convert_to_tensor(values)
    _check_examples(values, outputs)
    own = getattr(values, "_keras_mask", None)  # that of `ignore_class`
    if mask is not None and own is not None:
        mask = tf.cast(mask, tf.bool) & tf.cast(own, tf.bool)
    reduction = getattr(loss, "reduction", "sum_over_batch_size") or "none"
    return _reduced(part.factor, values, own if mask is None else mask, part.weight, reduction)


def _wide_dtype(loss: Any, outputs: "tf.Tensor") -> "tf.DType":
    declared = getattr(loss, "dtype", None) if isinstance(loss, keras.losses.Loss) else None
    named = {outputs.dtype, tf.as_dtype(keras.config.floatx()), tf.as_dtype(declared or tf.float32)}
    return tf.float64 if tf.float64 in named else tf.float32


def _as_floating(tensor: Any, dtype: "tf.DType") -> "tf.Tensor":
    """Casts numbers to `dtype`; a tensor that has it is returned itself, with its attributes."""
    tensor = tf.convert_to_tensor(tensor)
    if tensor.dtype in (dtype, tf.string):
        return tensor
    return tf.cast(tensor, dtype)


def _of_one_rank(first: "tf.Tensor", second: "tf.Tensor") -> tuple["tf.Tensor", "tf.Tensor"]:
    """Adds or removes a last axis of size 1 where the ranks differ by it, as Keras does."""
    if first.shape.rank == second.shape.rank + 1 and first.shape[-1] == 1:
        if second.shape.rank == 1:
            return first, tf.expand_dims(second, -1)
        return tf.squeeze(first, -1), second
    if second.shape.rank == first.shape.rank + 1 and second.shape[-1] == 1:
        if first.shape.rank == 1:
            return tf.expand_dims(first, -1), second
        return first, tf.squeeze(second, -1)
    return first, second


def _check_examples(values: "tf.Tensor", outputs: "tf.Tensor") -> None:
    """Raises ValueError unless losses have one row for each of the outputs (n, ...)."""
    received = "one that returns a scalar"
    if values.shape.rank:
        rows, examples = values.shape[0], outputs.shape[0]
        # One row for any number of examples is a mean over them.
        if rows in (None, examples) or (examples is None and rows > 1):
            return
        received = f"one that returns {rows} for {examples or 'n'}"
    elif values.shape.rank is None:
        return
    raise checks.invalid(
        "`loss`",
        "one that returns one value per example, shape (n,)",
        received,
        "Remove its reduction: losses are averaged later.",
    )


def _reduced(
    factor: float,
    values: "tf.Tensor",
    mask: "tf.Tensor | None",
    sample_weight: Any,
    reduction: str,
) -> Term:
    """Reduces losses (n, ...) to those of examples (n,)."""
    entries = None
    if mask is not None:
        mask = _on_entries(tf.cast(mask, values.dtype), values, "A mask of the outputs or the loss")
        # What is masked may be NaN.
        values = tf.where(mask > 0, values, tf.zeros_like(values)) * mask
        entries = mask
    if sample_weight is not None:
        weight = tf.cast(tf.convert_to_tensor(sample_weight), values.dtype)
        weight = _on_entries(weight, values, "`sample_weight`")
        values *= weight
        if reduction == "mean_with_sample_weight":
            entries = weight if mask is None else weight * mask
    axes = list(range(1, values.shape.rank))
    if entries is None and reduction != "sum":
        return Term(factor, tf.reduce_mean(values, axis=axes), None)
    total = tf.reduce_sum(values, axis=axes)
    if reduction == "sum":
        return Term(factor, total, None)
    assert entries is not None
    entries = tf.broadcast_to(entries, tf.shape(values)) if axes else entries
    return Term(factor, total, tf.reduce_sum(entries, axis=axes))


def _on_entries(weight: "tf.Tensor", values: "tf.Tensor", name: str) -> "tf.Tensor":
    """Gives weights (n,), (n, ...) or (n, ..., 1) the rank of losses (n, ...)."""
    if weight.shape.rank == values.shape.rank + 1 and weight.shape[-1] == 1:
        weight = tf.squeeze(weight, -1)
    if weight.shape.rank == 1:
        weight = tf.reshape(weight, [-1, *[1] * (values.shape.rank - 1)])
    fits = weight.shape.rank == values.shape.rank and all(
        mine in (1, None) or its in (mine, None)
        for mine, its in zip(weight.shape[1:], values.shape[1:], strict=False)
    )
    if not fits:
        raise checks.invalid(
            name, f"of shape (n,) or that of the losses, {tuple(values.shape)}", tuple(weight.shape)
        )
    return weight
