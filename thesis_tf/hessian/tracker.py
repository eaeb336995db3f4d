"""Extreme eigenvalues at successive checkpoints of a training."""

import dataclasses
import pathlib
import warnings
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from thesis_tf._core import checks
from thesis_tf._core.types import Path, Verbose
from thesis_tf.hessian.data_subset import angles
from thesis_tf.hessian.eigen.eigenpairs import DEFAULT_SEARCH, Eigenpairs, SearchOptions
from thesis_tf.hessian.eigen.lanczos import NotFiniteError
from thesis_tf.hessian.eigen.solvers import extreme_eigenpairs
from thesis_tf.hessian.history import SpectrumEntry, SpectrumHistory
from thesis_tf.hessian.operators import Operator
from thesis_tf.persistence import files
from thesis_tf.reporting.summaries import SummaryWriter

HISTORY = "history.json"


class SpectrumTracker:
    """Computes the eigenpairs of both ends at successive checkpoints.

    Each search begins with the eigenvectors of the previous checkpoint. With a folder, a tracker
    continues after a kill: saved entries are not computed again, and an unfinished search
    continues.

    Args:
        operator: a `HessianOperator` or `GaussNewtonOperator`, refreshed at every checkpoint.
        folder: the folder of `history.json`, the eigenpairs of the latest checkpoint and the
            unfinished search; None saves nothing.
        largest, smallest, tol, search, seed, verbose: as for `extreme_eigenpairs`.
        log_dir: TensorBoard's directory; None writes nothing.

    Attributes:
        history: the `SpectrumHistory` so far.

    Raises:
        ValueError: `folder` holds the history of another model, loss or data set, or with other
            settings.
    """

    def __init__(
        self,
        operator: Operator,
        *,
        folder: Path | None = None,
        largest: int = 20,
        smallest: int = 3,
        tol: float = 1e-3,
        search: SearchOptions = DEFAULT_SEARCH,
        seed: int = 0,
        log_dir: Path | None = None,
        verbose: Verbose = "auto",
    ) -> None:
        self._operator, self._search, self._seed, self._verbose = operator, search, seed, verbose
        self._largest, self._smallest, self._tol = largest, smallest, tol
        self._folder = None if folder is None else pathlib.Path(folder)
        self._writer = SummaryWriter(log_dir)
        self._settings = {
            "operator": operator.fingerprint(weights=False),
            "largest": largest,
            "smallest": smallest,
            "tol": tol,
        }
        self.history = SpectrumHistory(())
        self._latest: Eigenpairs | None = None
        self._known = False
        if self._folder is not None and (self._folder / HISTORY).exists():
            self._restore(self._folder)

    def add(self, step: int) -> SpectrumEntry:
        """Adds an entry for the model's current weights, and returns it.

        An earlier step than the last one, as of a training that is taken up again, is the last one
        from then on: a warning says that later entries are dropped.

        Raises:
            TypeError: the step isn't an integer.
            NotFiniteError: the loss or its products are not finite.
            ValueError: the folder's entry of this step was computed for other weights.
        """
        if not hasattr(step, "__index__"):
            raise checks.invalid("`step`", "an integer", repr(step), kind=TypeError)
        step = int(step)
        self._operator.refresh()
        fingerprint = self._operator.fingerprint()
        if step in self.history.steps:
            entry = self.history.entries[self.history.steps.index(step)]
            if entry.fingerprint == fingerprint:
                self._known = True
                return entry
            self._forget(step)
        elif self.history.entries and step < self.history.steps[-1]:
            later = [known for known in self.history.steps if known > step]
            warnings.warn(
                f"Step {step} is before {', '.join(map(str, later))}: eigenvalues of these are"
                " dropped, so that entries and the angles between them are in order.",
                stacklevel=2,
            )
            self._drop_from(step)
        self._known = True
        loss = self._operator.loss()
        if not np.isfinite(loss):
            raise NotFiniteError(f"The loss is {loss} at step {step}: training has diverged.")
        under_way = None if self._folder is None else self._folder / f"search_{step:07d}"
        pairs = extreme_eigenpairs(
            self._operator,
            largest=self._largest,
            smallest=self._smallest,
            tol=self._tol,
            v0=None if self._latest is None else self._latest.vectors,
            search=self._search,
            folder=under_way,
            seed=self._seed,
            verbose=self._verbose,
        )
        entry = self._entry(step, loss, fingerprint, pairs)
        self._latest = pairs
        self.history = SpectrumHistory((*self.history.entries, entry))
        self._write_summaries(entry)
        if self._folder is not None and under_way is not None:
            # Vectors are saved first: after a kill in between, the entry is computed again.
            pairs.save(self._pairs(self._folder, step))
            self._save(self._folder)
            for older in self.history.steps[:-1]:
                files.remove(self._pairs(self._folder, older))
            files.remove(under_way)
        return entry

    def _entry(self, step: int, loss: float, fingerprint: str, pairs: Eigenpairs) -> SpectrumEntry:
        upper, lower = slice(-1, pairs.smallest - len(pairs.values) - 1, -1), slice(pairs.smallest)
        entry = SpectrumEntry(
            step=step,
            loss=loss,
            largest=tuple(pairs.values[upper].tolist()),
            smallest=tuple(pairs.values[lower].tolist()),
            converged=bool(pairs.converged.all()),
            products=pairs.products,
            fingerprint=fingerprint,
        )
        if self._latest is None:
            return entry
        before = self._latest.vectors

        def turned(end: slice) -> tuple[float, ...]:
            return tuple(angles(pairs.vectors[:, end], before[:, end]).tolist())

        return dataclasses.replace(
            entry, largest_angles=turned(upper), smallest_angles=turned(lower)
        )

    def _restore(self, folder: pathlib.Path) -> None:
        found = files.read_json(folder / HISTORY)
        for name, value in self._settings.items():
            if found["settings"][name] == value:
                continue
            if name == "operator":
                raise ValueError(
                    f"{folder} holds a history of another model, loss or data set, or of other"
                    " parameters. Choose another folder, or delete it."
                )
            there = f"{found['settings'][name]}, as in {folder}"
            raise checks.invalid(f"`{name}`", there, value, "Or choose another folder.")
        self.history = SpectrumHistory.from_json(found["entries"])
        if self.history.entries:
            path = self._pairs(folder, self.history.steps[-1])
            # It is missing after a kill while entries were computed again.
            self._latest = Eigenpairs.load(path) if path.exists() else None

    def _forget(self, step: int) -> None:
        """Drops the entries from a step on if they belong to this training."""
        if not self._known:
            raise ValueError(
                f"{self._folder or 'This history'} holds step {step} of another training, with"
                " other weights. Choose another folder, or delete it."
            )
        warnings.warn(
            f"At step {step}, training differs from the earlier run, as may happen on a GPU:"
            " eigenvalues from this step on are computed again.",
            stacklevel=3,
        )
        self._drop_from(step)

    def _drop_from(self, step: int) -> None:
        if self._folder is not None:
            files.remove(self._pairs(self._folder, self.history.steps[-1]))
        before = tuple(entry for entry in self.history.entries if entry.step < step)
        self.history, self._latest = SpectrumHistory(before), None

    def _save(self, folder: pathlib.Path) -> None:
        history = {"settings": self._settings, "entries": self.history.to_json()}
        files.write_json(folder / HISTORY, history)

    @staticmethod
    def _pairs(folder: pathlib.Path, step: int) -> pathlib.Path:
        return folder / f"eigenpairs_{step:07d}.npz"

    def _write_summaries(self, entry: SpectrumEntry) -> None:
        scalars = {"hessian/loss": entry.loss}
        for end, values, turned in (
            ("largest", entry.largest, entry.largest_angles),
            ("smallest", entry.smallest, entry.smallest_angles),
        ):
            for rank, value in enumerate(values, 1):
                scalars[f"hessian/{end}_{rank:02d}"] = value
            for rank, angle in enumerate(turned or (), 1):
                scalars[f"hessian/{end}_{rank:02d}_angle"] = angle
        self._writer.scalars(entry.step, scalars)


def history_of_checkpoints(
    operator: Operator,
    checkpoints: Mapping[int, Path],
    *,
    folder: Path | None = None,
    largest: int = 20,
    smallest: int = 3,
    tol: float = 1e-3,
    search: SearchOptions = DEFAULT_SEARCH,
    seed: int = 0,
    log_dir: Path | None = None,
    verbose: Verbose = "auto",
) -> SpectrumHistory:
    """Computes the eigenvalues at the saved checkpoints of a training.

    Args:
        operator: as for `SpectrumTracker`; its model's weights are restored at the end.
        checkpoints: {step: weights file}, which are used in the order of the steps.
        folder, largest, smallest, tol, search, seed, log_dir, verbose: as for `SpectrumTracker`.

    Returns:
        A `SpectrumHistory`.

    Raises:
        ValueError: a checkpoint doesn't fit the model; raised before anything is computed.
    """
    if not isinstance(checkpoints, Mapping):
        received = type(checkpoints).__name__
        raise checks.invalid(
            "`checkpoints`", "a dict {step: weights file}", received, kind=TypeError
        )
    if not checkpoints:
        raise checks.invalid("`checkpoints`", "at least one", "none")
    model = operator.model
    before = model.get_weights()
    try:
        for path in checkpoints.values():
            load_weights(model, path)
        tracker = SpectrumTracker(
            operator,
            folder=folder,
            largest=largest,
            smallest=smallest,
            tol=tol,
            search=search,
            seed=seed,
            log_dir=log_dir,
            verbose=verbose,
        )
        for step in sorted(checkpoints):
            load_weights(model, checkpoints[step])
            tracker.add(step)
    finally:
        model.set_weights(before)
    return tracker.history


def load_weights(model: keras.Model, path: Path) -> None:
    """Reads a weights file into a model; raises ValueError if it does not fit.

    The state of the model's optimizer, which such a file may hold, stays unchanged.
    """
    state: list[Any] = getattr(getattr(model, "optimizer", None), "variables", [])
    before = [variable.numpy() for variable in state]
    try:
        with warnings.catch_warnings():
            # These warnings are harmless: weights saved without an optimizer, or by a model with
            # other containers, are complete.
            for harmless in (
                "Skipping variable loading for optimizer",
                "Skipping nested container",
            ):
                warnings.filterwarnings("ignore", harmless)
            model.load_weights(path)
    except (ValueError, OSError, KeyError) as error:
        said = " ".join(line.strip() for line in str(error).splitlines() if line.strip())
        raise checks.invalid(
            "A checkpoint", f"a weights file of {model.name}", path, said[:300]
        ) from error
    finally:
        for variable, value in zip(state, before, strict=False):
            variable.assign(value)
