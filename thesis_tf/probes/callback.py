"""Probes that are trained beside a model, while it trains."""

import pathlib

import keras
import numpy as np
import tensorflow as tf

from thesis_tf._core import checks
from thesis_tf.probes.online import SPLITS, LiveProbes
from thesis_tf.probes.reductions import Reduction


class ProbeMonitor(keras.callbacks.Callback):
    """A Keras callback that trains a linear probe at every tap while `model.fit` runs.

    Before each training step the probes take a step of their own on the same batch, on features
    from an inference pass of the model behind `tf.stop_gradient`. The model's own step is left as
    it is: its weights come out bit-identical to those of a run without the monitor, also with
    dropout, batch normalisation and `global_clipnorm`. That is why the probes' pass is a function
    call of its own in the graph: more readers of the model's activations would keep TensorFlow
    from fusing the operations around them, which changes the rounding. (XLA, which
    `jit_compile="auto"` uses on GPUs, compiles both into one program and may round differently.)

        monitor = ProbeMonitor(every=100, log_dir="logs")
        model.fit(x, y, validation_data=(x_val, y_val), callbacks=[monitor])
        print(monitor.report().table())

    In a loop of one's own it takes two lines:

        monitor.set_model(model)
        ... monitor.update(x, y)  # once a step

    Args:
        taps: what `thesis_tf.probes.taps` selects by.
        reduction: "mean", "subset:1000", ..., or a `Reduction`.
        every: steps between entries in TensorBoard and in `history`.
        num_classes: the number of classes; None takes the width of the model's first output.
        optimizer: a Keras optimizer for the probes alone; None for Adam at 1e-3.
        labels: a function from the targets that the model is trained on to integer labels (n,);
            None takes the first target, of one-hot targets the largest.
        log_dir: a folder for TensorBoard; None for none.
        seed: of random subsets and projections.
        inputs: an example of the model's inputs; only needed for a subclassed model of several.

    Attributes:
        history: a list of dicts, one every `every` steps: "step", and the error of each tap on the
            training examples since the one before.
        reports: a dict from step to `ProbeReport`, one for each validation.

    Raises:
        ValueError: (when training begins) no tap matches, or the number of classes is not known.
    """

    def __init__(
        self,
        taps="*",
        reduction="mean",
        every=100,
        *,
        num_classes=None,
        optimizer=None,
        labels=None,
        log_dir=None,
        seed=0,
        inputs=None,
    ):
        super().__init__()
        self.every = checks.positive_integer("`every`", every)
        self.history, self.reports = [], {}
        self._select, self._reduction = taps, Reduction.parse(reduction, seed)
        self._settings = {"num_classes": num_classes, "optimizer": optimizer, "labels": labels}
        self._inputs, self._probes = inputs, None
        self._log_dir, self._writer = log_dir, None
        self._built_for, self._armed = None, False
        self._step = self._logged = self._last_batch = 0

    # What is called by `model.fit`.

    def on_train_begin(self, logs=None):
        """Puts the probes' step in front of the model's."""
        self._build()
        self._attach("train_function", "train_step", "make_train_function", self._probes.train)

    def on_train_end(self, logs=None):
        """Takes it away again."""
        self._detach("train_function")
        self._log()

    def on_epoch_begin(self, epoch, logs=None):
        """Starts counting batches again."""
        self._last_batch = -1

    def on_train_batch_begin(self, batch, logs=None):
        """Lets the next step train the probes."""
        self._armed = True

    def on_train_batch_end(self, batch, logs=None):
        """Logs every `every` steps; a call may stand for several (`steps_per_execution`)."""
        self._step += batch - self._last_batch
        self._last_batch = batch
        if self._step - self._logged >= self.every:
            self._log()

    def on_test_begin(self, logs=None):
        """Puts the probes' measuring in front of the model's validation step."""
        if self._built_for is self.model:
            self._probes.clear("validation")
            self._attach("test_function", "test_step", "make_test_function", self._probes.measure)

    def on_test_batch_begin(self, batch, logs=None):
        """Lets the next step measure the probes."""
        self._armed = True

    def on_test_end(self, logs=None):
        """Takes it away again, and keeps the result as a report."""
        if "test_function" in self._plain:
            self._detach("test_function")
            self._report_validation()

    # What is called in a loop of one's own.

    def update(self, x, y):
        """Takes one step of the probes on a batch, in front of the model's own step.

        Args:
            x: a batch of the model's inputs.
            y: (n,) integer labels or (n, K) one-hot.
        """
        self._build(x)
        self._custom_step(self._probes.train, (x, y))
        self._step += 1
        if self._step - self._logged >= self.every:
            self._log()

    def evaluate(self, batches):
        """Measures the probes on an iterable of (x, y); `report` shows it as "validation"."""
        self._probes.clear("validation")
        for x, y in batches:
            self._custom_step(self._probes.measure, (x, y))
        self._report_validation()

    def report(self):
        """Returns a `ProbeReport` of the probes as they are now.

        Its measures are those of the last validation ("validation") and of the training examples
        since the last entry in `history` or, where there were none, of that entry ("train"). A live
        probe has no certificate: its gap is infinite.
        """
        if self._built_for is None:
            raise RuntimeError("The monitor has seen no training yet: pass it to `fit` first.")
        sums = {split: self._probes.sums(split) for split in SPLITS}
        if not sums["train"][0, -1]:
            sums["train"] = self._last_train
        return self._probes.report({split: s for split, s in sums.items() if s[0, -1]})

    # How it is done.

    def _build(self, x=None):
        """Makes the probes for the model."""
        if self._built_for is self.model:
            return
        inputs = self._inputs if x is None else x
        self._probes = LiveProbes(
            self.model, self._select, self._reduction, inputs=inputs, **self._settings
        )
        self._last_train = np.zeros_like(self._probes.sums("train"))
        self._plain, self._custom = {}, {}
        if self._log_dir is not None:
            self._writer = tf.summary.create_file_writer(str(pathlib.Path(self._log_dir)))
        self._built_for = self.model

    def _attach(self, function, step, make, first):
        """Replaces one of the model's compiled functions by one that runs `first` as well.

        The step itself is replaced only while Keras compiles the function. A `fit` without this
        callback does not arm it, and so gets the plain function back.
        """
        model = self.model
        getattr(model, make)()
        self._plain[function] = plain = getattr(model, function)
        original = getattr(model, step)

        def both(data):
            x, y, _ = keras.utils.unpack_x_y_sample_weight(data)
            first(x, y)
            return original(data)

        setattr(model, step, both)
        try:
            getattr(model, make)(force=True)
        finally:
            delattr(model, step)
        probed = getattr(model, function)

        def armed(iterator):
            if not self._armed:
                self._detach(function)
                return plain(iterator)
            self._armed = False
            return probed(iterator)

        setattr(model, function, armed)

    def _detach(self, function):
        if function in self._plain:
            setattr(self.model, function, self._plain.pop(function))

    def _custom_step(self, function, batch):
        strategy = tf.distribute.get_strategy()
        if function not in self._custom:
            self._custom[function] = tf.function(
                lambda batch: strategy.run(function, args=batch), autograph=False
            )
        self._custom[function](batch)

    def _report_validation(self):
        self._step = self._probes.steps
        self.reports[self._step] = self.report()
        self._write("validation", self._probes.errors("validation"))

    def _log(self):
        """Adds what was measured since the last entry to `history` and TensorBoard."""
        # The last call of an epoch may stand for fewer steps than `steps_per_execution`.
        self._step = self._probes.steps
        sums = self._probes.sums("train")
        if not sums[0, 2]:
            return
        errors = self._probes.errors("train")
        self.history.append({"step": self._step, **errors})
        self._write("train", errors)
        self._last_train, self._logged = sums, self._step
        self._probes.clear("train")

    def _write(self, split, errors):
        if self._writer is None:
            return
        with self._writer.as_default(self._step):
            for name, error in errors.items():
                tf.summary.scalar(f"probe_error_{split}/{name}", error)
        self._writer.flush()
