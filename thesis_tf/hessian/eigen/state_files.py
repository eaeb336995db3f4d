"""Saves a Lanczos search in a folder, so that it continues after a kill."""

import pathlib
import shutil

import numpy as np
import tensorflow as tf

from thesis_tf._core.types import Path
from thesis_tf.hessian.eigen.basis import Basis
from thesis_tf.hessian.eigen.lanczos import LanczosState
from thesis_tf.persistence import arrays, files

STATE = "state.npz"
_NUMBERS = ("coupling", "products", "restarts", "norm", "begun")


class StateFolder:
    """Saves the states of a search and loads the last one.

    Vectors change only at a restart. So each vector is written once, to one file, and there is one
    folder of vectors per restart. The file of the state is written last and has the number of valid
    vectors, so the last state is complete after a kill at any moment.

    Args:
        folder: the folder to write to.
        fingerprint: the fingerprint of the operator.
    """

    def __init__(self, folder: Path, fingerprint: str) -> None:
        self._folder, self._fingerprint = pathlib.Path(folder), fingerprint
        self._restarts = self._written = 0

    def save(self, state: LanczosState) -> None:
        """Writes a state, and those of its vectors that are not saved yet."""
        written = self._written if self._restarts == state.restarts else 0
        for number in range(written, state.count):
            with files.atomic(self._vectors(state.restarts) / f"{number:05d}.npy") as partial:
                np.save(partial, state.basis[number])
        arrays.save(
            self._folder / STATE,
            {
                "fingerprint": np.array(self._fingerprint),
                "next": state.next.numpy(),
                "count": np.array(state.count),
                "matrix": state.matrix,
                "found": state.found,
                **{name: np.array(getattr(state, name)) for name in _NUMBERS},
            },
        )
        if self._restarts != state.restarts:
            shutil.rmtree(self._vectors(self._restarts), ignore_errors=True)
        self._restarts, self._written = state.restarts, state.count

    def load(self, basis: Basis, *, largest: int, smallest: int) -> LanczosState | None:
        """Reads the last state, and its vectors into an empty basis; None if nothing is saved.

        Args:
            basis: a basis with the same `ncv` as that of the saved search.
            largest, smallest: the number of requested eigenvalues at each end, which may differ
                from that of the saved search.

        Raises:
            ValueError: the folder holds the search of another operator, or one with another `ncv`.
        """
        path = self._folder / STATE
        if not path.exists():
            return None
        found = arrays.load(path)
        if str(found.get("fingerprint")) != self._fingerprint:
            raise ValueError(
                f"{self._folder} holds the search of another operator: other weights, data, loss or"
                " parameters. Choose another folder, or delete it."
            )
        ncv = len(found["matrix"])
        if ncv != basis.ncv:
            raise ValueError(
                f"{self._folder} holds a search with ncv={ncv}, and this one has"
                f" {basis.ncv}. Pass ncv={ncv}."
            )
        count, restarts = found["count"].item(), found["restarts"].item()
        for number in range(count):
            path = self._vectors(restarts) / f"{number:05d}.npy"
            basis.put(number, tf.constant(np.load(path, allow_pickle=False)))
        basis.replacements = restarts
        self._restarts, self._written = restarts, count
        return LanczosState(
            basis=basis,
            count=count,
            matrix=found["matrix"],
            next=tf.constant(found["next"]),
            largest=largest,
            smallest=smallest,
            found=found["found"],
            **{name: found[name].item() for name in _NUMBERS},
        )

    def _vectors(self, restarts: int) -> pathlib.Path:
        return self._folder / f"vectors_{restarts:03d}"
