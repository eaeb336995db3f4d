"""A Keras callback for extreme eigenvalues during training."""

import pathlib
import warnings
from collections.abc import Iterable
from typing import Any

import keras

from thesis_tf._core import checks
from thesis_tf._core.types import Data, Loss, Path, Verbose
from thesis_tf.hessian.eigen.eigenpairs import DEFAULT_SEARCH, SearchOptions
from thesis_tf.hessian.eigen.lanczos import NotFiniteError
from thesis_tf.hessian.history import SpectrumHistory
from thesis_tf.hessian.operators import DEFAULT_OPTIONS, OperatorOptions
from thesis_tf.hessian.tracker import SpectrumTracker, load_weights
from thesis_tf.persistence import files


class HessianMonitor(keras.callbacks.Callback):
    """A Keras callback that computes the extreme eigenvalues while `model.fit` runs.

        monitor = HessianMonitor(data, folder="hessian", at_steps=[0, 1, 10, 100, 1000])
        model.fit(x, y, callbacks=[monitor])
        print(monitor.history.table())

    Training is not affected: products read the weights and change nothing. When the loss is no
    longer finite, a warning says so and training continues without eigenvalues.

    Args:
        data: (x, y), (x, y, sample_weight) or a `tf.data.Dataset`, as for `HessianOperator`: a
            fixed set, not the batches. Sample and class weights of `fit` don't reach its loss.
        folder: where weights, eigenvalues and the unfinished search are saved.
        at_steps: the steps at which to compute eigenvalues, counted by the optimizer, including the
            steps of an earlier `fit`. With `steps_per_execution` only its multiples are possible.
        measure_every: instead of `at_steps`: compute eigenvalues every so many steps, and at step
            0.
        loss: as for `HessianOperator`; None uses the loss with which the model was compiled.
        live: whether to compute eigenvalues at each of these steps; if false, only the weights are
            saved, and eigenvalues are computed at the end of training.
        operator: how products are computed.
        largest, smallest, tol, search, seed, log_dir, verbose: as for `SpectrumTracker`.

    Raises:
        ValueError: steps are negative, or not exactly one of `at_steps` and `measure_every` is
            given.
    """

    def __init__(
        self,
        data: Data,
        folder: Path,
        *,
        at_steps: Iterable[int] | None = None,
        measure_every: int | None = None,
        loss: Loss | None = None,
        live: bool = True,
        operator: OperatorOptions = DEFAULT_OPTIONS,
        largest: int = 20,
        smallest: int = 3,
        tol: float = 1e-3,
        search: SearchOptions = DEFAULT_SEARCH,
        seed: int = 0,
        log_dir: Path | None = None,
        verbose: Verbose = "auto",
    ) -> None:
        super().__init__()
        if (at_steps is None) == (measure_every is None):
            raise checks.invalid(
                "`at_steps`",
                "given, or `measure_every`",
                "both" if measure_every is not None else "neither",
            )
        self._every = (
            None
            if measure_every is None
            else checks.positive_integer("`measure_every`", measure_every)
        )
        self._steps = {int(step) for step in at_steps or ()}
        if any(step < 0 for step in self._steps):
            raise checks.invalid("`at_steps`", "0 or above", min(self._steps))
        self._data, self._loss, self._live = data, loss, live
        self._folder = pathlib.Path(folder)
        self._operator, self._search = operator, search
        self._largest, self._smallest, self._tol, self._seed = largest, smallest, tol, seed
        self._log_dir, self._verbose = log_dir, verbose
        self._tracker: SpectrumTracker | None = None
        self._seen: set[int] = set()
        self._looked: int | None = None  # the last step

    @property
    def history(self) -> SpectrumHistory:
        """The eigenvalues so far."""
        return SpectrumHistory(()) if self._tracker is None else self._tracker.history

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Creates and checks the operator, and computes eigenvalues before the first step."""
        self._tracker = SpectrumTracker(
            self._operator.hessian(self.model, self._loss, self._data),
            folder=self._folder,
            largest=self._largest,
            smallest=self._smallest,
            tol=self._tol,
            search=self._search,
            seed=self._seed,
            log_dir=self._log_dir,
            verbose=self._verbose,
        )
        self._first, self._seen, self._looked = self._step(), set(), None
        self._look(self._tracker)

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Computes eigenvalues, or saves the weights, if this is one of the steps."""
        assert self._tracker is not None  # made in `on_train_begin`
        self._look(self._tracker)

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Computes eigenvalues of saved weights, and warns about steps that were missed."""
        assert self._tracker is not None
        if not self._live:
            self._compute(self._tracker)
        last = self._step()
        missed = [s for s in sorted(self._steps - self._seen) if self._first <= s <= last]
        if missed:
            warnings.warn(
                f"No eigenvalues at steps {missed}: training did not stop there, as with"
                " steps_per_execution above 1 or more than one fit.",
                stacklevel=2,
            )

    def _compute(self, tracker: SpectrumTracker) -> None:
        before = self.model.get_weights()
        # Weights that this training saved before a kill, but not those of another training.
        saved = {
            int(path.name.split(".")[0].removeprefix("step_")): path
            for path in self._folder.glob("step_*.weights.h5")
        }
        saved = {s: path for s, path in saved.items() if s < self._first or s in self._seen}
        try:
            for step in sorted(saved):
                load_weights(self.model, saved[step])
                self._add(tracker, step)
        finally:
            self.model.set_weights(before)

    def _step(self) -> int:
        return int(self.model.optimizer.iterations.numpy())

    def _look(self, tracker: SpectrumTracker) -> None:
        step = self._step()
        due = step in self._steps if self._every is None else step % self._every == 0
        # If gradients are accumulated over batches, a step takes several.
        if not due or step == self._looked:
            return
        self._looked = step
        self._seen.add(step)
        if self._live:
            self._add(tracker, step)
            return
        with files.atomic(self._folder / f"step_{step:07d}.weights.h5") as partial:
            self.model.save_weights(partial)

    @staticmethod
    def _add(tracker: SpectrumTracker, step: int) -> None:
        try:
            tracker.add(step)
        except NotFiniteError as error:
            warnings.warn(f"No eigenvalues at step {step}. {error}", stacklevel=2)
