"""Chains on disk, piece by piece, so that they go on after a kill."""

import json
import pathlib

import numpy as np

from thesis_tf import _checks, _files


class ChainFolder:
    """A folder that keeps the pieces of one run of chains.

    Args:
        folder: its path; made if it isn't there.
        settings: what the run is, a dict that JSON can hold.
        score: (k,) values of the score at its start, which tell one r from another, up to the
            rounding of another machine.

    Raises:
        ValueError: the folder holds chains of other settings or another score.
    """

    def __init__(self, folder, settings, score):
        self._folder = pathlib.Path(folder)
        own = json.loads(json.dumps({**settings, "score": np.asarray(score, float).tolist()}))
        path = self._folder / "chains.json"
        if not path.exists():
            if self._folder.exists() and (not self._folder.is_dir() or any(self._folder.iterdir())):
                raise _checks.invalid("`folder`", "a new or an empty folder", folder)
            _files.write_json(path, own)
            return
        there = _files.read_json(path)
        same = {key: there.get(key) == value for key, value in own.items()}
        same["score"] = np.allclose(there["score"], own["score"], rtol=1e-3, atol=1e-6)
        if not all(same.values()):
            differing = ", ".join(key for key, is_same in same.items() if not is_same)
            raise _checks.invalid(
                "`folder`",
                "a folder for these chains",
                f"{folder}, which holds chains of another {differing}",
                "Choose another, or delete it.",
            )

    def read(self, number):
        """Returns the states (steps, chains, ...) and acceptances (chains,) of a piece, or None."""
        if not self._path(number).exists():
            return None
        with np.load(self._path(number), allow_pickle=False) as file:
            return file["states"], file["accepted"]

    def write(self, number, states, accepted):
        """Keeps a piece."""
        with _files.atomic(self._path(number)) as partial:
            np.savez(partial, states=states, accepted=accepted)

    def _path(self, number):
        return self._folder / f"piece_{number:02d}.npz"
