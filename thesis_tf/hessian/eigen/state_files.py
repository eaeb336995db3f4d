"""A Lanczos search on disk, as it was after one of its steps."""

import pathlib
import shutil

import numpy as np
import tensorflow as tf

from thesis_tf.persistence import files

STATE = "state.npz"


class Checkpoints:
    """Saves a search to a folder and restores it.

    Vectors never change but at a restart of the recurrence, so each is written once, to a file of
    its own, and those of another restart to another folder. Then comes the file of the state, which
    says how many of them count: a kill at any moment leaves the last state whole.

    Args:
        folder: where to.
        search: a `Lanczos`.

    Raises:
        ValueError: the folder holds the search of another operator.
    """

    def __init__(self, folder, search):
        self._folder, self._search = pathlib.Path(folder), search
        self._written = 0, 0  # restarts, vectors
        self._identity = search.operator.identity()

    def save(self):
        """Writes what is new since the last save."""
        search = self._search
        restarts, written = self._written
        if restarts != search.restarts:
            written = 0
        for number in range(written, len(search.basis)):
            with files.atomic(self._vectors(search.restarts) / f"{number:05d}.npy") as partial:
                np.save(partial, search.basis[number])
        with files.atomic(self._folder / STATE) as partial:
            np.savez(
                partial,
                identity=self._identity,
                next=search.next.numpy(),
                count=len(search.basis),
                **{name: getattr(search, name) for name in search.STATE},
            )
        if restarts != search.restarts:
            shutil.rmtree(self._vectors(restarts), ignore_errors=True)
        self._written = search.restarts, len(search.basis)

    def restore(self):
        """Reads the state into the search; returns whether there was one."""
        path, search = self._folder / STATE, self._search
        if not path.exists():
            return False
        with np.load(path, allow_pickle=False) as arrays:
            found = {name: arrays[name] for name in arrays.files}
        if str(found["identity"]) != self._identity:
            raise ValueError(
                f"{self._folder} holds the search of another operator: other weights, data, loss or"
                " parameters. Choose another folder, or delete it."
            )
        if len(found["matrix"]) != search.capacity:
            raise ValueError(
                f"{self._folder} holds a search of capacity {len(found['matrix'])}, and this one"
                f" has {search.capacity}. Pass capacity={len(found['matrix'])}."
            )
        for name in search.STATE:
            setattr(search, name, found[name] if found[name].ndim else found[name].item())
        search.next = tf.constant(found["next"])
        for number in range(int(found["count"])):
            path = self._vectors(search.restarts) / f"{number:05d}.npy"
            search.basis.append(tf.constant(np.load(path, allow_pickle=False)))
        self._written = search.restarts, len(search.basis)
        return True

    def _vectors(self, restarts):
        return self._folder / f"vectors_{restarts:03d}"
