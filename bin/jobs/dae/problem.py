"""The problem of a run of `bin.dae`: the data, the noise, the criterion and the model."""

import dataclasses
import pathlib
from typing import TYPE_CHECKING, Literal, TypeAlias

import keras
import numpy as np

import models
from bin.common import training
from thesis_tf import autoencoders

if TYPE_CHECKING:
    from bin.dae import Config
    from thesis_tf.autoencoders.criteria import Criterion
    from thesis_tf.datasets import Splits

Method: TypeAlias = Literal["lbfgs", "bfgs", "minibatch", "none"]
SMALL = 64  # full-batch methods are the default up to this many values per example
# The spiral's is four times that of figures 3.5 and 3.7, with which chains would hardly move.
_SIGMAS = {"spiral": 0.04, "spiral15": 0.04, "manifold10d": 0.1, "manifold10d_25": 0.1}


@dataclasses.dataclass(frozen=True, eq=False)
class Problem:
    """The data and the defaults that depend on them.

    Attributes:
        config: a `bin.dae.Config`.
        splits: `Splits` of examples without labels.
        sigma: the standard deviation of the noise.
        max_sigma: the standard deviation of the largest noise.
        method: the method by which the model is fitted.
        num_steps: the number of steps of the minibatch method, else 0.
        sigma_is_guessed: whether sigma was taken from the spread of the data.
    """

    config: "Config"
    splits: "Splits"
    sigma: float
    max_sigma: float
    method: Method
    num_steps: int
    sigma_is_guessed: bool

    @property
    def size(self) -> int:
        """The number of values of an example."""
        return int(np.prod(self.splits.train.x.shape[1:]))

    @property
    def title(self) -> str:
        """The title of the figures."""
        return f"{self.splits.name}, sigma = {self.sigma:.3g}"

    def noisy(self, x: np.ndarray, rng: np.random.Generator | None = None) -> np.ndarray:
        """Returns examples with noise of sigma; without `rng`, the noise is always the same."""
        rng = rng or np.random.default_rng([self.config.hardware.seed, 2])
        return (x + self.sigma * rng.standard_normal(x.shape)).astype(x.dtype)

    def criterion(self) -> "Criterion":
        """Returns the criterion that is minimized."""
        if self.config.criterion == "rcae":
            return autoencoders.ReconstructionContractiveLoss(
                self.sigma, jacobian_norm="hutchinson"
            )
        if self.config.noise == "sampled":
            noise: float | autoencoders.NoiseSchedule = self.sampled_noise()
        elif self.config.noise == "decreasing":
            # In the last third of training the noise is sigma.
            num_steps = max(1, 2 * self.num_steps // 3)
            noise = autoencoders.DecreasingNoise(self.max_sigma, self.sigma, num_steps=num_steps)
        else:
            noise = self.sigma
        return autoencoders.DenoisingLoss(noise, walkback=self.config.walkback)

    def initial_noise(self) -> "float | autoencoders.NoiseSchedule":
        """Returns the noise for the initialization, with all sizes that occur in the fit."""
        if self.config.criterion == "rcae" or self.config.noise == "plain":
            return self.sigma
        return self.sampled_noise()

    def sampled_noise(self) -> autoencoders.SampledNoise:
        """Returns noise of sigma and larger noise."""
        return autoencoders.SampledNoise(self.sigma, self.max_sigma)

    def build_model(self) -> keras.Model:
        """Returns r; raises ValueError for a --reconstruction that doesn't fit the data."""
        config, shape = self.config, self.splits.train.x.shape[1:]
        if config.reconstruction:
            if not pathlib.Path(config.reconstruction).is_file():
                raise ValueError(
                    f"--reconstruction must be an existing file. Received: {config.reconstruction}."
                )
            return _fitting(models.build(config.reconstruction, shape, None), shape)
        if config.tied:
            return models.tied_autoencoder(
                shape, units=config.units, activation="tanh", output="linear", name="dae"
            )
        return models.autoencoder(shape, units=config.units, name="dae")


def make(config: "Config", splits: "Splits") -> Problem:
    """Returns the problem; raises ValueError if the data can't be used with this config."""
    train = splits.train.x
    spread = float(np.sqrt(train.var(axis=0).mean()))
    if not spread > 0:
        count = "There is one training example" if len(train) == 1 else "All are equal"
        raise ValueError(
            f"The training examples of {splits.name} must differ. {count}"
            f" ({len(splits.validation)} and {len(splits.test)} are held out)."
        )
    sigma = config.sigma or _SIGMAS.get(splits.name, spread / 2)
    max_sigma = config.max_sigma or float(np.ptp(train, axis=0).max()) / 2
    if config.noise != "plain" and config.criterion == "denoising" and max_sigma <= sigma:
        raise ValueError(
            f"The largest noise, {max_sigma:g} (--max_sigma, by default half the range of the"
            f" data), must be above sigma, {sigma:g} (--sigma). Change one, or use --noise=plain."
        )
    size = int(np.prod(train.shape[1:]))
    method: Method = config.fit or ("lbfgs" if size <= SMALL else "minibatch")
    num_steps = 0
    if method == "minibatch":
        num_steps = training.planned_steps(splits, config.training)
    guessed = config.sigma is None and splits.name not in _SIGMAS
    return Problem(config, splits, sigma, max_sigma, method, num_steps, guessed)


def _fitting(model: keras.Model, shape: tuple[int, ...]) -> keras.Model:
    """Adapts a model to examples of this shape; raises ValueError if this isn't possible."""
    size = int(np.prod(shape))
    ends = [tuple(tensor.shape[1:]) for tensor in (*model.inputs, *model.outputs)]
    if len(ends) != 2 or any(None in end or int(np.prod(end)) != size for end in ends):
        raise ValueError(
            f"--reconstruction must map examples of shape {tuple(shape)} to the same shape, or to"
            f" {size} values in another arrangement. Received: a model with inputs of"
            f" {', '.join(map(str, ends[: len(model.inputs)]))} and outputs of"
            f" {', '.join(map(str, ends[len(model.inputs) :]))}."
        )
    if ends == [tuple(shape)] * 2:
        return model
    inputs = keras.Input(shape, dtype=model.inputs[0].dtype)
    outputs = model(keras.layers.Reshape(ends[0])(inputs))
    return keras.Model(inputs, keras.layers.Reshape(shape)(outputs))
