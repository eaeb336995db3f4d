"""Initial weights of a one-layer auto-encoder, from data: random features and ridge regression."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import keras
import numpy as np
import scipy.linalg
import tensorflow as tf

from thesis_tf._core import arrays, checks, seeds
from thesis_tf._core.types import Array, TensorLike
from thesis_tf.autoencoders.noise_schedules import NoiseSchedule, SupportsSample
from thesis_tf.reporting.results import TabularResult
from thesis_tf.reporting.tables import Cell

# From rows (n, d) of corrupted examples to features (n, k).
_Features: TypeAlias = Callable[[Array], Array]

_HELD_OUT = 5  # one example in five is held out to choose the scale
_ROWS = 1 << 14  # the number of rows of features computed at once
_SCALES = tuple(np.geomspace(0.01, 1.0, 9))


@dataclasses.dataclass(frozen=True)
class RandomFeatures(TabularResult):
    """The scale of the hidden units that `initialize_from_data` chose.

    Attributes:
        scale: the inverse width of the transition of a hidden unit, in units of the noise.
        losses: {scale: squared error on held-out corrupted examples}, for all scales.
    """

    scale: float
    losses: dict[float, float]

    def _table(self) -> tuple[Sequence[str], Sequence[Sequence[Cell]]]:
        return ("scale", "held-out loss"), list(self.losses.items())

    def summary(self) -> dict[str, Any]:
        """Returns the fields as a plain dict."""
        return dataclasses.asdict(self)


def initialize_from_data(
    encoder: keras.layers.Dense,
    decoder: keras.layers.Dense,
    x: TensorLike,
    corruption: NoiseSchedule | SupportsSample | float,
    *,
    scales: Sequence[float] = _SCALES,
    num_copies: int = 4,
    ridge: float = 1e-8,
    seed: int = 0,
) -> RandomFeatures:
    """Initializes a DAE with one hidden layer near the optimum.

    Each hidden unit is centered on a corrupted example, w'(x - x~_j), so that it is nonlinear near
    the data and their noise. Its weights w ~ N(0, (scale / sigma_j)^2 / d I) are larger for an
    example with less noise, but not so small that the transition is wider than the data. The
    decoder is then the least-squares solution from the features of corrupted examples to the clean
    examples. Of several scales, the one with the smallest loss on held-out examples is used. On the
    spiral, the resulting loss is much lower than after hundreds of iterations of L-BFGS from Keras'
    initial weights. It takes seconds, mostly for matrix products with one row per hidden unit.

    Args:
        encoder: the `Dense` layer from x to the hidden units, built, with a nonlinear activation.
        decoder: the linear `Dense` layer from the hidden units to r(x), built. In a model that is a
            graph of layers, nothing but reshaping, dropout and noise layers may be before, between
            and behind the two; of other models it is not checked.
        x: (n, ...) examples of a floating dtype, flattened as in the model.
        corruption: as for `DenoisingLoss`: a sigma; a corruption; `SampledNoise`, whose importance
            weights are also used in the least squares; or `DecreasingNoise`, with its initial
            sigma.
        scales: the scales to try.
        num_copies: the number of corruptions of each example.
        ridge: the ridge regularization, in units of the features' mean square.
        seed: an integer >= 0.

    Returns:
        `RandomFeatures`.

    Raises:
        ValueError: the layers don't fit each other or the data, the decoder isn't linear, or other
            layers are before, between or behind them.
    """
    x = tf.cast(arrays.flat(arrays.checked_points("`x`", x, at_least=1)), tf.float64)
    _check(encoder, decoder, x)
    if not len(scales):
        raise checks.invalid("`scales`", "at least one scale", "none")
    noise = NoiseSchedule.of(corruption)
    num_copies = checks.positive_integer("`num_copies`", num_copies)
    rng = np.random.default_rng(np.random.SeedSequence(seeds.checked_seed(seed)))
    size, units = encoder.kernel.shape

    def corrupted(rows: Array) -> tuple[Array, Array, Array, Array]:
        """Returns clean and corrupted examples, importance weights and standard deviations."""
        clean = tf.gather(x, rows)
        drawn = noise.draw(clean, rng.integers(1 << 31, size=2, dtype=np.int32))
        weights = np.ones(len(rows))
        if drawn.importance_weights is not None:
            weights = drawn.importance_weights.numpy()
        sigma = np.std(drawn.x - clean) if drawn.sigma is None else np.asarray(drawn.sigma)
        return clean.numpy(), drawn.x.numpy(), weights, np.broadcast_to(sigma, len(rows))

    _, centers, _, sigma = corrupted(rng.integers(len(x), size=units))
    directions = rng.standard_normal((size, units)) / np.sqrt(size)
    widest = max(np.sqrt(np.var(x, axis=0).sum()), sigma.max())
    order = rng.permutation(len(x))
    held_out = max(1, len(x) // _HELD_OUT)
    validation = corrupted(np.tile(order[:held_out], num_copies))
    train = corrupted(np.tile(order[held_out:] if len(x) > 1 else order, num_copies))
    losses: dict[float, float] = {}
    best: tuple[float, Array, Array, Array] | None = None
    for scale in map(float, scales):
        kernel = directions * np.maximum(scale / sigma, 1 / widest)
        bias = -np.sum(centers.T * kernel, axis=0)

        def features(rows: Array, kernel: Array = kernel, bias: Array = bias) -> Array:
            activated = keras.ops.convert_to_numpy(encoder.activation(rows @ kernel + bias))
            return np.concatenate([activated, np.ones((len(rows), 1))], axis=1)

        solution = _ridge(features, *train[:3], ridge)
        losses[scale] = _loss(features, *validation[:3], solution)
        if best is None or losses[scale] < losses[best[0]]:
            best = scale, kernel, bias, solution
    assert best is not None  # there is at least one scale
    scale, kernel, bias, solution = best
    encoder.kernel.assign(kernel)
    encoder.bias.assign(bias)
    decoder.kernel.assign(solution[:-1])
    decoder.bias.assign(solution[-1])
    return RandomFeatures(scale, losses)


def _ridge(features: _Features, clean: Array, noisy: Array, weights: Array, ridge: float) -> Array:
    """Returns the least-squares solution (k, d) from features (rows, k) to clean (rows, d)."""
    gram: Any = 0.0
    cross: Any = 0.0
    for start in range(0, len(noisy), _ROWS):
        rows = slice(start, start + _ROWS)
        root = np.sqrt(weights[rows, np.newaxis])
        part = root * features(noisy[rows])
        gram = gram + part.T @ part
        cross = cross + part.T @ (root * clean[rows])
    gram[np.diag_indices_from(gram)] += ridge * np.trace(gram) / len(gram)
    return np.asarray(scipy.linalg.solve(gram, cross, assume_a="pos", overwrite_a=True))


def _loss(
    features: _Features, clean: Array, noisy: Array, weights: Array, solution: Array
) -> float:
    total = 0.0
    for start in range(0, len(noisy), _ROWS):
        rows = slice(start, start + _ROWS)
        error = features(noisy[rows]) @ solution - clean[rows]
        total += weights[rows] @ (error**2).sum(axis=1)
    return float(total / len(noisy))


def _check(encoder: keras.layers.Dense, decoder: keras.layers.Dense, x: tf.Tensor) -> None:
    for name, layer in (("`encoder`", encoder), ("`decoder`", decoder)):
        if not (isinstance(layer, keras.layers.Dense) and layer.built and layer.use_bias):
            raise checks.invalid(
                name, "a built keras.layers.Dense with a bias", type(layer).__name__
            )
    if decoder.activation is not keras.activations.linear:
        raise checks.invalid(
            "`decoder`", "linear", f"one with activation {decoder.activation.__name__}"
        )
    _check_neighbors(encoder, decoder)
    size, units = encoder.kernel.shape
    if tuple(decoder.kernel.shape) != (units, size) or x.shape[1] != size:
        raise checks.invalid(
            "`x`, `encoder` and `decoder`",
            "of d values, from d to k units and from k back to d",
            f"{x.shape[1]} values, {size} to {units} and {decoder.kernel.shape[0]} to"
            f" {decoder.kernel.shape[1]}",
        )


# Layers that change no values when r is evaluated.
_TRANSPARENT = (
    keras.layers.InputLayer,
    keras.layers.Reshape,
    keras.layers.Flatten,
    keras.layers.Identity,
    keras.layers.Dropout,
    keras.layers.AlphaDropout,
    keras.layers.GaussianNoise,
    keras.layers.GaussianDropout,
    keras.layers.ActivityRegularization,
)


def _check_neighbors(encoder: keras.layers.Dense, decoder: keras.layers.Dense) -> None:
    """Raises ValueError if a graph of layers has others before, between or behind the two."""
    if not encoder._inbound_nodes or not decoder._inbound_nodes:
        return  # no graph of layers
    for name, first, last in (
        ("between `encoder` and `decoder`", decoder, encoder),
        ("before `encoder`", encoder, None),
    ):
        found = _sources(first)
        if last in found:
            found.remove(last)
        elif last is not None and not found:
            found = ["the input"]
        if found:
            raise _not_alone(name, found)
    behind = _consumers(decoder)
    if behind:
        raise _not_alone("behind `decoder`", behind)


def _not_alone(where: str, found: list[Any]) -> Exception:
    names = ", ".join(getattr(layer, "name", layer) for layer in found)
    advice = "The initial weights hold for x -> encoder -> decoder -> r(x) only."
    return checks.invalid(
        f"The layers {where}", "none but those that reshape, drop out or add noise", names, advice
    )


def _sources(layer: Any) -> list[Any]:
    """Returns the layers whose values a layer gets, through layers that change no values."""
    found: list[Any] = []
    for node in layer._inbound_nodes:
        for tensor in node.input_tensors:
            source = tensor._keras_history.operation
            found += _sources(source) if isinstance(source, _TRANSPARENT) else [source]
    return list(dict.fromkeys(found))


def _consumers(layer: Any) -> list[Any]:
    """Returns the layers that get a layer's values, through layers that change no values."""
    found: list[Any] = []
    for node in layer._outbound_nodes:
        user = node.operation
        found += _consumers(user) if isinstance(user, _TRANSPARENT) else [user]
    return list(dict.fromkeys(found))
