"""Data sets without labels: synthetic manifolds, archives, and labeled data sets."""

from __future__ import annotations

import functools
import os
import pathlib
from collections.abc import Callable
from typing import Any

from thesis_tf._core import checks
from thesis_tf._core.seeds import checked_seed
from thesis_tf._core.types import Array
from thesis_tf.datasets import archives, registry, synthetic
from thesis_tf.datasets.assemble import Source, assemble_inputs
from thesis_tf.datasets.splits import SPLIT_NAMES, Splits
from thesis_tf.datasets.values import Told, checked_told

DEFAULT_COUNTS = (20_000, 2_000, 5_000)


def _mixture(components: int) -> Callable[..., Array]:
    def draw(count: int, *, seed: int, stream: int) -> Array:
        # All splits have the same manifold, and mixtures with fewer components the same curve.
        return synthetic.manifold10d(seed=seed, components=components).sample(
            count, seed=seed, stream=stream
        )

    return draw


_SYNTHETIC: dict[str, Callable[..., Array]] = {
    "spiral": synthetic.spiral,
    "spiral15": functools.partial(synthetic.spiral, end=15.0),
    "manifold10d": _mixture(100),
    "manifold10d_25": _mixture(25),
}
INPUT_NAMES = (*_SYNTHETIC, *registry.NAMES)


def load_inputs(
    name_or_path: str | os.PathLike[str],
    *,
    data_dir: str | os.PathLike[str] | None = None,
    examples: tuple[int, int, int] | None = None,
    value_range: Told = None,
    seed: int = 0,
) -> Splits:
    """Loads examples without their labels, for auto-encoders and other density models.

    Args:
        name_or_path: `spiral` (figures 3.5 and 3.7; `spiral15` goes to t = 15), `manifold10d`
            (figure 3.6 with 100 Gaussians; `manifold10d_25` with 25), which are drawn by `seed`; a
            `PATH.npz` with `x` or `x_train` and optionally `x_validation` and `x_test`; or
            a name or path for `datasets.load`. Splits are those of `load`.
        data_dir: as for `load`.
        examples: the numbers of training, validation and test examples to draw; None draws 20,000,
            2,000 and 5,000 from a synthetic manifold, and uses all of other data.
        value_range: (black, white), which become 0 and 1; "none" for values that are no pixels;
            None judges by the values, as `load` does.
        seed: a non-negative integer.

    Returns:
        Splits whose `y` are their `x` and whose `class_names` are empty. Examples are float32 or
        float64. Integers that are pixels become numbers in [0, 1]; floats stay as they are, unless
        `value_range` tells what black and white are.

    Raises:
        FileNotFoundError, OSError, ImportError, TypeError, ValueError: as for `load`.
    """
    seed, told = checked_seed(seed), checked_told(value_range)
    if isinstance(name_or_path, str) and name_or_path in _SYNTHETIC:
        draw = _SYNTHETIC[name_or_path]
        counts = zip(SPLIT_NAMES, examples or DEFAULT_COUNTS, strict=True)
        arrays = {s: draw(count, seed=seed, stream=i) for i, (s, count) in enumerate(counts)}
        pairs: dict[str, Any] = {s: (x, None) for s, x in arrays.items()}
        source = Source(**pairs, values="none")
        return assemble_inputs(name_or_path, source, value_range=told, seed=seed)
    path = pathlib.Path(name_or_path).expanduser()
    if path.suffix == ".npz":
        name, source = path.stem, archives.read_inputs(path)
    else:
        _check_known(name_or_path)
        name, source = registry.read(name_or_path, data_dir=data_dir, seed=seed)
    splits = assemble_inputs(name, source, value_range=told, seed=seed)
    if examples is None:
        return splits
    train, validation, test = examples
    return splits.take(train=train, validation=validation, test=test, seed=seed)


def has_labels(name_or_path: str | os.PathLike[str]) -> bool:
    """Returns whether a data set of `load_inputs` has labels, so that `load` can load it as well.

    Args:
        name_or_path: as for `load_inputs`. Of an archive, only the names of its arrays are read:
            it has labels if it has `y_train` or `y`. Other files aren't read.

    Raises:
        FileNotFoundError: an archive doesn't exist.
        ValueError: the name is unknown, or the archive is damaged.
    """
    if isinstance(name_or_path, str) and name_or_path in _SYNTHETIC:
        return False
    path = pathlib.Path(name_or_path).expanduser()
    if path.suffix == ".npz":
        return archives.has_labels(path)
    _check_known(name_or_path)
    return True


def _check_known(name_or_path: str | os.PathLike[str]) -> None:
    """Raises unless this is the name of a labeled data set, or a path."""
    if not registry.knows(name_or_path):
        raise checks.invalid(
            "`name_or_path`",
            f"one of {', '.join(INPUT_NAMES)}, tfds:NAME, an archive or a folder of images",
            repr(name_or_path),
            checks.nearest(str(name_or_path), INPUT_NAMES),
        )
