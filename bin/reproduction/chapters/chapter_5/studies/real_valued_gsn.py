"""Networks of chapter 5 on real-valued images, such as faces: figures 5.8 to 5.10.

Each image is converted to gray, resized by averaging pixels, and standardized to mean 0 and
variance 1, as is usual for faces (`tf.image.per_image_standardization`).
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np

from bin.reproduction.chapters.chapter_5.studies import gsn_chains
from bin.reproduction.engine import contract, study_cache

if TYPE_CHECKING:
    from thesis_tf.datasets import Splits

_SHOWN = 10  # the number of chains whose images are kept
_LAST = 20  # the number of their last steps that are kept
_ENDS = (1, 99)  # the percentiles of pixel values that are drawn black and white


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(contract.Settings):
    """A network, its training, and its chains.

    Attributes:
        stand_in: the data set to use if no faces are given.
        side: the side of the square images, in pixels.
        examples: the maximum numbers of (train, validation, test) examples; log-likelihoods use
            the validation and test examples.
        layers: the numbers of units of the hidden layers.
        noise: the standard deviation of the noise in hidden layers above the first.
        corruption: the standard deviation of the Gaussian noise on images of variance 1.
        smallest: the smallest standard deviation that the network can predict for a pixel.
        walkback: the number of steps of walkback.
        scaling: whether a scaling factor is learned for each of these steps.
        epochs: the number of epochs, in a tuple of length 1.
        batch_size: examples per step.
        learning_rate: the learning rate of Adam at the first step.
        decay: the learning rate at the last step, as a fraction of `learning_rate`.
        clip: the norm to which gradients are clipped, since the gradients of log-densities are
            unbounded.
        chains: (chains, steps); the last states are compared with the nearest training examples.
        compared: the number of test examples that are compared with their nearest training
            examples in the same way.
        scored: (chains, steps, n): the chains from which log-likelihoods are estimated; every nth
            step is kept.
    """

    stand_in: str = "mnist_mini"
    side: int = 20
    examples: tuple[int, int, int] = (50_000, 900, 1000)
    layers: tuple[int, ...] = (400, 400, 400)
    noise: float = 1.0
    corruption: float = 0.5
    smallest: float = 0.3
    walkback: int = 4
    scaling: bool = False
    epochs: tuple[int, ...] = (6,)
    batch_size: int = 50
    learning_rate: float = 2e-3
    decay: float = 0.3
    clip: float = 50.0
    chains: tuple[int, int] = (100, 100)
    compared: int = 200
    scored: tuple[int, int, int] = (8, 4000, 4)

    def data(self) -> str:
        """The name of the data set."""
        return "faces" if self.sources.has("faces") else self.stand_in


_FEWEST = 2  # an example has a nearest and a second nearest


@study_cache.shared
def samples(config: Config) -> dict[str, Any]:
    """Trains the network, runs chains, and finds the nearest training examples.

    Returns:
        {"data", "examples", "side", "losses": (epochs,), "alphas": (epochs, k), "images": (steps,
        10, side, side) uint8 of the last consecutive steps, "nearest": (10, side, side) uint8, the
        training example nearest to each last step, "distances": {"samples": (chains, 2),
        "held_out": (compared, 2)}, the distances to the nearest and the second nearest training
        example, "parzen", "conservative", "mixing"}.

    Raises:
        ValueError: the given faces aren't images, or there are too few.
    """
    import keras

    from thesis_tf import gsn, mcmc
    from thesis_tf.corruption import Gaussian

    splits = _inputs(config)
    train, (count, steps) = splits.train.x, config.chains
    keras.utils.set_random_seed(config.seed)
    model = gsn.GSN(
        config.layers,
        noise=config.noise,
        corruption=Gaussian(config.corruption),
        walkback=config.walkback,
        scaling=config.scaling,
        reconstruction=gsn.Normal(smallest=config.smallest),
        seed=config.seed,
    )
    model.build((None, *train.shape[1:]))
    records: list[dict[str, Any]] = []
    for _ in gsn_chains.trained(model, splits, config, records):
        pass
    begun = gsn_chains.starts(config, splits, count)
    kernel, seed = model.transition_kernel(), mcmc.stream_seed(config.seed, 2)
    drawn = mcmc.sample_chain(
        kernel, begun, steps, seed=seed, output_fn=kernel.mean, verbose=0
    ).samples
    distances, nearest = _nearest(drawn[-1], train)
    low, high = np.percentile(train, _ENDS)
    return {
        "data": config.data(),
        "examples": len(train),
        "side": config.side,
        "losses": np.array([record["loss"] for record in records]),
        "alphas": np.array([record["alphas"] for record in records]),
        "images": gsn_chains.pixels((drawn[-_LAST:, :_SHOWN] - low) / (high - low)),
        "nearest": gsn_chains.pixels((train[nearest[:_SHOWN]] - low) / (high - low)),
        "distances": {
            "samples": distances,
            "held_out": _nearest(splits.test.x[: config.compared], train)[0],
        },
        **gsn_chains.scored(config, model, splits),
    }


def _inputs(config: Config) -> Splits:
    from thesis_tf import datasets

    sources = config.sources
    name = sources.faces if config.data() == "faces" else config.stand_in
    assert name is not None  # `data` says faces only if there is a file
    splits = datasets.load_inputs(name, data_dir=sources.data_dir, seed=config.seed)
    parts = (splits.train, splits.validation, splits.test)
    shape, fewest = splits.train.x.shape, min(map(len, parts))
    if len(shape) not in (3, 4) or shape[3:] not in ((), (1,), (3,)) or fewest < _FEWEST:
        raise ValueError(
            "--faces must be images of shape (n, height, width), (n, height, width, 1) or (n,"
            f" height, width, 3), at least {_FEWEST} each for training, validation and test."
            f" Received: {shape} and {' and '.join(str(len(part)) for part in parts[1:])}."
        )
    names = ("train", "validation", "test")
    counts = {
        name: min(most, len(part))
        for name, most, part in zip(names, config.examples, parts, strict=True)
    }
    splits = splits.take(**counts, seed=config.seed)
    scaled = {name: _normalized(getattr(splits, name).x, config.side) for name in names}
    parts_scaled: dict[str, Any] = {name: datasets.Split(x, x) for name, x in scaled.items()}
    return dataclasses.replace(splits, **parts_scaled)


def _normalized(x: np.ndarray, side: int) -> np.ndarray:
    """Returns gray images (n, side, side, 1), each of mean 0 and variance 1."""
    import tensorflow as tf

    x = tf.constant(x[..., np.newaxis] if x.ndim == 3 else x, tf.float32)
    x = tf.image.rgb_to_grayscale(x) if x.shape[-1] == 3 else x
    return tf.image.per_image_standardization(tf.image.resize(x, (side, side), "area")).numpy()


def _nearest(images: np.ndarray, train: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns distances (n, 2) to the two nearest training examples, and the first's index (n,)."""
    import scipy.spatial

    flat = [np.reshape(x, (len(x), -1)) for x in (images, train)]
    distances = scipy.spatial.distance.cdist(*flat)
    return np.sort(np.partition(distances, 1, axis=1)[:, :2], axis=1), distances.argmin(axis=1)
