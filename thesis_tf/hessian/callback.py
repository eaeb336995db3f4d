"""Extreme eigenvalues while a model trains."""

import pathlib
import warnings

import keras
import numpy as np

from thesis_tf._core import checks
from thesis_tf.hessian.eigen.lanczos import NotFiniteError
from thesis_tf.hessian.history import SpectrumHistory, load_weights
from thesis_tf.hessian.operators import HessianOperator
from thesis_tf.persistence import files


class HessianMonitor(keras.callbacks.Callback):
    """A Keras callback that follows the extreme eigenvalues while `model.fit` runs.

        monitor = HessianMonitor(data, steps=[0, 1, 10, 100, 1000], folder="hessian")
        model.fit(x, y, callbacks=[monitor])
        print(monitor.history.table())

    Training is left as it is: products read the weights and change nothing. When the loss is no
    longer finite, a warning says so and training goes on without eigenvalues.

    Args:
        data: (x, y) or a `tf.data.Dataset`, of `HessianOperator`: a fixed set, not the batches.
        steps: the steps at which to look, or a number: every so many steps, 0 among them. They are
            counted by the optimizer, on from those of an earlier `fit`. With
            `steps_per_execution` only its multiples come by.
        folder: where weights, eigenvalues and the search under way are saved.
        loss: of `HessianOperator`; None takes the one that the model was compiled with.
        live: whether to compute eigenvalues at each of the steps; otherwise only the weights are
            kept, and eigenvalues are computed when training has ended.
        operator: a dict of options of `HessianOperator`.
        **options: of `SpectrumHistory`: largest, smallest, tol, log_dir, ...

    Attributes:
        history: the `SpectrumHistory`, once it is begun.
    """

    def __init__(self, data, steps, folder, *, loss=None, live=True, operator=None, **options):
        super().__init__()
        self._every = checks.positive_integer("`steps`", steps) if np.isscalar(steps) else None
        self._steps = set() if self._every else {int(step) for step in steps}
        if any(step < 0 for step in self._steps):
            raise checks.invalid("`steps`", "0 or above", sorted(self._steps)[0])
        self._data, self._loss, self._live = data, loss, live
        self._folder = pathlib.Path(folder)
        self._operator, self._options = operator or {}, options
        self.history, self._looked = None, set()

    def on_train_begin(self, logs=None):
        """Makes and checks the operator, and looks at the weights before the first step."""
        loss = self.model.loss if self._loss is None else self._loss
        if loss is None:
            raise checks.invalid("`loss`", "given, or that of a compiled model", "none")
        operator = HessianOperator(self.model, loss, self._data, **self._operator)
        self.history = SpectrumHistory(operator, self._folder, **self._options)
        self._first, self._looked = self._step(), set()
        self._look()

    def on_train_batch_end(self, batch, logs=None):
        """Looks at the weights if this is one of the steps."""
        self._look()

    def on_train_end(self, logs=None):
        """Computes what was only kept, and says which of the steps were left out."""
        if not self._live:
            self._compute()
        last = self._step()
        missed = [s for s in sorted(self._steps - self._looked) if self._first <= s <= last]
        if missed:
            warnings.warn(
                f"No eigenvalues at steps {missed}: training did not stop there, as with"
                " steps_per_execution above 1 or more than one fit.",
                stacklevel=2,
            )

    def _compute(self):
        before = self.model.get_weights()
        # Of an earlier part of this training, as before a kill, but not of another training.
        kept = {
            int(path.name.split(".")[0].removeprefix("step_")): path
            for path in self._folder.glob("step_*.weights.h5")
        }
        kept = {s: path for s, path in kept.items() if s < self._first or s in self._looked}
        try:
            for step in sorted(kept):
                load_weights(self.model, kept[step])
                self._add(step)
        finally:
            self.model.set_weights(before)

    def _step(self):
        return int(self.model.optimizer.iterations.numpy())

    def _look(self):
        step = self._step()
        if step % self._every if self._every else step not in self._steps:
            return
        self._looked.add(step)
        if self._live:
            self._add(step)
            return
        with files.atomic(self._folder / f"step_{step:07d}.weights.h5") as partial:
            self.model.save_weights(partial)

    def _add(self, step):
        try:
            self.history.add(step)
        except NotFiniteError as error:
            warnings.warn(f"No eigenvalues at step {step}. {error}", stacklevel=2)
