"""Markov chains that run in pieces: with a bar, on disk if asked for, and on again after a kill."""

import dataclasses
import json
import pathlib
from collections.abc import Callable

import numpy as np
import tensorflow as tf
import tqdm

from thesis_tf._core import checks
from thesis_tf.persistence import files

_PIECES = 20  # of a run, after each of which the progress bar moves and Ctrl-C gets through


@dataclasses.dataclass(frozen=True)
class Lengths:
    """How many states of each chain are kept, and how they are computed.

    Attributes:
        kept: states that are kept.
        thin: steps for each of them.
        burn_in: steps before the first that counts.
        piece: states in a piece.
    """

    kept: int
    thin: int
    burn_in: int
    piece: int

    @classmethod
    def of(cls, num_steps, burn_in, thin):
        """Returns the lengths of `num_steps` steps after `burn_in`, of every `thin` one kept.

        Raises:
            TypeError, ValueError: what are no such numbers.
        """
        thin = checks.positive_integer("`thin`", thin)
        kept = checks.positive_integer("`num_steps`", num_steps) // thin
        if kept < 1:
            raise checks.invalid("`num_steps`", f"at least `thin`, {thin}", num_steps)
        burn_in = burn_in and checks.positive_integer("`burn_in`, if not 0,", burn_in)
        return cls(kept, thin, burn_in, -(-kept // _PIECES))


@dataclasses.dataclass(frozen=True)
class Pieces:
    """The computation of chains, all pieces of which have one static length.

    Attributes:
        burn_in: a function (state, seed) -> state.
        step: a function (state, seed) -> (state, results): the next piece. A state is a list of
            tensors, results are a dict of tensors.
    """

    burn_in: Callable
    step: Callable


def run(pieces, state, lengths, seed, *, progress=False, folder=None):
    """Runs chains piece by piece.

    Args:
        pieces: `Pieces`.
        state: a list of tensors, where the chains begin.
        lengths: `Lengths`.
        seed: a pair of int32; each piece has a seed of its own.
        progress: whether a terminal shows a bar.
        folder: a `ChainFolder` that keeps the pieces; None keeps nothing.

    Returns:
        (results, state): {name: [array of each piece]}, and the list of arrays after the last.

    Raises:
        ValueError: a state is not finite.
    """
    number_of_pieces = -(-lengths.kept // lengths.piece)
    steps = lengths.piece * lengths.thin
    kept, fold_in = {}, tf.random.experimental.stateless_fold_in
    with tqdm.tqdm(
        total=number_of_pieces * steps, unit="step", disable=None if progress else True
    ) as bar:
        for number in range(number_of_pieces):
            done = None if folder is None else folder.read(number)
            if done is None:
                if number == 0 and lengths.burn_in:
                    state = pieces.burn_in(state, fold_in(seed, -1))
                state, results = pieces.step(state, fold_in(seed, number))
                done = {f"state_{i}": value.numpy() for i, value in enumerate(state)}
                if not all(np.isfinite(value).all() for value in done.values()):
                    raise ValueError(
                        "The chains have diverged: they went to NaN or infinity. Take a smaller"
                        " step, or one that is adjusted."
                    )
                done.update({name: value.numpy() for name, value in results.items()})
                if folder is not None:
                    folder.write(number, done)
            else:
                state = [tf.constant(done[f"state_{i}"]) for i in range(len(state))]
            for name, value in done.items():
                if not name.startswith("state_"):
                    kept.setdefault(name, []).append(value)
            bar.update(steps)
    return kept, [done[f"state_{i}"] for i in range(len(state))]


class ChainFolder:
    """A folder that keeps the pieces of one run of chains.

    Args:
        folder: its path; made if it isn't there.
        settings: what the run is, a dict that JSON can hold.
        values: {name: array} of what the run is that may differ by rounding on another machine,
            such as the score at the start, which tells one model from another.

    Raises:
        ValueError: the folder holds chains of other settings or values.
    """

    def __init__(self, folder, settings, values):
        self._folder = pathlib.Path(folder)
        values = {name: np.asarray(value, float).tolist() for name, value in values.items()}
        own = json.loads(json.dumps({**settings, **values}))
        path = self._folder / "chains.json"
        if not path.exists():
            if self._folder.exists() and (not self._folder.is_dir() or any(self._folder.iterdir())):
                raise checks.invalid("`folder`", "a new or an empty folder", folder)
            files.write_json(path, own)
            return
        there = files.read_json(path)
        same = {key: there.get(key) == value for key, value in own.items()}
        for name in values.keys() & there.keys():
            same[name] = np.shape(there[name]) == np.shape(own[name]) and np.allclose(
                there[name], own[name], rtol=1e-3, atol=1e-6
            )
        if not all(same.values()):
            differing = ", ".join(key for key, is_same in same.items() if not is_same)
            raise checks.invalid(
                "`folder`",
                "a folder for these chains",
                f"{folder}, which holds chains of another {differing}",
                "Choose another, or delete it.",
            )

    def read(self, number):
        """Returns the arrays of a piece, a dict, or None."""
        if not self._path(number).exists():
            return None
        with np.load(self._path(number), allow_pickle=False) as file:
            return dict(file)

    def write(self, number, arrays):
        """Keeps a piece."""
        with files.atomic(self._path(number)) as partial:
            np.savez(partial, **arrays)

    def _path(self, number):
        return self._folder / f"piece_{number:02d}.npz"
