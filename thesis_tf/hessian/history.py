"""Extreme eigenvalues over training (thesis, figures 11.5 and 11.6)."""

import inspect
import pathlib
import warnings

import numpy as np
import tensorflow as tf

from thesis_tf._core import checks
from thesis_tf.hessian.data_subset import angles
from thesis_tf.hessian.eigen.eigenpairs import Eigenpairs, extreme_eigenpairs
from thesis_tf.hessian.eigen.lanczos import NotFiniteError
from thesis_tf.persistence import files

HISTORY = "history.json"


class SpectrumHistory:
    """The eigenpairs of both ends at one checkpoint after another.

    Each search begins with the eigenvectors of the checkpoint before. In a folder it goes on after
    a kill: entries that are there are not computed again, and a search that was under way goes on.

    Args:
        operator: a `HessianOperator`, which is refreshed at every checkpoint.
        largest, smallest, tol, **options: of `extreme_eigenpairs`.
        folder: for `history.json`, the eigenpairs of the latest checkpoint and the search under
            way; None keeps nothing.
        log_dir: a folder for TensorBoard; None for none.

    Attributes:
        entries: a list of dicts, one a checkpoint: "step", "loss", "largest" and "smallest" (lists,
            the outermost first), "converged", "products", "weights" (a hash), and "angles": for
            each end the degrees between eigenvectors of a rank and those of the entry before; None
            for the first.

    Raises:
        ValueError: `folder` holds the history of another model, loss or data set, or with other
            settings.
    """

    def __init__(
        self, operator, folder=None, largest=20, smallest=3, tol=1e-3, *, log_dir=None, **options
    ):
        unknown = set(options) - set(inspect.signature(extreme_eigenpairs).parameters)
        if unknown:
            names = ", ".join(sorted(unknown))
            raise TypeError(f"{names}: no option of SpectrumHistory or extreme_eigenpairs.")
        self._operator, self._options = operator, options
        self._ends, self._tol = (largest, smallest), tol
        self._folder = None if folder is None else pathlib.Path(folder)
        self._writer = None if log_dir is None else tf.summary.create_file_writer(str(log_dir))
        self._identity = {
            "operator": operator.identity(weights=False),
            "largest": largest,
            "smallest": smallest,
            "tol": tol,
        }
        self.entries, self._latest, self._known = [], None, False
        if self._folder is not None and (self._folder / HISTORY).exists():
            self._restore()

    def _restore(self):
        found = files.read_json(self._folder / HISTORY)
        for name, value in self._identity.items():
            if found["identity"][name] == value:
                continue
            if name == "operator":
                raise ValueError(
                    f"{self._folder} holds a history of another model, loss or data set, or of"
                    " other parameters. Choose another folder, or delete it."
                )
            there = f"{found['identity'][name]}, as in {self._folder}"
            raise checks.invalid(f"`{name}`", there, value, "Or choose another folder.")
        self.entries = found["entries"]
        if self.entries:
            self._latest = Eigenpairs.load(self._pairs(self.entries[-1]["step"]))

    @property
    def steps(self):
        """The steps that there are entries of."""
        return [entry["step"] for entry in self.entries]

    def add(self, step):
        """Adds an entry for the weights that the model has now, and returns it.

        Raises:
            NotFiniteError: the loss or its products are not finite.
            ValueError: the folder's entry of this step is of other weights.
        """
        self._operator.refresh()
        weights = self._operator.identity()
        if step in self.steps:
            entry = self.entries[self.steps.index(step)]
            if entry["weights"] == weights:
                self._known = True
                return entry
            self._forget(step)
        self._known = True
        loss = self._operator.loss()
        if not np.isfinite(loss):
            raise NotFiniteError(f"The loss is {loss} at step {step}: training has diverged.")
        search = None if self._folder is None else self._folder / f"search_{step:07d}"
        pairs = extreme_eigenpairs(
            self._operator,
            *self._ends,
            self._tol,
            start=None if self._latest is None else self._latest.vectors,
            folder=search,
            **self._options,
        )
        upper, lower = slice(-1, pairs.smallest - len(pairs.values) - 1, -1), slice(pairs.smallest)
        entry = {
            "step": step,
            "loss": loss,
            "largest": pairs.values[upper].tolist(),
            "smallest": pairs.values[lower].tolist(),
            "converged": bool(pairs.converged.all()),
            "products": pairs.products,
            "weights": weights,
            "angles": None,
        }
        if self._latest is not None:
            ends = {"largest": upper, "smallest": lower}
            entry["angles"] = {
                name: angles(pairs.vectors[:, end], self._latest.vectors[:, end]).tolist()
                for name, end in ends.items()
            }
        self._latest = pairs
        self.entries.append(entry)
        self._write(entry)
        if search is not None:
            # The vectors first: after a kill in between, the entry is computed again.
            pairs.save(self._pairs(step))
            self._save()
            for older in self.entries[:-1]:
                files.remove(self._pairs(older["step"]))
            files.remove(search)
        return entry

    def _forget(self, step):
        """Drops the entries from a step on, if this training is the one that they are of."""
        if not self._known:
            raise ValueError(
                f"{self._folder or 'This history'} holds step {step} of another training: its"
                " weights were others. Choose another folder, or delete it."
            )
        warnings.warn(
            f"Training took another course than before at step {step}, as it may on a GPU: the"
            " eigenvalues from there on are computed anew.",
            stacklevel=3,
        )
        if self._folder is not None:
            files.remove(self._pairs(self.entries[-1]["step"]))
        self.entries = [entry for entry in self.entries if entry["step"] < step]
        self._latest = None

    def _save(self):
        history = {"identity": self._identity, "entries": self.entries}
        files.write_json(self._folder / HISTORY, history)

    def table(self):
        """A table for people: the outermost eigenvalues, and by how much their vectors turned."""
        lines = [
            f"{'step':>8} {'loss':>9} {'largest':>10} {'turned':>7} {'smallest':>10} {'turned':>7}"
        ]
        for entry in self.entries:
            turned = [
                f"{a[0]:6.1f}°" if a else ""
                for a in (entry["angles"] or {"largest": [], "smallest": []}).values()
            ]
            ends = [f"{e[0]:10.4g}" if e else "" for e in (entry["largest"], entry["smallest"])]
            lines.append(
                f"{entry['step']:8} {entry['loss']:9.4f} {ends[0]:>10} {turned[0]:>7}"
                f" {ends[1]:>10} {turned[1]:>7}"
            )
        return "\n".join(lines)

    def _pairs(self, step):
        return self._folder / f"eigenpairs_{step:07d}.npz"

    def _write(self, entry):
        if self._writer is None:
            return
        with self._writer.as_default(entry["step"]):
            tf.summary.scalar("hessian/loss", entry["loss"])
            for end in ("largest", "smallest"):
                for rank, value in enumerate(entry[end], 1):
                    tf.summary.scalar(f"hessian/{end}_{rank:02d}", value)
                for rank, angle in enumerate((entry["angles"] or {}).get(end, []), 1):
                    tf.summary.scalar(f"hessian/{end}_{rank:02d}_angle", angle)
        self._writer.flush()


def history_of_checkpoints(operator, checkpoints, folder=None, **options):
    """Computes the history of checkpoints that training left.

    Args:
        operator: a `HessianOperator`; its model's weights are put back at the end.
        checkpoints: {step: weights file}, taken in the order of the steps.
        folder, **options: of `SpectrumHistory`.

    Returns:
        A `SpectrumHistory`.

    Raises:
        ValueError: a checkpoint does not fit the model; before anything is computed.
    """
    if not hasattr(checkpoints, "values"):
        received = type(checkpoints).__name__
        raise checks.invalid(
            "`checkpoints`", "a dict {step: weights file}", received, kind=TypeError
        )
    if not checkpoints:
        raise checks.invalid("`checkpoints`", "at least one", "none")
    model = operator.objective.model
    before = model.get_weights()
    try:
        for path in checkpoints.values():
            load_weights(model, path)
        history = SpectrumHistory(operator, folder, **options)
        for step in sorted(checkpoints):
            load_weights(model, checkpoints[step])
            history.add(step)
    finally:
        model.set_weights(before)
    return history


def load_weights(model, path):
    """Reads a weights file into a model; raises ValueError if it does not fit.

    The state of the model's optimizer, which such a file may hold, stays as it is.
    """
    state = getattr(getattr(model, "optimizer", None), "variables", [])
    before = [variable.numpy() for variable in state]
    try:
        with warnings.catch_warnings():
            # Weights saved apart from an optimizer, or by a model of other containers, are whole.
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
