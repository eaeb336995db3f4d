"""Importance sampling in `model.fit`; the callback measures gradient norms (section 7.4.1)."""

import threading
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from thesis_tf._core import checks
from thesis_tf._keras.loss.example_loss import WeightedLabels
from thesis_tf._keras.objective import Objective
from thesis_tf.gradient_norms import GradientNorms
from thesis_tf.issgd.sampling import smoothing as smoothings
from thesis_tf.issgd.sampling.proposal import Proposal
from thesis_tf.issgd.sampling.tracker import ProposalTracker
from thesis_tf.issgd.training.examples import Examples
from thesis_tf.issgd.training.history import History, Record
from thesis_tf.issgd.training.sample_weights import SampleWeights


def _ignore(message: str) -> None:
    pass


class ImportanceSampling(keras.callbacks.Callback):
    """A callback with a data set whose examples are drawn in proportion to their gradient norms.

        sampling = issgd.ImportanceSampling(x, y, batch_size=128, refresh_every=50)
        model.compile("sgd", loss)
        model.fit(sampling.dataset, epochs=5, shuffle=False, callbacks=[sampling])

    Every `refresh_every` steps the gradient norms of all training examples are measured with the
    current parameters, which takes two thirds of the time of an epoch. With a `Trainer` and a
    `MasterSynchronizer`, workers measure them, and training can use several devices.

    Importance weights are passed as `sample_weight`; they keep the gradient unbiased, also of
    masked losses, where they contain the factor from the entries of the batch, by which Keras
    divides, to the mean of all examples. So Keras'
    training loss is an estimate of the loss over the whole data set. The `metrics` of `compile` are
    means over the drawn examples; `weighted_metrics` estimate means over the whole data set.

    Args:
        x, y: the training examples: arrays or objects that return rows, or dicts or lists of them.
        sample_weight: weights of the examples' losses, as for `fit`, in place of `fit`'s; for
            class weights, `np.array(weights)[y]`. None for ones.
        batch_size: examples per step.
        refresh_every: steps between measurements, counted by the optimizer's iterations; 1 is exact
            importance sampling. With `steps_per_execution`, a measurement takes place after the
            call that includes its step. None never measures: draws are uniform, with replacement
            and importance weights of 1, a baseline that differs only in the distribution.
        smoothing: the smoothing rule or number, as for `Proposal`.
        seed: the seed of the draws, an integer >= 0.
        refresh_batch_size: examples that are measured at once.
        true_gradient: whether each measurement also computes the squared norm of the mean gradient,
            in the same pass; gradient variances are then exact. Otherwise they are the upper bound
            of 7.A.4.
        log: called with a sentence when draws become uniform, or by gradient norms again.

    Attributes:
        dataset: a `tf.data.Dataset` of (x, y, sample_weight) with the number of batches of an
            epoch. Each batch is drawn when `fit` requests it; a `prefetch` draws steps in advance.
        history: a `History`: for each measurement except the first, the gradient variances
            (Eq. 7.6-7.9), and whether draws are uniform from then on; see
            `draw_gradient_variance`.
        tracker: the `ProposalTracker`.
    """

    def __init__(
        self,
        x: Any,
        y: Any,
        *,
        sample_weight: Any = None,
        batch_size: int = 128,
        refresh_every: int | None = 50,
        smoothing: smoothings.Smoothing | float = smoothings.DEFAULT,
        seed: int = 0,
        refresh_batch_size: int = 1024,
        true_gradient: bool = False,
        log: Callable[[str], None] = _ignore,
    ) -> None:
        super().__init__()
        self._examples = Examples(x, y, sample_weight=sample_weight)
        self._weights = SampleWeights(self._examples)
        self._batch_size = checks.positive_integer("`batch_size`", batch_size)
        self._every = refresh_every
        if refresh_every is not None:
            self._every = checks.positive_integer("`refresh_every`", refresh_every)
        self._at_once = checks.positive_integer("`refresh_batch_size`", refresh_batch_size)
        if self._batch_size > len(self._examples):
            raise checks.invalid(
                "`batch_size`", f"at most the {len(self._examples)} examples", batch_size
            )
        proposal = Proposal(len(self._examples), smoothing=smoothing, seed=seed)
        self.tracker = ProposalTracker(proposal, log=log)
        self.history = History()
        self._norms: GradientNorms | None = None
        self._step, self._begun = 0, 0
        self._refreshed: int | None = None  # the step of the last measurement
        self._true_gradient, self._lost = true_gradient, 0
        # If a user or a strategy prefetches, draws come from a thread of tf.data.
        self._lock = threading.Lock()
        steps = len(self._examples) // self._batch_size
        self.dataset = self._make_dataset().apply(tf.data.experimental.assert_cardinality(steps))

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Checks that Keras weights the examples of the model's loss, and measures all norms."""
        inputs = self._examples.inputs_for(self.model)
        objective = Objective(self.model, None, inputs=inputs)
        self._examples.check_labels(objective)
        _check_reductions(objective.example_loss.user_loss)
        self._weights.fit_to(objective, self._examples, batch_size=self._at_once)
        self._weights.check(objective, self._examples, batch_size=self._batch_size)
        self._step = self._begun = self._refreshed = self._iterations()
        if self._every is not None:
            self._norms = GradientNorms(objective, regularization=False)
            self._refresh()

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Measures all norms when they are due."""
        if self._step == self._begun:
            raise ValueError(
                "`fit` was called with other data than this ImportanceSampling's: pass"
                " `sampling.dataset` to it, and `sampling` as a callback."
            )
        if self._every is None or self._refreshed is None:
            return
        if self._iterations() // self._every > self._refreshed // self._every:
            self._refresh()

    def _iterations(self) -> int:
        return int(self.model.optimizer.iterations.numpy())

    def _refresh(self) -> None:
        step = self._refreshed = self._iterations()
        norms, true_gradient_squared = self._measure()
        lost = ~np.isfinite(norms)
        if lost.sum() > 2 * self._lost:  # not at every refresh
            self._lost = lost.sum()
            warnings.warn(
                f"At step {step} the gradient norms of {lost.sum()} of {len(norms)} examples are"
                f" not finite, the first of them at index {lost.argmax()}. They are drawn with the"
                " mean norm of the others; look for NaNs in them, or lower the learning rate.",
                stacklevel=2,
            )
        norms[lost] = np.nan
        with self._lock:
            rows = np.arange(len(norms))
            self.tracker.apply(rows, norms, step, true_gradient_squared=true_gradient_squared)
        variances = self.tracker.pop_variances()
        if variances is not None:
            record = Record(step=step, uniform=self.tracker.proposal.is_uniform)
            self.history.add(record.with_variances(variances))

    def _measure(self) -> tuple[np.ndarray, float]:
        """Returns all norms, and the squared norm of the mean gradient (0 if not requested)."""
        assert self._norms is not None
        norms = np.empty(len(self._examples), np.float32)
        mean: list[tf.Tensor] | None = None
        for start in range(0, len(norms), self._at_once):
            rows = slice(start, start + self._at_once)
            x, y = self._examples.take(rows)
            if self._true_gradient:
                count = len(norms[rows])
                _, squares, parts = self._norms.with_gradients(x, y, tf.ones(count))
                parts = [tf.cast(part, tf.float64) * (count / len(norms)) for part in parts]
                mean = parts if mean is None else [a + b for a, b in zip(mean, parts, strict=True)]
            else:
                squares = self._norms(x, y)[1]
            norms[rows] = np.sqrt(squares.numpy())
        return norms, float(sum(tf.reduce_sum(tf.square(part)) for part in mean or ()))

    def _make_dataset(self) -> tf.data.Dataset:
        x, y = self._examples.take(slice(0, 1))
        if isinstance(y, WeightedLabels):
            y = y.y

        def draws() -> Iterator[tuple[Any, ...]]:
            for _ in range(len(self._examples) // self._batch_size):
                if self._refreshed is None:
                    raise RuntimeError(
                        "Gradient norms were never measured: pass the ImportanceSampling to `fit`"
                        " as a callback too. Under a tf.distribute strategy `fit` reads a batch"
                        " before callbacks begin: train on one device, or with a `Trainer`."
                    )
                with self._lock:
                    rows, scales = self.tracker.proposal.sample(self._batch_size, step=self._step)
                self._step += 1
                x, y = self._examples.take(rows)
                if isinstance(y, WeightedLabels):
                    y = y.y
                yield x, y, self._weights(rows, scales)

        def spec(rows: Any) -> tf.TensorSpec:
            rows = np.asarray(rows)
            return tf.TensorSpec((self._batch_size, *rows.shape[1:]), rows.dtype)

        weights = self._weights.spec(batch_size=self._batch_size)
        dataset = tf.data.Dataset.from_generator(
            draws, output_signature=(*keras.tree.map_structure(spec, (x, y)), weights)
        )
        # tf.data would add a prefetch, and the timing of threads would determine whether the next
        # batch is drawn before or after a measurement.
        options = tf.data.Options()
        options.experimental_optimization.inject_prefetch = False
        return dataset.with_options(options)


def _check_reductions(loss: Any) -> None:
    for one in keras.tree.flatten(loss):
        reduction = getattr(one, "reduction", "sum_over_batch_size")
        if reduction in ("none", None):
            advice = "Keras would train on the sum of the batch's losses."
        else:
            advice = "Dividing by the sum of the sample weights would make the gradient biased."
        if reduction not in ("sum_over_batch_size", "mean", "sum"):
            raise checks.invalid(
                "The loss' `reduction`", "sum_over_batch_size, mean or sum", repr(reduction), advice
            )
