"""Linear probes that are trained by gradient steps on a model's features, batch by batch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from thesis_tf._core import checks
from thesis_tf._core.types import Array, Structure
from thesis_tf.probes import masks, targets
from thesis_tf.probes.metrics import Metrics
from thesis_tf.probes.reductions import Reduction
from thesis_tf.probes.report import Probe, ProbeReport
from thesis_tf.probes.solver.softmax_regression import Solution
from thesis_tf.probes.solver.standardized import constant, standardize
from thesis_tf.probes.taps import Selection, features, record_taps

MOMENTUM = 0.99  # the momentum of the moving averages that standardize features
SPLITS = ("train", "validation")
ROUNDED = 1 << 16  # the number of examples whose rounding the moments of a batch may have


class Sums(NamedTuple):
    """Sums over the examples of one split.

    Attributes:
        rows: (taps + 1, 3), numbers of errors, nats and examples; the model's are last.
        counts: (K + 1,), the numbers of examples of each class, and of those without a label.
    """

    rows: Array
    counts: Array

    @property
    def examples(self) -> int:
        """The number of examples with a label."""
        return int(self.counts[:-1].sum())

    @property
    def unlabeled(self) -> int:
        """The number of examples without a label in [0, K)."""
        return int(self.counts[-1])


class LiveProbes:
    """A probe at every tap of a model, with their optimizer and their metrics.

    Args:
        model: a Keras model.
        taps: the selection of taps, as for `thesis_tf.probes.taps`.
        reduction: a `Reduction`.
        num_classes: the number of classes; None uses the width of the model's first output.
        optimizer: a Keras optimizer for the probes only; None for Adam with learning rate 1e-3.
        labels: a function from the model's targets to integer labels (n,); None uses the first.
            Examples whose label isn't in [0, K) are left out.
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
        self._output_tap = graph.output_among(self.taps)
        self._reduction, self._labels = reduction, labels
        outputs = [tap for tap in graph.outputs if len(tap.shape) == 2]
        classes = num_classes or (outputs[0].shape[-1] if outputs else None)
        if classes is None or classes < 2:
            advice = "It can't be inferred from the model's output: pass it."
            raise checks.invalid("`num_classes`", "at least 2", classes, advice)
        self._classes = classes
        with model.distribute_strategy.scope():
            self._make_variables(optimizer or keras.optimizers.Adam(1e-3))
        run_model = features(model, self.taps, reduction)

        # Not inlined: see `ProbeMonitor`. The rest of the probes' step is outside of this function,
        # where replicas can add up gradients.
        @tf.function(autograph=False, experimental_attributes={"_noinline": True})
        def reduced(
            x: Structure, labels: tf.Tensor, place: targets.LabelSource
        ) -> tuple[list[tf.Tensor], tuple[tf.Tensor, ...]]:
            found = run_model(x)
            return (
                [
                    tf.cast(t, t.dtype if t.dtype == tf.float64 else tf.float32)
                    for t in found.features.values()
                ],
                targets.model_measures(model, found.outputs, labels, place, classes),
            )

        self._features = reduced

    def _make_variables(self, optimizer: keras.optimizers.Optimizer) -> None:
        sizes = list(map(self._reduction.features, self.taps))
        taps = len(sizes)

        def zeros(name: str, *shape: int, dtype: str = "float64") -> keras.Variable:
            # What replicas assign is equal on all of them, as it is made of sums over all of them.
            # (With the aggregation "sum", `assign_add` would add the old value once per replica.)
            return keras.Variable(
                np.zeros(shape), trainable=False, dtype=dtype, aggregation="mean", name=name
            )

        self._variables = [
            [
                keras.Variable(np.zeros(shape, np.float32), aggregation="mean", name=name)
                for name, shape in (("weights", (size, self._classes)), ("bias", self._classes))
            ]
            for size in sizes
        ]
        self._moments = [(zeros("mean", size), zeros("variance", size)) for size in sizes]
        self._updates = zeros("updates", taps)
        self._rows = {split: zeros(split, taps + 1, 3) for split in SPLITS}
        self._counts = {split: zeros(f"{split}_counts", self._classes + 1) for split in SPLITS}
        self._seen = zeros("seen", self._classes)
        self._steps = zeros("steps")
        self._optimizer = optimizer
        self._optimizer.build([v for group in self._variables for v in group])

    @property
    def steps(self) -> int:
        """The number of steps of the probes."""
        return int(self._steps.numpy())

    def train(self, x: Structure, y: Structure) -> None:
        """Takes one step of all probes; in replica context."""
        batch = self._batch(x, y)
        self._update_moments(batch)
        trained = [v for group in self._variables for v in group]
        with tf.GradientTape() as tape:
            logits = self._logits(batch)
            # With the sum of losses, each probe is trained independently. The means are those over
            # the examples of all replicas, whose gradients the optimizer adds.
            total = tf.add_n(
                [
                    tf.reduce_sum(tf.where(used, _cross_entropy(batch.labels, z), 0))
                    / tf.cast(tf.maximum(count, 1), tf.float32)
                    for z, used, count in zip(logits, batch.used, batch.examples, strict=True)
                ]
            )
        gradients = tape.gradient(total, [v.value for v in trained])
        self._optimizer.apply(gradients, trained)
        self._steps.assign_add(1)
        self._add("train", batch, logits)
        self._seen.assign_add(self._histogram(batch)[:-1])

    def measure(self, x: Structure, y: Structure) -> None:
        """Measures all probes on a batch; in replica context."""
        batch = self._batch(x, y)
        self._add("validation", batch, self._logits(batch))

    def sums(self, split: str) -> Sums:
        """Returns the sums over a split since `clear`."""
        return Sums(self._rows[split].numpy(), self._counts[split].numpy())

    def clear(self, split: str) -> None:
        """Sets the sums of a split to zero."""
        for variable in (self._rows[split], self._counts[split]):
            variable.assign(tf.zeros_like(variable))

    def errors(self, split: str) -> dict[str, float]:
        """Returns {tap: error} since `clear`."""
        rows = self.sums(split).rows
        errors = rows[:, 0] / np.maximum(rows[:, 2], 1)
        return {tap.name: float(error) for tap, error in zip(self.taps, errors, strict=False)}

    def report(self, sums: Mapping[str, Sums]) -> ProbeReport:
        """Returns a `ProbeReport` of the current probes, with the metrics of {split: sums}."""
        splits = {split: [_metrics(*row) for row in found.rows] for split, found in sums.items()}
        probes = []
        for index, tap in enumerate(self.taps):
            weights, bias = (v.numpy() for v in self._variables[index])
            mean, scale = (np.asarray(v) for v in self._mean_and_scale(index))
            solution = Solution(
                weights, bias, mean, scale, 0.0, float("nan"), float("inf"), False, self.steps,
                left_out=int(np.isinf(scale).sum()),
            )  # fmt: skip
            metrics = {split: found for split, rows in splits.items() if (found := rows[index])}
            probes.append(Probe(tap, "class", self._classes, solution, metrics))
        model_error = {split: found for split, rows in splits.items() if (found := rows[-1])}
        return ProbeReport(
            probes=tuple(probes),
            model_error={"class": {"output": model_error} if model_error else {}},
            chance={"class": self._chance(sums)},
            edges=tuple(self._edges),
            reduction=self._reduction,
            unlabeled={s: found.unlabeled for s, found in sums.items() if found.unlabeled},
            output_tap=self._output_tap,
        )

    def _chance(self, sums: Mapping[str, Sums]) -> float:
        """Returns the error of the commonest class of training on the examples of `sums`."""
        found = next(sums[split] for split in reversed(SPLITS) if split in sums)
        seen = self._seen.numpy()
        commonest = (seen if seen.any() else found.counts[:-1]).argmax()
        return float(1 - found.counts[commonest] / found.examples)

    def _batch(self, x: Structure, y: Structure) -> _Batch:
        """Runs the model on a replica's examples, and counts those of all replicas."""
        target, place = targets.select(y, self._labels, self._classes)
        labels, valid = targets.integers(target, self._classes)
        features, own = self._features(x, labels, place)
        finite = [tf.reduce_all(tf.math.is_finite(tensor), 1) for tensor in features]
        clean = [
            tf.where(row[:, tf.newaxis], tensor, tf.zeros_like(tensor))
            for tensor, row in zip(features, finite, strict=True)
        ]
        used = [valid & row for row in finite]
        examples = _over_replicas([tf.reduce_sum(tf.cast(u, tf.float64)) for u in used])
        return _Batch(labels, valid, clean, finite, used, examples, own)

    def _update_moments(self, batch: _Batch) -> None:
        """Moves the means and variances of features toward those of a batch."""
        wide = [
            tf.where(used[:, tf.newaxis], tf.cast(tensor, tf.float64), 0)
            for tensor, used in zip(batch.features, batch.used, strict=True)
        ]
        counts = [tf.maximum(count, 1) for count in batch.examples]
        sums = _over_replicas([tf.reduce_sum(tensor, 0) for tensor in wide])
        means = [total / count for total, count in zip(sums, counts, strict=True)]
        squares = _over_replicas(
            [
                tf.reduce_sum(tf.where(used[:, tf.newaxis], tf.square(tensor - mean), 0), 0)
                for tensor, mean, used in zip(wide, means, batch.used, strict=True)
            ]
        )
        present = tf.cast(tf.stack(batch.examples) > 0, tf.float64)
        # For the first batches, the moving average is a plain average.
        rates = present * tf.maximum(
            tf.constant(1 - MOMENTUM, tf.float64), 1 / (self._updates.value + 1)
        )
        self._updates.assign_add(present)
        for index, (mean, variance) in enumerate(self._moments):
            rate, change = rates[index], means[index] - mean.value
            inside = squares[index] / counts[index]
            # Also the variance between batches: a batch of one example has no other.
            between = rate * tf.square(change)
            variance.assign((1 - rate) * (variance.value + between) + rate * inside)
            mean.assign(mean.value + rate * change)

    def _mean_and_scale(self, index: int) -> tuple[Any, Any]:
        mean, variance = (v.value for v in self._moments[index])
        left_out = constant(mean, variance, ROUNDED)
        return mean, tf.where(left_out, tf.constant(np.inf, tf.float64), tf.sqrt(variance))

    def _logits(self, batch: _Batch) -> list[tf.Tensor]:
        """Returns the logits (n, K) of each probe."""
        logits = []
        for index, (weights, bias) in enumerate(self._variables):
            mean, scale = self._mean_and_scale(index)
            z = standardize(batch.features[index], mean, scale, tf.float32)
            logits.append(tf.stop_gradient(z) @ weights.value + bias.value)
        return logits

    def _add(self, split: str, batch: _Batch, logits: Sequence[tf.Tensor]) -> None:
        """Adds a batch to the sums of a split."""
        measures = [
            (
                # As in `metrics.measure`: features that aren't finite count as wrong.
                (tf.argmax(z, 1, tf.int32) != batch.labels) | ~finite,
                tf.where(finite, _cross_entropy(batch.labels, z), np.nan),
            )
            for z, finite in zip(logits, batch.finite, strict=True)
        ]
        measures += [batch.own] if batch.own else []
        rows = [
            [
                tf.reduce_sum(tf.where(batch.valid, tf.cast(value, tf.float64), 0))
                for value in (wrong, nats, tf.ones_like(nats))
            ]
            for wrong, nats in measures
        ]
        if not batch.own:
            rows.append([tf.zeros((), tf.float64)] * 3)
        total, counts = _over_replicas([tf.stack(rows), self._histogram(batch)])
        self._rows[split].assign_add(total)
        self._counts[split].assign_add(counts)

    def _histogram(self, batch: _Batch) -> tf.Tensor:
        """Returns the numbers of examples of each class, and of those without a label (K + 1,)."""
        places = tf.where(batch.valid, batch.labels, self._classes)
        return tf.reduce_sum(tf.one_hot(places, self._classes + 1, dtype=tf.float64), 0)


class _Batch(NamedTuple):
    """What one replica knows of a batch of n examples.

    Attributes:
        labels: (n,), in [0, K).
        valid: (n,), whether they are labels of the examples.
        features: a tensor (n, D) for each tap, with 0 for examples whose features aren't finite.
        finite: for each tap, whether an example's features are.
        used: for each tap, whether an example trains its probe.
        examples: for each tap, the number of these over all replicas.
        own: (wrong, nats) of the model's output; nothing if it has other classes.
    """

    labels: tf.Tensor
    valid: tf.Tensor
    features: list[tf.Tensor]
    finite: list[tf.Tensor]
    used: list[tf.Tensor]
    examples: list[tf.Tensor]
    own: tuple[tf.Tensor, ...]


def _over_replicas(values: list[tf.Tensor]) -> list[tf.Tensor]:
    """Returns the sums of tensors over all replicas; in replica context."""
    if tf.distribute.get_strategy().num_replicas_in_sync == 1:
        return values
    context = tf.distribute.get_replica_context()
    summed: list[tf.Tensor] = context.all_reduce(tf.distribute.ReduceOp.SUM, values)
    return summed


def _cross_entropy(labels: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    return tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)


def _metrics(wrong: float, nats: float, examples: float) -> Metrics | None:
    if not examples:
        return None
    return Metrics.of(int(examples), float(wrong / examples), float(nats / examples))
