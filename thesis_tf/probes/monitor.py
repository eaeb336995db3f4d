"""Probes that are trained beside a model, while it trains."""

import pathlib

import keras
import numpy as np
import tensorflow as tf

from thesis_tf import _checks
from thesis_tf.probes.measures import Measures
from thesis_tf.probes.reductions import Reduction
from thesis_tf.probes.report import Probe, ProbeReport
from thesis_tf.probes.softmax_regression import Solution
from thesis_tf.probes.taps import forward, trace

MOMENTUM = 0.99  # of the running moments that standardise features


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
        model.fit(x, y, validation_data=(x_valid, y_valid), callbacks=[monitor])
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
        self.every = _checks.positive_integer("`every`", every)
        self.history, self.reports = [], {}
        self._select, self._reduction = taps, Reduction.parse(reduction, seed)
        self._num_classes, self._optimizer = num_classes, optimizer
        self._labels, self._inputs = labels, inputs
        self._log_dir, self._writer = log_dir, None
        self._built_for, self._armed = None, False
        self._step = self._logged = self._last_batch = 0

    # What is called by `model.fit`.

    def on_train_begin(self, logs=None):
        """Puts the probes' step in front of the model's."""
        self._build()
        self._attach("train_function", "train_step", "make_train_function", self._train)

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
            self._state["valid"].assign(tf.zeros_like(self._state["valid"]))
            self._attach("test_function", "test_step", "make_test_function", self._measure)

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
        self._custom_step(self._train, (x, y))
        self._step += 1
        if self._step - self._logged >= self.every:
            self._log()

    def evaluate(self, batches):
        """Measures the probes on an iterable of (x, y); `report` shows it as "valid"."""
        self._state["valid"].assign(tf.zeros_like(self._state["valid"]))
        for x, y in batches:
            self._custom_step(self._measure, (x, y))
        self._report_validation()

    def report(self):
        """Returns a `ProbeReport` of the probes as they are now.

        Its measures are those of the last validation ("valid") and of the training examples since
        the last entry in `history` or, where there were none, of that entry ("train"). A live
        probe has no certificate: its gap is infinite.
        """
        if self._built_for is None:
            raise RuntimeError("The monitor has seen no training yet: pass it to `fit` first.")
        splits = {}
        for split in ("train", "valid"):
            sums = self._state[split].numpy()
            if split == "train" and not sums[0, -1]:
                sums = self._last_train
            if sums[0, -1]:
                splits[split] = [_measures(*row) for row in sums]
        probes = []
        for index, tap in enumerate(self._taps):
            weights, bias, mean, variance = (v.numpy() for v in self._variables[index])
            raw = weights / _scale(variance)[:, np.newaxis]
            solution = Solution(
                raw, bias - mean @ raw, 0.0, float("nan"), float("inf"), False, self._step
            )
            measures = {split: rows[index] for split, rows in splits.items()}
            probes.append(Probe(tap, "class", self._classes, solution, measures))
        own = {"output": {s: rows[-1] for s, rows in splits.items()}} if self._has_own else {}
        return ProbeReport(
            probes=tuple(probes),
            own={"class": own},
            chance={"class": 1 - 1 / self._classes},
            edges=tuple(self._edges),
            reduction=self._reduction,
        )

    # How it is done.

    def _build(self, x=None):
        """Makes the probes' variables and step functions for the model."""
        model = self.model
        if self._built_for is model:
            return
        plan = trace(model, self._inputs if x is None else x)
        self._taps = plan.select(self._select)
        self._edges = plan.edges([tap.name for tap in self._taps])
        widths = [tap.shape[-1] for tap in plan.outputs if len(tap.shape) == 2]
        self._classes = self._num_classes or (widths[0] if widths else None)
        if self._classes is None or self._classes < 2:
            raise _checks.invalid(
                "`num_classes`", "at least 2", self._classes,
                "It can't be told from the model's output: pass it.",
            )  # fmt: skip
        self._has_own = bool(widths) and widths[0] == self._classes
        self._own = next((tap.name for tap in plan.outputs if len(tap.shape) == 2), None)
        with model.distribute_strategy.scope():
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
                for size in map(self._reduction.features, self._taps)
            ]
            # A row each tap and one for the model: wrong answers, nats, examples.
            shape = (len(self._taps) + 1, 3)
            self._state = {
                split: keras.Variable(
                    np.zeros(shape, np.float32), trainable=False, aggregation="sum", name=split
                )
                for split in ("train", "valid")
            }
            self._steps = keras.Variable(
                0, trainable=False, dtype="int64", aggregation="only_first_replica"
            )
            if self._optimizer is None:
                self._optimizer = keras.optimizers.Adam(1e-3)
            self._optimizer.build([v for group in self._variables for v in group[:2]])
        self._last_train = np.zeros(shape, np.float32)
        self._plain = {}
        names = [tap.name for tap in self._taps]
        run_model = forward(model, names + ([self._own] if self._has_own else []))

        # Not inlined: see the class. The rest of the probes' step stays outside, where replicas
        # can meet to add up gradients.
        @tf.function(autograph=False, experimental_attributes={"_noinline": True})
        def features(x):
            _, activations = run_model(x)
            reduced = [self._reduction(activations[name], name) for name in names]
            own = [activations[self._own]] if self._has_own else []
            return [tf.cast(tensor, tf.float32) for tensor in reduced + own]

        self._features = features
        self._custom = {}
        if self._log_dir is not None:
            self._writer = tf.summary.create_file_writer(str(pathlib.Path(self._log_dir)))
        self._built_for = model

    def _train(self, x, y):
        """One step of all probes; in replica context."""
        labels, features = self._integers(y), self._features(x)
        trained = [v for group in self._variables for v in group[:2]]
        replicas = tf.distribute.get_strategy().num_replicas_in_sync
        # The first batches count by their number, as in a plain average.
        rate = tf.maximum(1 - MOMENTUM, 1 / (tf.cast(self._steps.value, tf.float32) + 1))
        for tensor, (_, _, mean, variance) in zip(features, self._variables, strict=False):
            batch_mean, batch_variance = tf.nn.moments(tensor, 0)
            mean.assign(mean + rate * (batch_mean - mean))
            variance.assign(variance + rate * (batch_variance - variance))
        with tf.GradientTape() as tape:
            logits = self._logits([tf.stop_gradient(tensor) for tensor in features])
            losses = [_cross_entropy(labels, z) for z in logits[: len(self._taps)]]
            # Summed, so that each probe is trained as if it were alone.
            total = tf.add_n([tf.reduce_mean(loss) for loss in losses]) / replicas
        gradients = tape.gradient(total, [v.value for v in trained])
        self._optimizer.apply(gradients, trained)
        self._steps.assign_add(1)
        self._state["train"].assign_add(self._sums(labels, logits))

    def _measure(self, x, y):
        """Measures all probes on a batch; in replica context."""
        logits = self._logits(self._features(x))
        self._state["valid"].assign_add(self._sums(self._integers(y), logits))

    def _logits(self, features):
        """The logits of each probe, and of the model if it has as many classes."""
        logits = [
            (tensor - mean.value) / _scale(variance.value) @ weights.value + bias.value
            for tensor, (weights, bias, mean, variance) in zip(
                features, self._variables, strict=False
            )
        ]
        return logits + features[len(logits) :]

    def _sums(self, labels, logits):
        """Wrong answers, nats and examples: a row for each probe and one for the model."""
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
        if not self._has_own:
            rows.append(tf.zeros(3))
        return tf.stack(rows)

    def _integers(self, y):
        if self._labels is not None:
            y = self._labels(y)
        y = keras.tree.flatten(y)[0]
        if y.shape.rank == 2 and y.shape[1] > 1:
            return tf.argmax(y, 1, tf.int32)
        return tf.cast(tf.reshape(y, [-1]), tf.int32)

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

    def _errors(self, split):
        sums = self._state[split].numpy()
        errors = sums[:, 0] / np.maximum(sums[:, 2], 1)
        return {tap.name: float(error) for tap, error in zip(self._taps, errors, strict=False)}

    def _report_validation(self):
        self._step = int(self._steps.numpy())
        self.reports[self._step] = self.report()
        self._write("valid", self._errors("valid"))

    def _log(self):
        """Adds what was measured since the last entry to `history` and TensorBoard."""
        # The last call of an epoch may stand for fewer steps than `steps_per_execution`.
        self._step = int(self._steps.numpy())
        sums = self._state["train"].numpy()
        if not sums[0, 2]:
            return
        errors = self._errors("train")
        self.history.append({"step": self._step, **errors})
        self._write("train", errors)
        self._last_train, self._logged = sums, self._step
        self._state["train"].assign(np.zeros_like(sums))

    def _write(self, split, errors):
        if self._writer is None:
            return
        with self._writer.as_default(self._step):
            for name, error in errors.items():
                tf.summary.scalar(f"probe_error_{split}/{name}", error)
        self._writer.flush()


def _cross_entropy(labels, logits):
    return tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)


def _scale(variance):
    """The standard deviation, or infinity for a feature that does not vary."""
    if isinstance(variance, np.ndarray):
        return np.where(variance > 1e-12, np.sqrt(variance), np.inf)
    return tf.where(variance > 1e-12, tf.sqrt(variance), np.inf)


def _measures(wrong, nats, examples):
    error = float(wrong / examples)
    return Measures(
        examples=int(examples),
        error=error,
        standard_error=float(np.sqrt(error * (1 - error) / examples)),
        top5_error=None,
        cross_entropy=float(nats / examples),
    )
