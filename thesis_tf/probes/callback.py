"""Probes that are trained while a model trains."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import keras
import tensorflow as tf

from thesis_tf._core import checks
from thesis_tf._core.types import Path, Structure
from thesis_tf._keras.sharding import Replicas
from thesis_tf.probes.attachment import Attachment
from thesis_tf.probes.online import SPLITS, LiveProbes, Sums
from thesis_tf.probes.reductions import Reduction
from thesis_tf.probes.report import ProbeReport
from thesis_tf.probes.taps import Selection
from thesis_tf.reporting.summaries import SummaryWriter


class ProbeMonitor(keras.callbacks.Callback):
    """A Keras callback that trains a linear probe at every tap while `model.fit` runs.

    Labels outside [0, K), such as the -1 or 255 of examples to ignore, are left out: a warning and
    the report say how many. Sample and class weights don't reach the probes. Several monitors in
    one `fit` work like each alone.

    Before each training step the probes take a step on the same batch, on features from an
    inference pass of the model behind `tf.stop_gradient`. The model's step does not change: its
    weights are bit-identical to those of a run without the monitor, also with dropout, batch
    normalization and `global_clipnorm`. That is why the probes' pass is a separate function call
    in the graph: additional uses of the model's activations would prevent TensorFlow from fusing
    the operations around them, which changes the rounding. (XLA, which `jit_compile="auto"` uses on
    GPUs, compiles both into one program and may round differently.)

        monitor = ProbeMonitor(log_every=100, log_dir="logs")
        model.fit(x, y, validation_data=(x_val, y_val), callbacks=[monitor])
        print(monitor.report().table())

    In a custom training loop it takes two lines:

        monitor.set_model(model)
        ... monitor.update(x, y)  # once per step

    Args:
        taps: the selection of taps, as for `thesis_tf.probes.taps`.
        reduction: "mean", "subset:1000", ..., or a `Reduction`.
        log_every: steps between entries in TensorBoard and in `history`.
        num_classes: the number of classes; None uses the width of the model's first output.
        optimizer: a Keras optimizer for the probes only; None for Adam with learning rate 1e-3.
        labels: a function from the targets of the model's training to integer labels (n,); None
            uses the first target, and the argmax of one-hot targets. The model's own error is that
            on a target itself; it isn't known for what a function makes of targets.
        log_dir: TensorBoard's directory; None writes nothing.
        seed: the seed of random subsets and projections.
        inputs: an example of the model's inputs, or `tf.TensorSpec`s; only needed for an unbuilt
            model, or a subclassed model with several inputs.
        mask: which steps of padded sequences count: "auto", "keras", "none", or the name of an
            input, as for `thesis_tf.probes.taps`.

    Attributes:
        history: a list of dicts, one every `log_every` steps: "step", and the error of each tap on
            the training examples since the previous entry.
        reports: a dict from step to `ProbeReport`, with one report per validation.

    Raises:
        TypeError: `labels` is not a function.
        ValueError: (when training begins) no tap matches, or the number of classes is not known.
    """

    def __init__(
        self,
        taps: Selection = "*",
        *,
        reduction: str | Reduction = "mean",
        log_every: int = 100,
        num_classes: int | None = None,
        optimizer: keras.optimizers.Optimizer | None = None,
        labels: Callable[[Any], Any] | None = None,
        log_dir: Path | None = None,
        seed: int = 0,
        inputs: Structure | None = None,
        mask: str | None = "auto",
    ) -> None:
        super().__init__()
        if num_classes is not None and checks.positive_integer("`num_classes`", num_classes) < 2:
            raise checks.invalid("`num_classes`", "at least 2", num_classes)
        if labels is not None and not callable(labels):
            raise checks.invalid(
                "`labels`", "a function from targets to labels", repr(labels), kind=TypeError
            )
        self.log_every = checks.positive_integer("`log_every`", log_every)
        self.history: list[dict[str, float]] = []
        self.reports: dict[int, ProbeReport] = {}
        self._taps, self._reduction = taps, Reduction.parse(reduction, seed=seed)
        self._settings: dict[str, Any] = {
            "num_classes": num_classes,
            "optimizer": optimizer,
            "labels": labels,
            "mask": mask,
        }
        self._inputs = inputs
        self._writer = SummaryWriter(log_dir)
        self._probes: Any = None
        self._built_for: keras.Model | None = None
        self._step = self._logged = self._last_batch = 0

    # Called by `model.fit`.

    def on_train_begin(self, logs: Mapping[str, Any] | None = None) -> None:
        """Creates the probes."""
        self._build()

    def on_train_end(self, logs: Mapping[str, Any] | None = None) -> None:
        """Restores the model's training function."""
        Attachment.remove(self.model, "train_function", self)
        self._log()

    def on_epoch_begin(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        """Resets the count of batches."""
        self._last_batch = -1

    def on_train_batch_begin(self, batch: int, logs: Mapping[str, Any] | None = None) -> None:
        """Makes the next step train the probes."""
        Attachment.of(self.model, "train_function").arm(self, self._probes.train)

    def on_train_batch_end(self, batch: int, logs: Mapping[str, Any] | None = None) -> None:
        """Logs every `log_every` steps; a call may stand for several (`steps_per_execution`)."""
        self._step += batch - self._last_batch
        self._last_batch = batch
        if self._step - self._logged >= self.log_every:
            self._log()

    def on_test_begin(self, logs: Mapping[str, Any] | None = None) -> None:
        """Resets the metrics of the validation."""
        if self._built_for is self.model:
            self._probes.clear("validation")

    def on_test_batch_begin(self, batch: int, logs: Mapping[str, Any] | None = None) -> None:
        """Makes the next step measure the probes."""
        if self._built_for is self.model:
            Attachment.of(self.model, "test_function").arm(self, self._probes.measure)

    def on_test_end(self, logs: Mapping[str, Any] | None = None) -> None:
        """Restores the model's test function, and keeps the metrics as a report."""
        if self._built_for is self.model:
            Attachment.remove(self.model, "test_function", self)
            self._report_validation()

    # Called in a custom training loop.

    def update(self, x: Structure, y: Structure) -> None:
        """Takes one step of the probes on a batch; call it before the model's step.

        Args:
            x: a batch of the model's inputs.
            y: (n,) integer labels or (n, K) one-hot.
        """
        self._build(x)
        self._custom_step(self._probes.train, (x, y))
        self._step += 1
        if self._step - self._logged >= self.log_every:
            self._log()

    def evaluate(self, batches: Iterable[tuple[Structure, Structure]]) -> None:
        """Measures the probes on an iterable of (x, y); the split in `report` is "validation"."""
        self._probes.clear("validation")
        for x, y in batches:
            self._custom_step(self._probes.measure, (x, y))
        self._report_validation()

    def report(self) -> ProbeReport:
        """Returns a `ProbeReport` of the current probes.

        Its metrics are those of the last validation ("validation") and of the training examples
        since the last entry in `history` or, if there are none, of this entry ("train"). A live
        probe has no certificate: its suboptimality is infinite.
        """
        if self._built_for is None:
            raise RuntimeError("The monitor has not seen any training: pass it to `fit` first.")
        sums = {split: self._probes.sums(split) for split in SPLITS}
        if not sums["train"].examples:
            sums["train"] = self._last_train
        sums = {split: found for split, found in sums.items() if found.examples}
        if not sums:
            raise RuntimeError(
                "The probes have not been measured on any example with a label in [0, K): train"
                " first. (`labels` makes labels of other targets.)"
            )
        return self._probes.report(sums)

    def _build(self, x: Structure | None = None) -> None:
        """Creates the probes for the model."""
        if self._built_for is self.model:
            return
        inputs = self._inputs if x is None else x
        self._probes = LiveProbes(
            self.model, self._taps, self._reduction, inputs=inputs, **self._settings
        )
        self._last_train = self._probes.sums("train")
        self._custom: dict[Any, Any] = {}
        self._warned: set[str] = set()
        self._built_for = self.model

    def _custom_step(
        self, function: Callable[..., None], batch: tuple[Structure, Structure]
    ) -> None:
        strategy = self.model.distribute_strategy
        if function not in self._custom:
            self._custom[function] = tf.function(
                lambda batch: strategy.run(lambda *b: function(*_of_any_size(b)), args=batch),
                autograph=False,
            )
        leaves = keras.tree.flatten(batch)
        if not any(isinstance(leaf, tf.distribute.DistributedValues) for leaf in leaves):
            batch = Replicas(strategy).divide(batch)
        self._custom[function](batch)

    def _report_validation(self) -> None:
        self._step = self._probes.steps
        sums = self._probes.sums("validation")
        self._warn("validation", sums)
        if not sums.examples:
            return
        self.reports[self._step] = self.report()
        self._write("validation", self._probes.errors("validation"))

    def _log(self) -> None:
        """Adds the measurements since the last entry to `history` and TensorBoard."""
        # The last call of an epoch may stand for fewer steps than `steps_per_execution`.
        self._step = self._probes.steps
        sums = self._probes.sums("train")
        self._warn("train", sums)
        if not sums.examples:
            return
        errors = self._probes.errors("train")
        self.history.append({"step": self._step, **errors})
        self._write("train", errors)
        self._last_train, self._logged = sums, self._step
        self._probes.clear("train")

    def _warn(self, split: str, sums: Sums) -> None:
        """Says once of each split that examples are left out."""
        if sums.unlabeled and split not in self._warned:
            self._warned.add(split)
            warnings.warn(
                f"Live probes leave out {sums.unlabeled} of {sums.unlabeled + sums.examples}"
                f" {split} examples, whose labels aren't whole numbers in [0,"
                f" {len(sums.counts) - 1}).",
                stacklevel=2,
            )

    def _write(self, split: str, errors: Mapping[str, float]) -> None:
        values = {f"probe_error_{split}/{name}": error for name, error in errors.items()}
        self._writer.scalars(self._step, values)


def _of_any_size(batch: Any) -> Any:
    """Hides the number of examples, since Keras has layers that fail if it is known to be 0."""
    return keras.tree.map_structure(
        lambda t: tf.compat.v1.placeholder_with_default(t, [None, *t.shape[1:]]), batch
    )
