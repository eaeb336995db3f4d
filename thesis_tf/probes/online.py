"""Linear probes that are trained by gradient steps on a model's features, batch by batch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from thesis_tf._core import checks
from thesis_tf._core.types import Array, Structure
from thesis_tf.probes import masks
from thesis_tf.probes.metrics import Metrics
from thesis_tf.probes.reductions import Reduction
from thesis_tf.probes.report import Probe, ProbeReport
from thesis_tf.probes.solver.softmax_regression import Solution
from thesis_tf.probes.taps import Selection, features, record_taps

MOMENTUM = 0.99  # the momentum of the moving averages that standardize features
SPLITS = ("train", "validation")


class LiveProbes:
    """A probe at every tap of a model, with their optimizer and their metrics.

    Args:
        model: a Keras model.
        taps: the selection of taps, as for `thesis_tf.probes.taps`.
        reduction: a `Reduction`.
        num_classes: the number of classes; None uses the width of the model's first output.
        optimizer: a Keras optimizer for the probes only; None for Adam with learning rate 1e-3.
        labels: a function from the model's targets to integer labels (n,); None uses the first.
        inputs: an example of the model's inputs, or `tf.TensorSpec`s; only needed for an unbuilt
            model, or a subclassed model with several inputs.
        mask: which steps of padded sequences count, as for `thesis_tf.probes.taps`.

    Attributes:
        taps: the list of `Tap`.

    Raises:
        ValueError: no tap matches, or the number of classes is not known.
    """

    def __init__(
        self,
        model: keras.Model,
        taps: Selection,
        reduction: Reduction,
        *,
        num_classes: int | None = None,
        optimizer: keras.optimizers.Optimizer | None = None,
        labels: Callable[[Any], Any] | None = None,
        inputs: Structure | None = None,
        mask: str | None = masks.AUTO,
    ) -> None:
        mask = mask if reduction.uses_masks else masks.NONE
        graph = record_taps(model, inputs=inputs, mask=mask)
        self.taps = graph.select(taps)
        graph.warn_of_masks(self.taps, stacklevel=2)
        self._edges = graph.edges([tap.name for tap in self.taps])
        self._reduction, self._labels = reduction, labels
        outputs = [tap for tap in graph.outputs if len(tap.shape) == 2]
        classes = num_classes or (outputs[0].shape[-1] if outputs else None)
        if classes is None or classes < 2:
            advice = "It can't be inferred from the model's output: pass it."
            raise checks.invalid("`num_classes`", "at least 2", classes, advice)
        self._classes = classes
        self._has_model_error = bool(outputs) and outputs[0].shape[-1] == self._classes
        with model.distribute_strategy.scope():
            self._make_variables(optimizer or keras.optimizers.Adam(1e-3))
        output = [outputs[0].name] if self._has_model_error else []
        run_model = features(model, self.taps, reduction, whole=output)

        # Not inlined: see `ProbeMonitor`. The rest of the probes' step is outside of this function,
        # where replicas can add up gradients.
        @tf.function(autograph=False, experimental_attributes={"_noinline": True})
        def reduced(x: Structure) -> list[tf.Tensor]:
            found = run_model(x)
            return [
                tf.cast(t, tf.float32) for t in [*found.features.values(), *found.tensors.values()]
            ]

        self._features = reduced

    def _make_variables(self, optimizer: keras.optimizers.Optimizer) -> None:
        self._variables = [
            tuple(
                keras.Variable(initial, trainable=trainable, aggregation="mean", name=name)
                for name, initial, trainable in (
                    ("weights", np.zeros((size, self._classes), np.float32), True),
                    ("bias", np.zeros(self._classes, np.float32), True),
                    ("mean", np.zeros(size, np.float32), False),
                    ("variance", np.ones(size, np.float32), False),
                )
            )
            for size in map(self._reduction.features, self.taps)
        ]
        # One row per tap and one for the model: numbers of errors, nats, examples.
        empty = np.zeros((len(self.taps) + 1, 3), np.float32)
        self._state = {
            split: keras.Variable(empty, trainable=False, aggregation="sum", name=split)
            for split in SPLITS
        }
        self._steps = keras.Variable(
            0, trainable=False, dtype="int64", aggregation="only_first_replica"
        )
        self._optimizer = optimizer
        self._optimizer.build([v for group in self._variables for v in group[:2]])

    @property
    def steps(self) -> int:
        """The number of steps of the probes."""
        return int(self._steps.numpy())

    def train(self, x: Structure, y: Structure) -> None:
        """Takes one step of all probes; in replica context."""
        labels, features = self._integers(y), self._features(x)
        trained = [v for group in self._variables for v in group[:2]]
        replicas = tf.distribute.get_strategy().num_replicas_in_sync
        # For the first batches, the moving average is a plain average.
        rate = tf.maximum(1 - MOMENTUM, 1 / (tf.cast(self._steps.value, tf.float32) + 1))
        for tensor, (_, _, mean, variance) in zip(features, self._variables, strict=False):
            batch_mean, batch_variance = tf.nn.moments(tensor, 0)
            mean.assign(mean + rate * (batch_mean - mean))
            variance.assign(variance + rate * (batch_variance - variance))
        with tf.GradientTape() as tape:
            logits = self._logits([tf.stop_gradient(tensor) for tensor in features])
            losses = [_cross_entropy(labels, z) for z in logits[: len(self.taps)]]
            # With the sum of losses, each probe is trained independently.
            total = tf.add_n([tf.reduce_mean(loss) for loss in losses]) / replicas
        gradients = tape.gradient(total, [v.value for v in trained])
        self._optimizer.apply(gradients, trained)
        self._steps.assign_add(1)
        self._state["train"].assign_add(self._sums(labels, logits))

    def measure(self, x: Structure, y: Structure) -> None:
        """Measures all probes on a batch; in replica context."""
        logits = self._logits(self._features(x))
        self._state["validation"].assign_add(self._sums(self._integers(y), logits))

    def sums(self, split: str) -> Array:
        """Returns numbers of errors, nats and examples since `clear`: (taps + 1, 3), model last."""
        return self._state[split].numpy()

    def clear(self, split: str) -> None:
        """Sets the sums of a split to zero."""
        self._state[split].assign(tf.zeros_like(self._state[split]))

    def errors(self, split: str) -> dict[str, float]:
        """Returns {tap: error} since `clear`."""
        sums = self.sums(split)
        errors = sums[:, 0] / np.maximum(sums[:, 2], 1)
        return {tap.name: float(error) for tap, error in zip(self.taps, errors, strict=False)}

    def report(self, sums: Mapping[str, Array]) -> ProbeReport:
        """Returns a `ProbeReport` of the current probes, with the metrics of {split: sums}."""
        splits = {split: [_metrics(*row) for row in rows] for split, rows in sums.items()}
        probes = []
        for index, tap in enumerate(self.taps):
            weights, bias, mean, variance = (v.numpy() for v in self._variables[index])
            raw = weights / _scale(variance)[:, np.newaxis]
            solution = Solution(
                raw, bias - mean @ raw, 0.0, float("nan"), float("inf"), False, self.steps
            )
            metrics = {split: rows[index] for split, rows in splits.items()}
            probes.append(Probe(tap, "class", self._classes, solution, metrics))
        model_error = {}
        if self._has_model_error:
            model_error["output"] = {split: rows[-1] for split, rows in splits.items()}
        return ProbeReport(
            probes=tuple(probes),
            model_error={"class": model_error},
            chance={"class": 1 - 1 / self._classes},
            edges=tuple(self._edges),
            reduction=self._reduction,
        )

    def _logits(self, features: Sequence[tf.Tensor]) -> list[tf.Tensor]:
        """Returns the logits of each probe, and of the model if it has the same classes."""
        logits = [
            (tensor - mean.value) / _scale(variance.value) @ weights.value + bias.value
            for tensor, (weights, bias, mean, variance) in zip(
                features, self._variables, strict=False
            )
        ]
        return [*logits, *features[len(logits) :]]

    def _sums(self, labels: tf.Tensor, logits: Sequence[tf.Tensor]) -> tf.Tensor:
        """Returns numbers of errors, nats and examples: one row per probe and one for the model."""
        rows = []
        for z in logits:
            wrong = tf.cast(tf.argmax(z, 1, tf.int32) != labels, tf.float32)
            nats = _cross_entropy(labels, z)
            rows.append(
                tf.stack(
                    [
                        tf.reduce_sum(wrong),
                        tf.reduce_sum(nats),
                        tf.cast(tf.size(labels), tf.float32),
                    ]
                )
            )
        if not self._has_model_error:
            rows.append(tf.zeros(3))
        return tf.stack(rows)

    def _integers(self, y: Structure) -> tf.Tensor:
        if self._labels is not None:
            y = self._labels(y)
        y = keras.tree.flatten(y)[0]
        if y.shape.rank == 2 and y.shape[1] > 1:
            return tf.argmax(y, 1, tf.int32)
        return tf.cast(tf.reshape(y, [-1]), tf.int32)


def _cross_entropy(labels: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    return tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)


def _scale(variance: Any) -> Any:
    """Returns the standard deviation, or infinity for a constant feature."""
    if isinstance(variance, np.ndarray):
        return np.where(variance > 1e-12, np.sqrt(variance), np.inf)
    return tf.where(variance > 1e-12, tf.sqrt(variance), np.inf)


def _metrics(wrong: np.float32, nats: np.float32, examples: np.float32) -> Metrics:
    return Metrics.of(int(examples), float(wrong / examples), float(nats / examples))
