"""Data sets without labels: synthetic manifolds, archives of examples, and all that have labels."""

import functools
import pathlib

from thesis_tf._core import checks
from thesis_tf._core.seeds import checked_seed
from thesis_tf.datasets import archives, registry, synthetic
from thesis_tf.datasets.assemble import assemble_inputs
from thesis_tf.datasets.splits import SPLIT_NAMES

DEFAULT_COUNTS = (20_000, 2_000, 5_000)


def _mixture(components):
    def draw(count, seed, stream):
        # One manifold for all splits, and for a mixture of few components the same curve.
        return synthetic.manifold10d(seed, components=components).sample(count, seed, stream=stream)

    return draw


_SYNTHETIC = {
    "spiral": synthetic.spiral,
    "spiral15": functools.partial(synthetic.spiral, end=15.0),
    "manifold10d": _mixture(100),
    "manifold10d_25": _mixture(25),
}
INPUT_NAMES = (*_SYNTHETIC, *registry.NAMES)


def load_inputs(name_or_path, data_dir=None, examples=None, seed=0):
    """Loads examples without their labels, for auto-encoders and other density models.

    Args:
        name_or_path: `spiral` (figures 3.5 and 3.7; `spiral15` goes to t = 15), `manifold10d`
            (figure 3.6 with 100 Gaussians; `manifold10d_25` with 25), which are drawn by `seed`; a
            `PATH.npz` with `x` or `x_train` and perhaps `x_validation` and `x_test`; or
            what `datasets.load` takes.
        data_dir: as for `load`.
        examples: how many training, validation and test examples to draw, a triple; None is
            20,000, 2,000 and 5,000 of what is synthetic, all of what is not.
        seed: a non-negative integer.

    Returns:
        Splits whose `y` are their `x` and whose `class_names` are empty. Examples are float32 or
        float64; uint8 pixels become numbers in [0, 1].

    Raises:
        FileNotFoundError, OSError, ImportError, TypeError, ValueError: what `load` raises.
    """
    seed = checked_seed(seed)
    if name_or_path in _SYNTHETIC:
        draw = _SYNTHETIC[name_or_path]
        counts = zip(SPLIT_NAMES, examples or DEFAULT_COUNTS, strict=True)
        arrays = {s: draw(count, seed, stream=i) for i, (s, count) in enumerate(counts)}
        return assemble_inputs(name_or_path, arrays, seed)
    path = pathlib.Path(name_or_path).expanduser()
    if path.suffix == ".npz":
        splits = assemble_inputs(path.stem, archives.read_inputs(path), seed)
    else:
        labelled = _labelled(name_or_path, data_dir, seed)
        arrays = {split: getattr(labelled, split).x for split in SPLIT_NAMES}
        splits = assemble_inputs(labelled.name, arrays, seed)
    if examples is None:
        return splits
    train, validation, test = examples
    return splits.take(train=train, validation=validation, test=test, seed=seed)


def _labelled(name, data_dir, seed):
    try:
        return registry.load(name, data_dir, seed=seed)
    except ValueError as error:
        if "`name_or_path` must be one of" not in str(error):
            raise
        raise checks.invalid(
            "`name_or_path`",
            f"one of {', '.join(INPUT_NAMES)}, tfds:NAME, an .npz archive or a folder of images",
            repr(name),
            checks.nearest(name, INPUT_NAMES),
        ) from None
