"""What auto-encoders are trained to minimise, for any function x -> r(x) (thesis, 3.2).

Each criterion is called as `criterion(reconstruct, x, target, seed, step)` and returns a loss an
example, shape (n,). `Trainer` minimises its mean by any Keras optimizer, `fit_full_batch` by
quasi-Newton methods. All randomness comes from `seed`, so the same seed is the same loss.
"""

import keras
import tensorflow as tf

from thesis_tf._core import arrays, checks
from thesis_tf.autoencoders.density import jacobians
from thesis_tf.autoencoders.noise import DecreasingNoise, Schedule


def squared_error(target, outputs):
    """Returns |x - r|^2, summed over an example's values: (n,)."""
    return tf.reduce_sum(tf.square(arrays.flat(outputs - target)), axis=1)


def bernoulli(target, outputs):
    """Returns the cross-entropy of targets in [0, 1] with probabilities, summed: (n,)."""
    values = keras.ops.binary_crossentropy(target, outputs, from_logits=False)
    return tf.reduce_sum(arrays.flat(values), axis=1)


def bernoulli_from_logits(target, outputs):
    """Returns the cross-entropy of targets in [0, 1] with sigmoid(outputs), summed: (n,)."""
    values = tf.nn.sigmoid_cross_entropy_with_logits(labels=target, logits=outputs)
    return tf.reduce_sum(arrays.flat(values), axis=1)


DISTANCES = {f.__name__: f for f in (squared_error, bernoulli, bernoulli_from_logits)}


def _checked_target(x, target):
    if target is None:
        return x
    if not x.shape.is_compatible_with(target.shape):
        raise checks.invalid(
            "`target`",
            f"of the shape of x, {tuple(x.shape)}",
            f"shape {tuple(target.shape)}",
            "Labels have no place here: pass x alone, or (x, x).",
        )
    return tf.cast(target, x.dtype)


class DenoisingLoss:
    """The denoising auto-encoder: E[l(x, r(x~))] with x~ ~ C(x~ | x) (Eq 3.2).

    With squared error and Gaussian corruption of standard deviation sigma, (r(x) - x) / sigma^2
    becomes the score of the data's density, smoothed by sigma (Theorem 1).

    Costs one forward and one backward pass, times `walkback`.

    Args:
        corruption: an object with `sample(x, seed)`, as those of `thesis_tf.corruption`; a number,
            which is the sigma of Gaussian noise; `DecreasingNoise` or `SampledNoise`; or None,
            where the inputs are corrupted already and targets are given: the same corruption,
            sampled once and for all (3.3.4).
        distance: l(x, r): "squared_error", or for x in [0, 1] "bernoulli", of outputs that are
            probabilities, or "bernoulli_from_logits".
        walkback: how many times to corrupt and reconstruct on from the last reconstruction; the
            loss is the mean over all, each against x. What r puts out far from the data is then
            corrected (thesis, 3.4.3 and 5.3.2). No gradient goes through the steps before.
    """

    def __init__(self, corruption, *, distance="squared_error", walkback=1):
        checks.one_of("`distance`", distance, DISTANCES)
        self.corruption = None if corruption is None else Schedule.of(corruption)
        self.distance = distance
        self.walkback = checks.positive_integer("`walkback`", walkback)
        if corruption is None and self.walkback > 1:
            raise checks.invalid("`walkback`", "1 without a corruption", walkback)

    @property
    def needs_steps(self):
        """Why the loss is no fixed function of the weights, in words; None if it is one."""
        if self.walkback > 1:
            return "walkback, through whose reconstructions no gradient goes"
        if isinstance(self.corruption, DecreasingNoise):
            return "noise that decreases over training steps"
        return None

    def __call__(self, reconstruct, x, target=None, seed=(0, 0), step=0):
        """Returns the losses (n,) of a batch.

        Args:
            reconstruct: a Keras model or a function, from (n, ...) to (n, ...).
            x: (n, ...), clean inputs, or corrupted ones where `corruption` is None.
            target: what to reconstruct, (n, ...); None is x.
            seed: a pair of integers.
            step: the training step, by which noise may decrease.
        """
        target = _checked_target(x, target)
        if self.corruption is None:
            return self._distance(target, arrays.reconstruction(reconstruct, x))
        total = 0.0
        for turn in range(self.walkback):
            turn_seed = tf.random.experimental.stateless_fold_in(seed, turn)
            drawn = self.corruption.draw(x, turn_seed, step)
            r = arrays.reconstruction(reconstruct, drawn.x)
            losses = self._distance(target, r)
            total += losses if drawn.weights is None else drawn.weights * losses
            x = tf.stop_gradient(tf.sigmoid(r) if self.distance.endswith("logits") else r)
        return total / self.walkback

    def _distance(self, target, r):
        return DISTANCES[self.distance](target, r)


class _Penalised:
    """A distance between x and r(x), and a multiple of the squared norm of a Jacobian."""

    def __init__(self, distance, penalty, num_probes):
        self.distance = checks.one_of("`distance`", distance, DISTANCES)
        self.penalty = checks.one_of("`penalty`", penalty, jacobians.FORMS)
        self.num_probes = checks.positive_integer("`num_probes`", num_probes)

    def _losses(self, reconstruct, penalised, weight, x, target, seed):
        losses = DISTANCES[self.distance](
            _checked_target(x, target), arrays.reconstruction(reconstruct, x)
        )
        norms = jacobians.squared_norm(penalised, x, self.penalty, self.num_probes, seed)
        return losses + weight * norms


class ContractiveLoss(_Penalised):
    """The contractive auto-encoder: E[l(x, r(x)) + weight |dh/dx|_F^2], h the encoder (Eq 3.1).

    The penalty costs, beside a forward and a backward pass, as many backward passes as there are
    hidden units if it is "exact", `num_probes` if it is "hutchinson", which is unbiased
    (`jacobians.squared_norm`). Encoder and decoder should share tied weights, as those of
    `models.tied_autoencoder`: else the encoder shrinks and the decoder makes up for it.

    Args:
        encoder: the function h, from x (n, ...) to (n, ...), part of the model that is trained.
        weight: of the penalty, lambda in the thesis; positive.
        distance: as for `DenoisingLoss`.
        penalty: "exact" or "hutchinson".
        num_probes: random vectors an example, for "hutchinson".
    """

    def __init__(self, encoder, weight, *, distance="squared_error", penalty="exact", num_probes=1):
        super().__init__(distance, penalty, num_probes)
        self.weight = checks.positive_number("`weight`", weight)
        if not callable(encoder):
            raise checks.invalid(
                "`encoder`", "a function from x to h", type(encoder).__name__, kind=TypeError
            )
        self.encoder = encoder

    def __call__(self, reconstruct, x, target=None, seed=(0, 0), step=0):
        """Returns the losses (n,) of a batch; arguments are those of `DenoisingLoss`."""
        return self._losses(reconstruct, self.encoder, self.weight, x, target, seed)


class ReconstructionContractiveLoss(_Penalised):
    """The RCAE: E[|r(x) - x|^2 + sigma^2 |dr/dx|_F^2], all of r contracted (Eq 3.6).

    For small sigma it is the denoising loss of Gaussian noise (Proposition 1), without noise; (r(x)
    - x) / sigma^2 becomes the score of the data's density (Theorem 2). The exact penalty costs as
    many backward passes as x has values, "hutchinson" `num_probes`.

    Args:
        sigma: positive, in the units of x.
        penalty: "exact" or "hutchinson".
        num_probes: random vectors an example, for "hutchinson".
    """

    def __init__(self, sigma, *, penalty="exact", num_probes=1):
        super().__init__("squared_error", penalty, num_probes)
        self.sigma = checks.positive_number("`sigma`", sigma)

    def __call__(self, reconstruct, x, target=None, seed=(0, 0), step=0):
        """Returns the losses (n,) of a batch; arguments are those of `DenoisingLoss`."""
        return self._losses(reconstruct, reconstruct, self.sigma**2, x, target, seed)
