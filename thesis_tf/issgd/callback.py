"""Importance sampling in `model.fit`, with norms that it refreshes itself (thesis, 7.4.1)."""

import threading
import warnings

import keras
import numpy as np
import tensorflow as tf

from thesis_tf._core import checks
from thesis_tf._keras.objective import Objective
from thesis_tf.gradient_norms import GradientNorms
from thesis_tf.issgd.sampling import smoothing as smoothings
from thesis_tf.issgd.sampling.proposal import Proposal
from thesis_tf.issgd.sampling.tracker import WeightMonitor
from thesis_tf.issgd.training.examples import Examples


class ImportanceSampling(keras.callbacks.Callback):
    """A callback and the data set that goes with it: draws by gradient norms, in five lines.

        sampling = issgd.ImportanceSampling(x, y, batch_size=128, refresh_every=50)
        model.compile("sgd", loss)
        model.fit(sampling.dataset, epochs=5, shuffle=False, callbacks=[sampling])

    Every `refresh_every` steps the norms of all training examples are measured at the present
    weights, which takes two thirds of what an epoch takes; where that is worth it is the thesis'
    question, and `Master` with workers is its answer, also on several devices. Losses come with
    `sample_weight`s that keep the gradient unbiased: Keras' training loss is an estimate of the
    whole set's, and `metrics` of `compile` are of what was drawn; give `weighted_metrics` for
    estimates of the whole set's.

    Args:
        x, y: the training examples, arrays or whatever gives rows, or dicts or lists of such.
        batch_size: examples a step.
        refresh_every: steps between measurements; 1 is exact importance sampling. Counted by the
            optimizer's iterations; with `steps_per_execution` the measurement comes after the call
            that the step is in. None never measures: draws are uniform, with replacement and with
            weights of 1, the baseline that differs in nothing else.
        smoothing: of `Proposal`.
        seed: of the draws.
        refresh_batch_size: examples that are measured at once.
        true_gradient: whether to take |g_true|^2 at each refresh, from the same pass, which makes
            the traces exact; without it they are the upper bound of 7.A.4.
        log: called with a sentence when draws become uniform, or by weights again.

    Attributes:
        dataset: a `tf.data.Dataset` of (x, y, sample_weight), as many batches as an epoch has.
            Each is drawn when `fit` asks for it; with a `prefetch` after it, that many steps ahead.
        history: a list of dicts: the traces (Eq 7.6-7.9) at each refresh but the first, with its
            "step" and whether draws are "uniform" from there on; `draw_traces` draws it.
        monitor: the `WeightMonitor`.
    """

    def __init__(
        self,
        x,
        y,
        *,
        batch_size=128,
        refresh_every=50,
        smoothing=smoothings.DEFAULT,
        seed=0,
        refresh_batch_size=1024,
        true_gradient=False,
        log=lambda message: None,
    ):
        super().__init__()
        self._examples = Examples(x, y)
        self._batch_size = checks.positive_integer("`batch_size`", batch_size)
        self._every = refresh_every
        if refresh_every is not None:
            self._every = checks.positive_integer("`refresh_every`", refresh_every)
        self._at_once = checks.positive_integer("`refresh_batch_size`", refresh_batch_size)
        if self._batch_size > len(self._examples):
            raise checks.invalid(
                "`batch_size`", f"at most the {len(self._examples)} examples", batch_size
            )
        proposal = Proposal(len(self._examples), smoothing, seed=seed)
        self.monitor = WeightMonitor(proposal, log=log)
        self.history = []
        self._norms, self._step, self._begun, self._refreshed = None, 0, 0, None
        self._true_gradient, self._lost = true_gradient, 0
        # Should a user or a strategy prefetch, draws come from a thread of tf.data's.
        self._lock = threading.Lock()
        steps = len(self._examples) // self._batch_size
        self.dataset = self._make_dataset().apply(tf.data.experimental.assert_cardinality(steps))

    def on_train_begin(self, logs=None):
        """Checks that the model's loss can be scaled, and measures all norms."""
        loss = self.model.loss
        reduction = getattr(loss, "reduction", "sum_over_batch_size")
        if reduction not in ("sum_over_batch_size", "mean", "sum"):
            raise checks.invalid(
                "The loss' `reduction`",
                "sum_over_batch_size, mean or sum",
                repr(reduction),
                "Dividing by the sum of the sample weights would make the gradient biased.",
            )
        self._step = self._begun = self._refreshed = self._iterations()
        if self._every is not None:
            objective = Objective(self.model, loss)
            self._norms = GradientNorms(objective, False, False, False, True, None)
            self._refresh()

    def on_train_batch_end(self, batch, logs=None):
        """Measures again when it is time."""
        if self._step == self._begun:
            raise ValueError(
                "`fit` was given other data than this ImportanceSampling's: pass"
                " `sampling.dataset` to it, and `sampling` as a callback."
            )
        if self._every is None:
            return
        if self._iterations() // self._every > self._refreshed // self._every:
            self._refresh()

    def _iterations(self):
        return int(self.model.optimizer.iterations.numpy())

    def _refresh(self):
        self._refreshed = self._iterations()
        norms, true_gradient_squared = self._measure()
        lost = ~np.isfinite(norms)
        if lost.sum() > 2 * self._lost:  # not at every refresh
            self._lost = lost.sum()
            warnings.warn(
                f"At step {self._refreshed} the gradient norms of {lost.sum()} of {len(norms)}"
                f" examples are not finite, number {lost.argmax()} the first. Such examples are"
                " drawn as often as others are on average; look for NaNs in them, or lower the"
                " learning rate.",
                stacklevel=2,
            )
        norms[lost] = np.nan
        with self._lock:
            rows = np.arange(len(norms))
            self.monitor.take(
                rows, norms, self._refreshed, true_gradient_squared=true_gradient_squared
            )
        if record := self.monitor.record():
            uniform = self.monitor.proposal.is_uniform
            self.history.append({"step": self._refreshed, "uniform": uniform, **record})

    def _measure(self):
        """Returns all norms, and |g_true|^2 if it was asked for, else 0."""
        norms, mean = np.empty(len(self._examples), np.float32), None
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

    def _make_dataset(self):
        x, y = self._examples.take(slice(0, 1))

        def draws():
            for _ in range(len(self._examples) // self._batch_size):
                if self._refreshed is None:
                    raise RuntimeError(
                        "Norms were never measured: pass the ImportanceSampling to `fit` as a"
                        " callback too. Under a tf.distribute strategy `fit` wants a batch before"
                        " callbacks begin: train on one device, or with `Master`."
                    )
                with self._lock:
                    rows, scales = self.monitor.proposal.sample(self._batch_size, self._step)
                self._step += 1
                yield *self._examples.take(rows), scales

        def spec(rows):
            rows = np.asarray(rows)
            return tf.TensorSpec((self._batch_size, *rows.shape[1:]), rows.dtype)

        weights = tf.TensorSpec((self._batch_size,), tf.float32)
        dataset = tf.data.Dataset.from_generator(
            draws, output_signature=(*keras.tree.map_structure(spec, (x, y)), weights)
        )
        # Which tf.data adds by itself: the next batch would be drawn by weights that are about to
        # be replaced, or not, as threads have it.
        options = tf.data.Options()
        options.experimental_optimization.inject_prefetch = False
        return dataset.with_options(options)
