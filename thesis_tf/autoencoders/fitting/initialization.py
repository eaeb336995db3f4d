"""Initial weights of a one-layer auto-encoder that the data choose: random features and a ridge."""

import dataclasses

import keras
import numpy as np
import scipy.linalg
import tensorflow as tf

from thesis_tf._core import arrays, checks
from thesis_tf.autoencoders.noise import Schedule

_HELD_OUT = 5  # one example in so many chooses the scale
_ROWS = 1 << 14  # of features at once
_SCALES = tuple(np.geomspace(0.01, 1.0, 9))


@dataclasses.dataclass(frozen=True)
class RandomFeatures:
    """What `initialise_from_data` chose.

    Attributes:
        scale: how much of a hidden unit's noise it takes, inversely, for the unit to bend.
        losses: {scale: squared error of held-out corrupted examples} of all that were tried.
    """

    scale: float
    losses: dict


def initialise_from_data(
    encoder, decoder, x, corruption, *, scales=_SCALES, copies=4, ridge=1e-8, seed=0
):
    """Gives the weights of a DAE with one hidden layer a start near the optimum.

    Each hidden unit is centred on a corrupted example, w'(x - x~_j), so that units bend where data
    and their noise are, and w ~ N(0, (scale / sigma_j)^2 / d I) is the steeper the less noise that
    example has, but no flatter than the data are wide. Then the decoder is what least squares says,
    from the features of corrupted examples to the clean ones. Of several scales the best on
    held-out examples is taken. On the spiral this alone reaches a loss that hundreds of iterations
    of L-BFGS don't come near from Keras' usual start; it takes seconds, most of them in products of
    matrices of as many rows as there are hidden units.

    Args:
        encoder: the `Dense` layer from x to the hidden units, built; any activation that bends.
        decoder: the linear `Dense` layer from them to r(x), built.
        x: (n, ...) array of examples of a floating dtype, flattened as the model does it.
        corruption: what `DenoisingLoss` takes: a sigma, a corruption, `SampledNoise`, whose weights
            the least squares have too, or `DecreasingNoise`, which counts as at its start.
        scales: which to try.
        copies: how often each example is corrupted anew.
        ridge: of the least squares, in units of the features' mean square.
        seed: an integer, of the draws.

    Returns:
        `RandomFeatures`.

    Raises:
        ValueError: the layers don't fit each other and the data, or the decoder isn't linear.
    """
    x = tf.cast(arrays.flat(arrays.checked_points("`x`", x)), tf.float64)
    _check(encoder, decoder, x)
    if not len(scales):
        raise checks.invalid("`scales`", "one scale at least", "none")
    noise, copies = Schedule.of(corruption), checks.positive_integer("`copies`", copies)
    rng = np.random.default_rng(np.random.SeedSequence(seed))
    size, units = encoder.kernel.shape

    def corrupted(rows):
        """Clean and corrupted examples of these rows, weights, and standard deviations."""
        clean = tf.gather(x, rows)
        drawn = noise.draw(clean, rng.integers(1 << 31, size=2, dtype=np.int32))
        weights = np.ones(len(rows)) if drawn.weights is None else drawn.weights.numpy()
        sigma = np.std(drawn.x - clean) if drawn.sigma is None else np.asarray(drawn.sigma)
        return clean.numpy(), drawn.x.numpy(), weights, np.broadcast_to(sigma, len(rows))

    _, centers, _, sigma = corrupted(rng.integers(len(x), size=units))
    directions = rng.standard_normal((size, units)) / np.sqrt(size)
    widest = max(np.sqrt(np.var(x, axis=0).sum()), sigma.max())
    order = rng.permutation(len(x))
    held = max(1, len(x) // _HELD_OUT)
    valid = corrupted(np.tile(order[:held], copies))
    train = corrupted(np.tile(order[held:] if len(x) > 1 else order, copies))
    losses, best = {}, None
    for scale in map(float, scales):
        kernel = directions * np.maximum(scale / sigma, 1 / widest)
        bias = -np.sum(centers.T * kernel, axis=0)

        def features(rows, kernel=kernel, bias=bias):
            activated = keras.ops.convert_to_numpy(encoder.activation(rows @ kernel + bias))
            return np.concatenate([activated, np.ones((len(rows), 1))], axis=1)

        solution = _ridge(features, *train[:3], ridge)
        losses[scale] = _loss(features, *valid[:3], solution)
        if best is None or losses[scale] < losses[best[0]]:
            best = scale, kernel, bias, solution
    scale, kernel, bias, solution = best
    encoder.kernel.assign(kernel)
    encoder.bias.assign(bias)
    decoder.kernel.assign(solution[:-1])
    decoder.bias.assign(solution[-1])
    return RandomFeatures(scale, losses)


def _ridge(features, clean, noisy, weights, ridge):
    """Returns the least squares from features (rows, k) to clean (rows, d), as (k, d)."""
    gram, cross = 0.0, 0.0
    for start in range(0, len(noisy), _ROWS):
        rows = slice(start, start + _ROWS)
        root = np.sqrt(weights[rows, np.newaxis])
        part = root * features(noisy[rows])
        gram = gram + part.T @ part
        cross = cross + part.T @ (root * clean[rows])
    gram[np.diag_indices_from(gram)] += ridge * np.trace(gram) / len(gram)
    return scipy.linalg.solve(gram, cross, assume_a="pos", overwrite_a=True)


def _loss(features, clean, noisy, weights, solution):
    total = 0.0
    for start in range(0, len(noisy), _ROWS):
        rows = slice(start, start + _ROWS)
        error = features(noisy[rows]) @ solution - clean[rows]
        total += weights[rows] @ (error**2).sum(axis=1)
    return float(total / len(noisy))


def _check(encoder, decoder, x):
    for name, layer in (("`encoder`", encoder), ("`decoder`", decoder)):
        if not (isinstance(layer, keras.layers.Dense) and layer.built and layer.use_bias):
            raise checks.invalid(
                name, "a built keras.layers.Dense with a bias", type(layer).__name__
            )
    if decoder.activation is not keras.activations.linear:
        raise checks.invalid(
            "`decoder`", "linear", f"one with activation {decoder.activation.__name__}"
        )
    size, units = encoder.kernel.shape
    if tuple(decoder.kernel.shape) != (units, size) or x.shape[1] != size:
        raise checks.invalid(
            "`x`, `encoder` and `decoder`",
            "of d values, from d to k units and from k back to d",
            f"{x.shape[1]} values, {size} to {units} and {decoder.kernel.shape[0]} to"
            f" {decoder.kernel.shape[1]}",
        )
