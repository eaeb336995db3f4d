"""The Parzen estimate of a log-likelihood: a Gaussian window on the samples of a model."""

import dataclasses
import math
import warnings
from typing import Any

import numpy as np
import tensorflow as tf

from thesis_tf import mcmc
from thesis_tf._core import arrays, checks
from thesis_tf._core.types import Array, ArrayLike, TensorLike, Verbose
from thesis_tf.gsn.likelihood import base, log_mean

# Squared distances over squared sigma, in units of nats, up to which float32 is used: rounding then
# changes an example's log-likelihood by at most .01 nats. Float64 has .1 nats at its own limit.
_MOST_SQUARES = {tf.float32: 2e4, tf.float64: 1e14}
_MOST_RATIO = 20  # of the size of samples to that of test points; beyond it, units must differ

# The default search for sigma: a wide grid on a few validation points, then a narrow one on all.
_WIDE, _WIDE_RATIO, _WIDE_POINTS = 30, 300, 500
_NARROW = 20


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class ParzenEstimate(base.LikelihoodEstimate):
    """The log-likelihood of test examples by a Parzen window, in nats.

    Attributes:
        sigma: the standard deviation of the window on all samples.
        chain_sigmas: (chains,), of the window on each chain alone.
        sigmas: (k,), the grid from which sigmas are chosen, in ascending order.
        validation_log_likelihoods: (k,), the means over validation points, from all samples.
    """

    sigma: float
    chain_sigmas: np.ndarray
    sigmas: np.ndarray
    validation_log_likelihoods: np.ndarray

    def summary(self) -> dict[str, Any]:
        """Returns a JSON-serializable dict; unknown values are None."""
        return {**super().summary(), "sigma": self.sigma}


def parzen_log_likelihood(
    samples: TensorLike | mcmc.Chains,
    test: TensorLike,
    validation: TensorLike,
    *,
    sigmas: ArrayLike | None = None,
    verbose: Verbose = "auto",
) -> ParzenEstimate:
    """Estimates the log-likelihood of a model by a Gaussian window on its samples (Table 5.1).

    The estimate is the mean over `test` of log p(x), where p(x) = mean_i N(x; s_i, sigma^2 I) and
    sigma is the best one for `validation`. It measures the model smoothed by the window. On average
    it is lower than for infinitely many samples, and for examples with many values it depends on
    the number of samples. So compare only numbers with the same protocol, and compare them with the
    estimate for training examples in place of samples:

        reference = parzen_log_likelihood(train[:10_000], test, validation)

    The same pass also computes an estimate for each chain alone, each with a separate sigma. All
    sigmas share the distances, which are computed in blocks by matrix products: 2 n m d operations
    for n samples and m points of d values, in less than 400 MB for n = m = 10,000 and d = 784.

    Args:
        samples: `mcmc.Chains` of states or means, their samples (steps, chains, ...), or (n, ...).
        test: (m, ...) of a floating dtype.
        validation: (v, ...), other examples of the same kind.
        sigmas: standard deviations to choose from, in the units of the data: a sequence or one
            number. None selects 20 values around the best of a wide geometric grid, which is
            evaluated on the first 500 validation points.
        verbose: "auto" shows a progress bar on a terminal; 0: no output; 1: a progress bar; 2: one
            line at the end.

    Returns:
        `ParzenEstimate`, computed in float64 if any of the data are float64 or if sigma is so small
        that float32 has too few digits, else in float32. In float32, the error of one example's
        log-likelihood is about 5e-7 times its squared distance from the mean sample, divided by
        sigma^2: 1e-3 nats for images of digits with a sigma of 0.2, and at most .01 nats. The error
        of the mean over examples is smaller.

    Raises:
        TypeError: the data don't have a floating dtype.
        ValueError: the data are empty, not finite or differ in shape, `validation` equals `test`,
            or a sigma isn't a positive number, or so small that float64 has too few digits; or the
            samples are chains of distribution parameters.

    Warns:
        UserWarning: the best sigma is at an end of the grid, most test points are among samples or
            validation points, or samples and test points differ so
            much in size that their units must differ. The sentences are also in `warnings`.
    """
    test = arrays.checked_points("`test`", test, at_least=1)
    validation = _checked_validation(validation, test)
    chains, phrase = base.chains_of("`samples`", samples, test.shape[1:])
    wide = tf.float64 in (chains.dtype, test.dtype, validation.dtype)
    others = {"samples": chains, "validation": validation}
    caveats = [*_sizes(others, test), *_copies(others, test)]
    grid: Array = np.zeros(0) if sigmas is None else _checked_sigmas(sigmas)
    origin = ""
    for dtype in (tf.float64,) if wide else (tf.float32, tf.float64):
        window = _Window(chains, dtype, verbose)
        if sigmas is None:
            grid = _narrow_grid(window, chains, validation)
            origin = f", around the best of a wide grid on {min(_WIDE_POINTS, len(validation)):,}"
        on_validation, chains_on_validation = window.log_likelihoods(validation, grid, "validation")
        on_validation = on_validation.mean(axis=1)
        best, chain_best = np.argmax(on_validation), np.argmax(chains_on_validation, axis=1)
        smallest = min(grid[best], grid[chain_best].min())
        if window.most_squares([test, validation]) <= _MOST_SQUARES[dtype] * smallest**2:
            break
    else:
        raise checks.invalid(
            "`samples`, `test` and `validation`",
            f"within a few million sigmas, here {smallest:.3g}, of each other",
            "points farther apart, whose distances float64 can't hold",
        )
    choice = _described_choice(grid, best, chain_best, origin)
    if best in (0, len(grid) - 1) and len(grid) > 1:
        caveats.append(f"The best sigma, {grid[best]:.4g}, is at an end of the grid.")
    # For each chain: the sigma of all samples, and the sigma of this chain.
    pair = np.stack([np.full(len(chain_best), grid[best]), grid[chain_best]], axis=1)
    on_test, chains_on_test = window.log_likelihoods(test, pair, "test")
    return ParzenEstimate(
        on_test[0],
        chains_on_test[:, 1],
        f"Gaussian Parzen window: {phrase}, {len(test):,} test and {len(validation):,} validation"
        f" points of {window.size:,} values, {choice}, {window.dtype.name}",
        float(grid[best]),
        grid[chain_best],
        grid,
        on_validation,
        caveats=tuple(caveats),
    )


def _sizes(others: dict[str, tf.Tensor], test: tf.Tensor) -> list[str]:
    """Returns sentences, also as warnings, on points whose size is not that of test points."""

    def size(x: tf.Tensor) -> float:
        return float(tf.sqrt(tf.reduce_mean(tf.square(tf.cast(x, tf.float64)))))

    def span(x: tf.Tensor) -> str:
        return f"[{float(tf.reduce_min(x)):.4g}, {float(tf.reduce_max(x)):.4g}]"

    found = []
    for name, x in others.items():
        low, high = sorted((size(x), size(test)))
        if high > _MOST_RATIO * low > 0:
            found.append(
                f"The values of {name} are in {span(x)}, those of test points in {span(test)}: are"
                " their units the same?"
            )
            warnings.warn(found[-1], stacklevel=3)
    return found


def _copies(others: dict[str, tf.Tensor], test: tf.Tensor) -> list[str]:
    """Returns sentences, also as warnings, on test points that are among others."""

    def rows(x: tf.Tensor) -> set[int]:
        flat = tf.reshape(x, [-1, math.prod(test.shape[1:])]).numpy()
        return {hash(row.astype(np.float64).tobytes()) for row in flat}

    points, found = rows(test), []
    for name, x in others.items():
        shared = len(points & rows(x))
        if shared > len(points) / 2:
            found.append(
                f"{shared:,} of {len(points):,} distinct test points are among {name}, so that the"
                " estimate is too high."
            )
            warnings.warn(found[-1], stacklevel=3)
    return found


class _Window:
    """Gaussians on the samples of chains (chains, steps, ...), of any sigma."""

    def __init__(self, chains: tf.Tensor, dtype: tf.DType, verbose: Verbose) -> None:
        self.dtype, self._verbose = dtype, verbose
        self.size = math.prod(chains.shape[2:])
        flat = tf.reshape(tf.cast(chains, dtype), [*chains.shape[:2], self.size])
        # Centered, so that the squares stay small whose differences are the distances.
        self._center = tf.reduce_mean(flat, axis=[0, 1])
        flat -= self._center
        # -|s - x|^2 / 2 is the product of (s, -|s|^2 / 2, 1) and (x, 1, -|x|^2 / 2).
        half = -tf.reduce_sum(tf.square(flat), axis=2, keepdims=True) / 2
        self._largest = -2 * float(tf.reduce_min(half))
        self._blocks = log_mean.SampleBlocks(tf.concat([flat, half, tf.ones_like(half)], axis=2))

    def log_likelihoods(
        self, points: tf.Tensor, sigmas: ArrayLike, description: str
    ) -> tuple[Array, Array]:
        """Returns log-likelihoods of points, from all samples and from each chain alone.

        Args:
            points: (m, ...).
            sigmas: (k,), or (chains, k) for separate sigmas for each chain.
            description: the text of the progress bar.

        Returns:
            ((k, m) array of log p from all samples, (chains, k) means of log p from each chain).
        """
        chains = self._blocks.chains
        sigmas = np.broadcast_to(sigmas, (chains, np.shape(sigmas)[-1]))
        constant = self.size * (np.log(sigmas) + math.log(2 * math.pi) / 2)
        together, alone = [], np.zeros(sigmas.shape)
        for place, block in log_mean.point_blocks(
            points, sigmas.size, verbose=self._verbose, description=description
        ):
            log_p = self._blocks.log_mean_exp(_product, self._extended(block), 1 / sigmas**2)
            log_p = log_p[:, :, : place.stop - place.start]
            log_p -= constant[:, :, np.newaxis]
            alone += log_p.sum(axis=2)
            together.append(log_mean.over_chains(log_p))
        return np.concatenate(together, axis=1), alone / len(points)

    def most_squares(self, points: list[tf.Tensor]) -> float:
        """Returns the largest squared distance of samples or points from the mean sample."""
        flat = [arrays.flat(tf.cast(p, self.dtype)) - self._center for p in points]
        return max(self._largest, *(float(tf.reduce_max(_squares(f))) for f in flat))

    def _extended(self, points: tf.Tensor) -> tf.Tensor:
        flat = arrays.flat(tf.cast(points, self.dtype)) - self._center
        half = -tf.reduce_sum(tf.square(flat), axis=1, keepdims=True) / 2
        return tf.concat([flat, tf.ones_like(half), half], axis=1)


def _squares(flat: tf.Tensor) -> tf.Tensor:
    return tf.reduce_sum(tf.square(flat), axis=1)


def _product(samples: tf.Tensor, points: tf.Tensor) -> tf.Tensor:
    return tf.matmul(samples, points, transpose_b=True)


def _narrow_grid(window: _Window, chains: tf.Tensor, validation: tf.Tensor) -> Array:
    """Returns 20 sigmas around the best of a wide grid."""
    # The best sigma^2 is a weighted mean of squared distances per value, with weights that decrease
    # with distance. So it is at most the unweighted mean, and the wide grid ends above that mean.
    few = validation[:_WIDE_POINTS]
    center = tf.reduce_mean(few, axis=0)
    spread = tf.square(few - center), tf.square(chains - tf.cast(center, chains.dtype))
    of_chains = tf.reduce_mean(spread[1], axis=range(1, chains.shape.rank))
    most = math.sqrt(float(tf.reduce_mean(spread[0])) + float(tf.reduce_max(of_chains)))
    if most == 0:
        raise checks.invalid(
            "`samples` and `validation`",
            "different from one another",
            "the same point for all of them",
            "Pass `sigmas`.",
        )
    wide = most * np.geomspace(1 / _WIDE_RATIO, 1.25, _WIDE)
    together, alone = window.log_likelihoods(few, wide, "wide grid")
    best = np.append(np.argmax(alone, axis=1), np.argmax(together.mean(axis=1)))
    return np.geomspace(wide[max(best.min() - 1, 0)], wide[min(best.max() + 1, _WIDE - 1)], _NARROW)


def _described_choice(grid: Array, best: Any, chain_best: Array, origin: str) -> str:
    """Returns a phrase for the choice of sigmas; warns if the best is at an end of the grid."""
    phrase = f"sigma {grid[best]:.4g}"
    if len(grid) == 1:
        return f"{phrase}, the only one"
    phrase += (
        f", the best on validation points of {len(grid)} in [{grid[0]:.4g}, {grid[-1]:.4g}]{origin}"
    )
    ends = (0, len(grid) - 1)
    if best in ends:
        beyond = "below" if best == 0 else "above"
        phrase += f" (at the end of the grid; a better one may be {beyond})"
        warnings.warn(
            f"The best sigma, {grid[best]:.4g}, is at an end of the grid, and better ones may be"
            f" {beyond}. Pass `sigmas` with a wider range.",
            stacklevel=3,
        )
    if len(chain_best) > 1:
        own = grid[chain_best]
        phrase += f", for each chain alone in [{own.min():.4g}, {own.max():.4g}]"
        at_ends = int(np.isin(chain_best, ends).sum())
        if at_ends:
            phrase += f" ({at_ends:,} of them at an end of the grid)"
    return phrase


def _checked_sigmas(sigmas: ArrayLike) -> Array:
    grid = np.unique(np.asarray(sigmas, float))
    if np.ndim(sigmas) > 1 or not len(grid) or not (np.isfinite(grid) & (grid > 0)).all():
        raise checks.invalid("`sigmas`", "positive numbers, at least one", sigmas)
    return grid


def _checked_validation(validation: TensorLike, test: tf.Tensor) -> tf.Tensor:
    validation = arrays.checked_points("`validation`", validation)
    if len(validation) == 0:
        advice = "Sigma is chosen on it, never on `test`."
        raise checks.invalid("`validation`", "at least 1 point", "0", advice)
    if validation.shape[1:] != test.shape[1:]:
        raise checks.invalid(
            "`validation`",
            f"points of shape {tuple(test.shape[1:])}, as `test`",
            f"shape {tuple(validation.shape)}",
        )
    if len(validation) == len(test) and bool(
        tf.reduce_all(tf.cast(validation, test.dtype) == test)
    ):
        advice = "Choosing sigma on `test` overestimates the likelihood."
        raise checks.invalid("`validation`", "other points than `test`", "the same points", advice)
    return validation
