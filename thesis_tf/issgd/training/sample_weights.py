"""The sample weights by which `fit` scales the losses of drawn examples."""

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from thesis_tf._core import checks
from thesis_tf._core.types import Array
from thesis_tf._keras.loss.example_loss import WeightedLabels
from thesis_tf._keras.objective import Objective
from thesis_tf.issgd.training.examples import Examples


class SampleWeights:
    """Importance weights in the form in which Keras multiplies whole examples by them.

    Keras multiplies losses (n, ...) by weights (n,) along the last axis, so these have the rank of
    the labels, (n, 1, ...), which is that of the losses or one more. For several outputs there is
    one array for each.

    Args:
        examples: the training examples, perhaps with sample weights of their own.
    """

    def __init__(self, examples: Examples) -> None:
        y = examples.y
        self._own = None
        if isinstance(y, WeightedLabels):
            y, self._own = y
        self._labels = y
        self._entries: Array | None = None

    def spec(self, *, batch_size: int) -> Any:
        """Returns the `tf.TensorSpec`s of the weights of a batch."""

        def spec(weights: Array) -> tf.TensorSpec:
            return tf.TensorSpec((batch_size, *weights.shape[1:]), tf.float32)

        return keras.tree.map_structure(spec, self(np.zeros(1, np.int64), np.ones(1)))

    def __call__(self, rows: Array, scales: Array) -> Any:
        """Returns the weights for the rows of a batch and their importance weights (n,)."""
        if self._entries is not None:
            # Keras divides by the entries of this batch; the gradient is unbiased if it divides by
            # the mean of all examples.
            scales = scales * (self._entries[rows].mean() / self._entries.mean())

        def weights(labels: Any, own: Any) -> Array:
            scaled = np.asarray(scales, np.float32)
            if own is not None and len(np.shape(own)) > 1:
                own = np.asarray(own[rows], np.float32)
                return own * scaled.reshape([-1, *[1] * (own.ndim - 1)])
            if own is not None:
                scaled = scaled * np.asarray(own[rows], np.float32)
            return scaled.reshape([-1, *[1] * (len(labels.shape) - 1)])

        if not keras.tree.is_nested(self._own):
            return keras.tree.map_structure(lambda y: weights(y, self._own), self._labels)
        return keras.tree.map_structure(weights, self._labels, self._own)

    def fit_to(self, objective: Objective, examples: Examples, *, batch_size: int) -> None:
        """Counts the entries of each example if Keras divides losses by those of the batch.

        Raises:
            ValueError: several outputs have a loss, and one of them has a mask.
        """
        self._entries = None
        if not objective.needs_divisors(*examples.take(slice(0, 1))):
            return
        parts = [
            [e.numpy() for e in objective.entries(*_tensors(batch))]
            for batch in examples.batches(batch_size)
        ]
        if len(parts[0]) > 1:
            raise checks.invalid(
                "The loss",
                "without masks or ignored classes if the model has several outputs",
                objective.model.name,
                "Keras divides each output's loss by the entries of the batch: train with a"
                " `Trainer`.",
            )
        self._entries = np.concatenate([e[0] for e in parts]).astype(np.float64)
        objective.measure_divisors(examples.batches(batch_size))

    def check(self, objective: Objective, examples: Examples, *, batch_size: int) -> None:
        """Raises ValueError unless Keras' loss of a weighted batch is that of weighted examples."""
        rows = np.arange(batch_size)
        scales = np.random.default_rng(0).uniform(0.5, 1.5, batch_size)
        x, labels = _tensors(examples.take(rows))
        y = labels.y if isinstance(labels, WeightedLabels) else labels
        weights = keras.tree.map_structure(tf.convert_to_tensor, self(rows, scales))
        model, loss = objective.model, objective.example_loss

        @tf.function(autograph=False)
        def both() -> tuple[tf.Tensor, tf.Tensor]:
            outputs = model(x, training=False)
            total = model.compute_loss(x, y, outputs, weights, training=False)
            for added in model.losses:
                total -= tf.cast(added, total.dtype)
            return total, loss(labels, outputs, objective.divisors)

        total, losses = (np.asarray(value, np.float64) for value in both())
        parts = scales * losses / (1 if loss.sums else batch_size)
        if not np.isfinite(total) or not np.isfinite(parts).all():
            return  # training says so
        if abs(total - parts.sum()) > 1e-4 * np.abs(parts).sum() + 1e-12:
            raise ValueError(
                f"Keras' loss of {model.name} for a weighted batch is {total:.6g}, and the sum of"
                f" the weighted losses of its examples is {parts.sum():.6g}: sample weights don't"
                " weight the examples of this loss. Train with a `Trainer`, which doesn't use them."
            )


def _tensors(batch: Any) -> Any:
    return keras.tree.map_structure(tf.convert_to_tensor, batch)
