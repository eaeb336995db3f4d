"""Denoising auto-encoders of one-dimensional manifolds, which figures 3.5 to 3.7 look at."""

import dataclasses

import numpy as np

from bin.reproduction.engine import study_cache
from bin.reproduction.engine.contract import Settings


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(Settings):
    """One auto-encoder, tanh(b + W x) to a linear output.

    Attributes:
        dataset: spiral or manifold10d.
        sigma: standard deviation of the noise.
        noise: "plain", of sigma alone, or "sampled": half the examples get noise of up to half the
            extent of the data, at importance weights.
        start: "data": hidden units centred on noisy examples, then least squares; "keras": the
            small random weights that Keras gives.
        scales: that are tried for the first of these.
        units: hidden units.
        examples, copies: how many to train on, and how often each is corrupted, once and for all.
        test: how many others to measure on.
        iterations: of L-BFGS, at most.
        repeat: which of several draws of data, noise and weights.
    """

    dataset: str = "spiral"
    sigma: float = 0.01
    noise: str = "plain"
    start: str = "data"
    scales: tuple = (0.05, 0.1, 0.2)
    units: int = 300
    examples: int = 5000
    copies: int = 2
    test: int = 5000
    iterations: int = 50
    repeat: int = 0

    @property
    def draw(self):
        """The seed of this repeat."""
        return self.seed + self.repeat


def load(config):
    """Returns the `Splits` that it is trained and measured on, float64."""
    from thesis_tf import datasets

    counts = (config.examples, config.test, config.test)
    return datasets.load_inputs(config.dataset, examples=counts, seed=config.draw)


def noisy(config, x, stream=0):
    """Returns examples with noise of sigma; another stream draws other noise."""
    rng = np.random.default_rng([config.draw, 2, stream])
    return x + config.sigma * rng.standard_normal(x.shape)


def estimator(config, found):
    """The `ScoreEstimator` of what `trained` returned."""
    from thesis_tf import autoencoders

    weights = found["weights"]
    model = _network(config, len(weights["encoder"][0]))
    for name, values in weights.items():
        model.get_layer(name).set_weights(values)
    return autoencoders.ScoreEstimator(model, config.sigma)


@study_cache.shared
def trained(config):
    """Trains one; returns its weights, and how the fit went."""
    import keras

    from thesis_tf import autoencoders

    keras.utils.set_random_seed(config.draw)
    x = load(config).train.x
    noise = config.sigma
    if config.noise == "sampled":
        noise = autoencoders.SampledNoise(config.sigma, float(np.ptp(x, axis=0).max()) / 2)
    model = _network(config, x.shape[1])
    if config.start == "data":
        layers = model.get_layer("encoder"), model.get_layer("decoder")
        settings = {"scales": config.scales, "seed": config.draw}
        autoencoders.initialise_from_data(*layers, x, noise, **settings)
    fit = autoencoders.fit_full_batch(
        model,
        autoencoders.DenoisingLoss(noise),
        # Every copy has noise of its own, since noise is drawn by the example's place.
        np.concatenate([x] * config.copies),
        max_iterations=config.iterations,
        seed=(config.draw, 1),
    )
    weights = {name: model.get_layer(name).get_weights() for name in ("encoder", "decoder")}
    return {"weights": weights, "losses": np.array(fit.losses), "converged": fit.converged}


def losses(config, found):
    """Test losses in units of sigma^2: of r, of the identity, and of a kernel density.

    The kernel density of the training examples is the best auto-encoder that there is for them.
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


def _network(config, size):
    import models

    return models.autoencoder((size,), config.units)
