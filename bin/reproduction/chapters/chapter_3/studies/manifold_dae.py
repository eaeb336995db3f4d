"""Denoising auto-encoders of one-dimensional manifolds, for figures 3.5 to 3.7."""

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from bin.reproduction.engine import study_cache
from bin.reproduction.engine.contract import Settings

if TYPE_CHECKING:
    import keras

    from thesis_tf.autoencoders import ScoreEstimator
    from thesis_tf.datasets import Splits


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(Settings):
    """One auto-encoder: a linear output of tanh(b + W x).

    Attributes:
        dataset: spiral or manifold10d.
        sigma: the standard deviation of the noise.
        noise: "plain": noise of sigma alone; "sampled": half the examples get noise of up to half
            the extent of the data, with importance weights.
        initialization: "data": hidden units centered on noisy examples, then least squares;
            "keras": Keras' small random weights.
        scales: the scales that are tried for initialization "data".
        units: the number of hidden units.
        examples, copies: the number of training examples, and of fixed corruptions of each.
        test: the number of test examples.
        iterations: the maximum number of iterations of L-BFGS.
        repeat: the index of the repeat, which determines data, noise and weights.
    """

    dataset: str = "spiral"
    sigma: float = 0.01
    noise: str = "plain"
    initialization: str = "data"
    scales: tuple[float, ...] = (0.05, 0.1, 0.2)
    units: int = 300
    examples: int = 5000
    copies: int = 2
    test: int = 5000
    iterations: int = 50
    repeat: int = 0

    @property
    def draw(self) -> int:
        """The seed of this repeat."""
        return self.seed + self.repeat


def load(config: Config) -> "Splits":
    """Returns the `Splits` for training and measurement, float64."""
    from thesis_tf import datasets

    counts = (config.examples, config.test, config.test)
    return datasets.load_inputs(config.dataset, examples=counts, seed=config.draw)


def noisy(config: Config, x: npt.NDArray[Any], stream: int = 0) -> npt.NDArray[Any]:
    """Returns examples with noise of sigma, which depends on `stream`."""
    rng = np.random.default_rng([config.draw, 2, stream])
    return x + config.sigma * rng.standard_normal(x.shape)


def estimator(config: Config, found: dict[str, Any]) -> "ScoreEstimator":
    """Returns the `ScoreEstimator` for a result of `trained`."""
    from thesis_tf import autoencoders

    weights = found["weights"]
    model = _network(config, len(weights["encoder"][0]))
    for name, values in weights.items():
        model.get_layer(name).set_weights(values)
    return autoencoders.ScoreEstimator(model, sigma=config.sigma)


@study_cache.shared
def trained(config: Config) -> dict[str, Any]:
    """Trains one auto-encoder; returns its weights, and the losses of the fit."""
    import keras

    from thesis_tf import autoencoders, mcmc

    keras.utils.set_random_seed(config.draw)
    x = load(config).train.x
    noise: float | autoencoders.NoiseSchedule = config.sigma
    if config.noise == "sampled":
        noise = autoencoders.SampledNoise(config.sigma, float(np.ptp(x, axis=0).max()) / 2)
    model = _network(config, x.shape[1])
    if config.initialization == "data":
        autoencoders.initialize_from_data(
            model.get_layer("encoder"),
            model.get_layer("decoder"),
            x,
            noise,
            scales=config.scales,
            seed=config.draw,
        )
    fit = autoencoders.fit_full_batch(
        model,
        autoencoders.DenoisingLoss(noise),
        # Copies get different noise, since the noise depends on the index of an example.
        np.concatenate([x] * config.copies),
        max_iterations=config.iterations,
        seed=mcmc.stream_seed(config.draw, 1),
    )
    weights = {name: model.get_layer(name).get_weights() for name in ("encoder", "decoder")}
    return {"weights": weights, "losses": np.array(fit.losses), "converged": fit.converged}


def losses(config: Config, found: dict[str, Any]) -> dict[str, float]:
    """Returns test losses in units of sigma^2: of r, of the identity, and of a kernel density.

    The kernel density of the training examples is the best possible auto-encoder for them.
    """
    from thesis_tf import autoencoders

    splits = load(config)
    clean, x = splits.test.x, noisy(config, splits.test.x)
    rivals = {
        "r": estimator(config, found).reconstruct(x),
        "identity": x,
        "kernel density": autoencoders.KernelDensity(splits.train.x, config.sigma).reconstruct(x),
    }
    size = len(x) * config.sigma**2
    return {name: float(np.square(r - clean).sum() / size) for name, r in rivals.items()}


def _network(config: Config, size: int) -> "keras.Model":
    import models

    return models.autoencoder((size,), units=config.units)
