"""Criteria for fitting auto-encoders, for any function x -> r(x) (thesis, 3.2).

A criterion is called as `criterion(reconstruct, x, target, seed=seed, step=step)` and returns one
loss per example, shape (n,). `CriterionModel` minimizes the mean loss with any Keras optimizer,
`fit_full_batch` with quasi-Newton methods. All random numbers depend on `seed`.
"""

from collections.abc import Callable, Sequence
from typing import Literal, Protocol, TypeAlias

import keras
import tensorflow as tf

from thesis_tf._core import arrays, checks
from thesis_tf._keras.loss.last_activation import of_tensor
from thesis_tf.autoencoders.density.derivatives import jacobians
from thesis_tf.autoencoders.noise_schedules import DecreasingNoise, NoiseSchedule, SupportsSample

# A Keras model or a function, from points (n, ...) to points (n, ...).
Reconstruct: TypeAlias = Callable[[tf.Tensor], tf.Tensor]
Distance: TypeAlias = Literal["squared_error", "bernoulli", "bernoulli_from_logits"]
# TensorFlow's stateless seeds: a pair of integers.
SeedPair: TypeAlias = tf.Tensor | Sequence[int]


class Criterion(Protocol):
    """A function of a reconstruction function and a batch: one loss per example."""

    def __call__(
        self,
        reconstruct: Reconstruct,
        x: tf.Tensor,
        target: tf.Tensor | None = None,
        *,
        seed: SeedPair = (0, 0),
        step: int | tf.Tensor = 0,
    ) -> tf.Tensor:
        """Returns the losses (n,) of a batch."""


def squared_error(target: tf.Tensor, outputs: tf.Tensor) -> tf.Tensor:
    """Returns |x - r|^2 per example: (n,)."""
    return tf.reduce_sum(tf.square(arrays.flat(outputs - target)), axis=1)


def bernoulli(target: tf.Tensor, outputs: tf.Tensor) -> tf.Tensor:
    """Returns the cross-entropy of targets in [0, 1] with probabilities, per example: (n,).

    It uses the logits if outputs come from a sigmoid that Keras knows, as Keras does. Outputs
    outside [0, 1], which Keras would clip, give NaN.
    """
    possible = tf.reduce_all(arrays.flat((outputs >= 0) & (outputs <= 1)), axis=1)
    values = keras.ops.binary_crossentropy(target, outputs, from_logits=False)
    losses = tf.reduce_sum(arrays.flat(values), axis=1)
    return tf.where(possible, losses, tf.constant(float("nan"), losses.dtype))


def bernoulli_from_logits(target: tf.Tensor, outputs: tf.Tensor) -> tf.Tensor:
    """Returns the cross-entropy of targets in [0, 1] with sigmoid(outputs), per example: (n,).

    Raises:
        ValueError: outputs come from a sigmoid already.
    """
    check_activation("bernoulli_from_logits", of_tensor(outputs))
    values = tf.nn.sigmoid_cross_entropy_with_logits(labels=target, logits=outputs)
    return tf.reduce_sum(arrays.flat(values), axis=1)


DISTANCES: dict[str, Callable[[tf.Tensor, tf.Tensor], tf.Tensor]] = {
    "squared_error": squared_error,
    "bernoulli": bernoulli,
    "bernoulli_from_logits": bernoulli_from_logits,
}


def check_activation(distance: str, activation: str | None) -> None:
    """Raises ValueError if a distance takes logits and a model ends in a bounded activation."""
    if distance == "bernoulli_from_logits" and activation is not None:
        raise checks.invalid(
            "`distance`",
            "'bernoulli' for a model that returns probabilities",
            f"'bernoulli_from_logits' with a model that ends in the activation {activation}",
        )


def _checked_target(x: tf.Tensor, target: tf.Tensor | None) -> tf.Tensor:
    if target is None:
        return x
    if not x.shape.is_compatible_with(target.shape):
        raise checks.invalid(
            "`target`",
            f"of the shape of x, {tuple(x.shape)}",
            f"shape {tuple(target.shape)}",
            "Auto-encoders have no labels: pass only x, or (x, x).",
        )
    return tf.cast(target, x.dtype)


class DenoisingLoss:
    """The denoising auto-encoder: E[l(x, r(x~))] with x~ ~ C(x~ | x) (Eq 3.2).

    With squared error and Gaussian corruption of standard deviation sigma, (r(x) - x) / sigma^2
    becomes the score of the density of the data, smoothed by sigma (Theorem 1).

    Costs one forward and one backward pass, times `walkback`.

    Args:
        corruption: an object with `sample(x, seed)`, such as those of `thesis_tf.corruption`; a
            number, the sigma of Gaussian noise; `DecreasingNoise` or `SampledNoise`; or None, if
            the inputs are already corrupted and targets are given, for a fixed corruption (3.3.4).
        distance: l(x, r): "squared_error"; for x in [0, 1] also "bernoulli", if outputs are
            probabilities, or "bernoulli_from_logits".
        walkback: the number of rounds of corruption and reconstruction, each from the last
            reconstruction; the loss is the mean over all rounds, each compared with x. Walkback
            improves r far from the data (thesis, 3.4.3 and 5.3.2). Gradients don't flow between
            rounds.
    """

    def __init__(
        self,
        corruption: NoiseSchedule | SupportsSample | float | None,
        *,
        distance: Distance = "squared_error",
        walkback: int = 1,
    ) -> None:
        checks.one_of("`distance`", distance, DISTANCES)
        self.corruption = None if corruption is None else NoiseSchedule.of(corruption)
        self.distance = distance
        self.walkback = checks.positive_integer("`walkback`", walkback)
        if corruption is None and self.walkback > 1:
            raise checks.invalid("`walkback`", "1 without a corruption", walkback)

    @property
    def needs_steps(self) -> str | None:
        """Why the loss isn't a fixed function of the parameters, a phrase; None if it is."""
        if self.walkback > 1:
            return "walkback, whose gradient leaves out earlier reconstructions"
        if isinstance(self.corruption, DecreasingNoise):
            return "noise that decreases over training steps"
        return None

    def __call__(
        self,
        reconstruct: Reconstruct,
        x: tf.Tensor,
        target: tf.Tensor | None = None,
        *,
        seed: SeedPair = (0, 0),
        step: int | tf.Tensor = 0,
    ) -> tf.Tensor:
        """Returns the losses (n,) of a batch.

        Args:
            reconstruct: a Keras model or a function, from (n, ...) to (n, ...).
            x: (n, ...), clean inputs, or corrupted inputs if `corruption` is None.
            target: the target of the reconstruction, (n, ...); None is x.
            seed: a pair of integers.
            step: the training step, on which the size of the noise may depend.
        """
        target = _checked_target(x, target)
        if self.corruption is None:
            return self._distance(target, arrays.reconstruction(reconstruct, x))
        total = 0.0
        for number in range(self.walkback):
            round_seed = tf.random.experimental.stateless_fold_in(seed, number)
            corrupted = self.corruption.draw(x, round_seed, step=step)
            r = arrays.reconstruction(reconstruct, corrupted.x)
            losses = self._distance(target, r)
            weights = corrupted.importance_weights
            total += losses if weights is None else weights * losses
            x = tf.stop_gradient(tf.sigmoid(r) if self.distance.endswith("logits") else r)
        return total / self.walkback

    def _distance(self, target: tf.Tensor, r: tf.Tensor) -> tf.Tensor:
        return DISTANCES[self.distance](target, r)


class _JacobianRegularized:
    """A distance between x and r(x), and a multiple of the squared norm of a Jacobian."""

    def __init__(
        self, distance: Distance, jacobian_norm: jacobians.NormEstimate, num_vectors: int
    ) -> None:
        self.distance = checks.one_of("`distance`", distance, DISTANCES)
        self.jacobian_norm = checks.one_of("`jacobian_norm`", jacobian_norm, jacobians.ESTIMATES)
        self.num_vectors = checks.positive_integer("`num_vectors`", num_vectors)

    def _losses(
        self,
        reconstruct: Reconstruct,
        contracted: Reconstruct,
        coefficient: float,
        x: tf.Tensor,
        target: tf.Tensor | None,
        seed: SeedPair,
    ) -> tf.Tensor:
        losses = DISTANCES[self.distance](
            _checked_target(x, target), arrays.reconstruction(reconstruct, x)
        )
        norms = jacobians.squared_norm(
            contracted, x, estimate=self.jacobian_norm, num_vectors=self.num_vectors, seed=seed
        )
        return losses + coefficient * norms


class ContractiveLoss(_JacobianRegularized):
    """The contractive auto-encoder: E[l(x, r(x)) + lambda |dh/dx|_F^2], h the encoder (Eq 3.1).

    Besides a forward and a backward pass, the norm costs one backward pass per hidden unit if it is
    "exact", or `num_vectors` backward passes if it is "hutchinson", which is unbiased. Encoder and
    decoder should have tied weights, as in `models.tied_autoencoder`; otherwise the encoder's
    weights shrink and the decoder's weights grow to compensate.

    Args:
        encoder: the function h, from x (n, ...) to (n, ...), part of the model that is trained.
        coefficient: the positive coefficient of the squared norm, lambda in the thesis.
        distance: as for `DenoisingLoss`.
        jacobian_norm: "exact" or "hutchinson".
        num_vectors: random vectors per example, for "hutchinson".
    """

    def __init__(
        self,
        encoder: Reconstruct,
        coefficient: float,
        *,
        distance: Distance = "squared_error",
        jacobian_norm: jacobians.NormEstimate = "exact",
        num_vectors: int = 1,
    ) -> None:
        super().__init__(distance, jacobian_norm, num_vectors)
        self.coefficient = checks.positive_number("`coefficient`", coefficient)
        if not callable(encoder):
            raise checks.invalid(
                "`encoder`", "a function from x to h", type(encoder).__name__, kind=TypeError
            )
        self.encoder = encoder

    def __call__(
        self,
        reconstruct: Reconstruct,
        x: tf.Tensor,
        target: tf.Tensor | None = None,
        *,
        seed: SeedPair = (0, 0),
        step: int | tf.Tensor = 0,
    ) -> tf.Tensor:
        """Returns the losses (n,) of a batch; the arguments are those of `DenoisingLoss`."""
        return self._losses(reconstruct, self.encoder, self.coefficient, x, target, seed)


class ReconstructionContractiveLoss(_JacobianRegularized):
    """The RCAE: E[|r(x) - x|^2 + sigma^2 |dr/dx|_F^2], all of r contracted (Eq 3.6).

    For small sigma it is the denoising loss of Gaussian noise (Proposition 1), without noise; (r(x)
    - x) / sigma^2 becomes the score of the density of the data (Theorem 2). The exact norm costs
    one backward pass per value of x, "hutchinson" costs `num_vectors`.

    Args:
        sigma: positive, in the units of x.
        jacobian_norm: "exact" or "hutchinson".
        num_vectors: random vectors per example, for "hutchinson".
    """

    def __init__(
        self,
        sigma: float,
        *,
        jacobian_norm: jacobians.NormEstimate = "exact",
        num_vectors: int = 1,
    ) -> None:
        super().__init__("squared_error", jacobian_norm, num_vectors)
        self.sigma = checks.positive_number("`sigma`", sigma)

    def __call__(
        self,
        reconstruct: Reconstruct,
        x: tf.Tensor,
        target: tf.Tensor | None = None,
        *,
        seed: SeedPair = (0, 0),
        step: int | tf.Tensor = 0,
    ) -> tf.Tensor:
        """Returns the losses (n,) of a batch; the arguments are those of `DenoisingLoss`."""
        return self._losses(reconstruct, reconstruct, self.sigma**2, x, target, seed)
