"""Extreme eigenvalues over training (thesis, figures 11.5 and 11.6)."""

import pathlib

import tensorflow as tf

from thesis_tf import _checks, _files
from thesis_tf.hessian.eigenpairs import Eigenpairs, extreme_eigenpairs
from thesis_tf.hessian.subset import angles

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
            the outermost first), "converged", "products", and "angles": for each end the degrees
            between eigenvectors of a rank and those of the entry before; None for the first.
    """

    def __init__(
        self, operator, folder=None, largest=20, smallest=3, tol=1e-3, *, log_dir=None, **options
    ):
        self._operator, self._options = operator, options
        self._ends, self._tol = (largest, smallest), tol
        self._folder = None if folder is None else pathlib.Path(folder)
        self._writer = None if log_dir is None else tf.summary.create_file_writer(str(log_dir))
        self.entries, self._latest = [], None
        if self._folder is not None and (self._folder / HISTORY).exists():
            self.entries = _files.read_json(self._folder / HISTORY)
            for entry in self.entries:
                found = len(entry["largest"]), len(entry["smallest"])
                if found != (largest, smallest):
                    raise _checks.invalid(
                        "`largest` and `smallest`", f"{found}, as in {folder}", self._ends
                    )
            self._latest = Eigenpairs.load(self._pairs(self.entries[-1]["step"]))

    @property
    def steps(self):
        """The steps that there are entries of."""
        return [entry["step"] for entry in self.entries]

    def add(self, step):
        """Adds an entry for the weights that the model has now, and returns it."""
        if step in self.steps:
            return self.entries[self.steps.index(step)]
        self._operator.refresh()
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
            "loss": self._operator.loss(),
            "largest": pairs.values[upper].tolist(),
            "smallest": pairs.values[lower].tolist(),
            "converged": bool(pairs.converged.all()),
            "products": pairs.products,
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
            _files.write_json(self._folder / HISTORY, self.entries)
            for older in self.entries[:-1]:
                _files.remove(self._pairs(older["step"]))
            _files.remove(search)
        return entry

    def table(self):
        """A table for people."""
        lines = [
            f"{'step':>8} {'loss':>9} {'largest':>10} {'smallest':>10} {'angle':>7} {'angle':>7}"
        ]
        for entry in self.entries:
            turned = [
                f"{a[0]:6.1f}°" if a else ""
                for a in (entry["angles"] or {"largest": [], "smallest": []}).values()
            ]
            ends = [f"{e[0]:10.4g}" if e else "" for e in (entry["largest"], entry["smallest"])]
            lines.append(
                f"{entry['step']:8} {entry['loss']:9.4f} {ends[0]:>10} {ends[1]:>10}"
                f" {turned[0]:>7} {turned[1]:>7}"
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
    if not checkpoints:
        raise _checks.invalid("`checkpoints`", "at least one", "none")
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
    """Reads a weights file into a model; raises ValueError if it does not fit."""
    try:
        model.load_weights(path)
    except (ValueError, OSError, KeyError) as error:
        raise _checks.invalid(
            "A checkpoint", f"a weights file of {model.name}", path, str(error).splitlines()[0]
        ) from error
