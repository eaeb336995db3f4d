"""The density of the data that a trained reconstruction function implies (thesis, 3.3)."""

import functools
import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from thesis_tf._core import arrays, checks
from thesis_tf._core.types import Array, TensorLike
from thesis_tf.autoencoders.density import quadrature
from thesis_tf.autoencoders.density.array_kind import same_kind
from thesis_tf.autoencoders.density.data_region import DataRegion
from thesis_tf.autoencoders.density.derivatives import jacobians, spectra
from thesis_tf.autoencoders.density.derivatives.hessian import LogDensityHessian
from thesis_tf.autoencoders.density.derivatives.tangents import Tangents


class ScoreEstimator:
    """Score, curvature and energy differences of a density, from a reconstruction function.

    A denoising auto-encoder trained with squared error on Gaussian noise of standard deviation
    sigma, or an RCAE of that sigma, has r(x) = x + sigma^2 d log p(x) / dx + o(sigma^2) (Theorems 1
    and 2), where p is the density of the data. For finite sigma, Tweedie's formula is exact: the
    optimal DAE has (r(x) - x) / sigma^2 = d log p_sigma(x) / dx, with p_sigma the density of the
    data smoothed by the noise. So all methods refer to p_sigma, and assume an optimal r.

        estimator = ScoreEstimator(model, sigma=0.1)
        estimator.score(x)  # (n, ...), as x

    Methods take points x (n, ...) of any floating dtype and return NumPy arrays for NumPy arrays
    and tensors for tensors. They compute in the dtype of x if r does, are compiled once per shape
    and dtype of a point, and may be called inside a `tf.function` (all except
    `tangent_directions`), where neither points nor results are checked for NaN. In float32 the
    score has an absolute error of about 1e-7 |x| / sigma^2.

    Args:
        reconstruct: r, a Keras model or a function, from (n, ...) to the same shape.
        sigma: the standard deviation of the noise with which r was trained; None if it is unknown.
            In this case only methods that need no scale are available: `direction`, `jacobian`,
            `conservativity`, `tangent_directions`.
        data: (n, ...) training examples; with them, `energy_difference` warns about paths that
            leave their neighborhood.
        jit_compile: whether XLA compiles all computations.

    Raises:
        ValueError: sigma is not positive; every method raises it if r(x) doesn't have the shape of
            x, or x is not finite; and all but `reconstruct` if their result is not.
        TypeError: `reconstruct` can't be called; every method raises it if x is not of a floating
            dtype.
    """

    def __init__(
        self,
        reconstruct: Callable[[tf.Tensor], tf.Tensor],
        *,
        sigma: float | None = None,
        data: TensorLike | None = None,
        jit_compile: bool = False,
    ) -> None:
        if not callable(reconstruct):
            raise checks.invalid(
                "`reconstruct`", "a model or a function x -> r(x)", repr(reconstruct),
                kind=TypeError,
            )  # fmt: skip
        self.sigma = None if sigma is None else checks.positive_number("`sigma`", sigma)
        self.region: DataRegion | None = None
        if data is not None:
            self.region = DataRegion(
                arrays.checked_points("`data`", data, at_least=1), self.known_sigma()
            )
        self._given = reconstruct
        compiled = functools.partial(arrays.compiled, jit_compile=jit_compile)

        self._score = compiled(lambda x: self._difference(x) / self._variance(x))
        self._direction = compiled(self._compute_direction)
        self._jacobian = compiled(lambda x: jacobians.jacobian(self._reconstruct, x)[1])
        self._path = compiled(self._integrate, batch_axes=2)
        self._asymmetry = compiled(self._compute_asymmetry)
        self._tangents = compiled(self._compute_tangents)
        self._products = compiled(lambda x, v: jacobians.products(self._reconstruct, x, v)[1:])
        self._matching = compiled(self._match)

    @same_kind
    def reconstruct(self, x: TensorLike) -> Any:
        """Returns r(x) (n, ...), in the dtype of x."""
        return self._reconstruct(tf.convert_to_tensor(x))

    @same_kind
    def score(self, x: TensorLike) -> Any:
        """Returns d log p / dx at points x (n, ...), (r(x) - x) / sigma^2 (Eq 3.5 and 3.10)."""
        return _finite(self.score_or_nan(x))

    def score_or_nan(self, x: TensorLike) -> tf.Tensor:
        """Returns the score (n, ...) as a tensor, NaN or infinity where r(x) is."""
        return self._score(arrays.checked_points("`x`", x))

    @same_kind
    def direction(self, x: TensorLike) -> Any:
        """Returns the direction of the score, a unit vector (n, ...), for any sigma (3.3.5).

        It is 0 where r(x) = x.
        """
        return _finite(self._direction(arrays.checked_points("`x`", x)))

    @same_kind
    def jacobian(self, x: TensorLike) -> Any:
        """Returns dr/dx (n, d, d) at points x (n, ...) of d values."""
        return _finite(self._jacobian(arrays.checked_points("`x`", x)))

    @same_kind
    def hessian_log_prob(self, x: TensorLike) -> Any:
        """Returns d^2 log p / dx^2 (n, d, d), the symmetric part of (dr/dx - I) / sigma^2 (Eq 3.9).

        The antisymmetric part of dr/dx is not the derivative of a score; `conservativity` measures
        it. It costs d backward passes and n d^2 values of memory; `hessian_operator` needs neither.
        """
        x = arrays.checked_points("`x`", x)
        derivative = _symmetric(_finite(self._jacobian(x)))
        return (derivative - tf.eye(derivative.shape[-1], dtype=x.dtype)) / self._variance(x)

    def hessian_operator(self, x: TensorLike) -> LogDensityHessian:
        """Returns `hessian_log_prob(x)` as a matrix-free `tf.linalg.LinearOperator`."""
        sigma = self.known_sigma()
        return LogDensityHessian(self._reconstruct, arrays.checked_points("`x`", x), sigma)

    @same_kind
    def energy_difference(
        self,
        x: TensorLike,
        x_star: TensorLike,
        *,
        num_points: int = 8,
        rule: str = "gauss_legendre",
        waypoints: TensorLike | None = None,
    ) -> Any:
        """Returns E(x*) - E(x) = log p(x) - log p(x*), a path integral of the score (Eq 3.14).

        Args:
            x: (n, ...), where paths begin.
            x_star: (n, ...), where paths end.
            num_points: the number of evaluations of r on each straight piece; one point with
                "midpoint" or "gauss_legendre" is exact for a Gaussian.
            rule: "gauss_legendre", "midpoint", "trapezoid" or "simpson".
            waypoints: (m, n, ...), intermediate points of the paths, connected by straight lines;
                None for a single line.

        Returns:
            (n,). Warns with `OutsideDataWarning` if the estimator has data and a path leaves them;
            not inside a `tf.function`.
        """
        found = self.energy_difference_or_nan(
            x, x_star, num_points=num_points, rule=rule, waypoints=waypoints
        )
        return _finite(found, "r(x) between `x` and `x_star`")

    def energy_difference_or_nan(
        self,
        x: TensorLike,
        x_star: TensorLike,
        *,
        num_points: int = 8,
        rule: str = "gauss_legendre",
        waypoints: TensorLike | None = None,
    ) -> tf.Tensor:
        """Returns `energy_difference` (n,) as a tensor, NaN where r isn't finite on the path."""
        x = arrays.checked_points("`x`", x)
        stops = [x]
        if waypoints is not None:
            between = tf.convert_to_tensor(waypoints)
            if between.shape.rank != x.shape.rank + 1:
                expected = f"of shape (m, {', '.join(map(str, x.shape))})"
                raise checks.invalid("`waypoints`", expected, f"shape {tuple(between.shape)}")
            for index, point in enumerate(tf.unstack(between)):
                stops.append(arrays.checked_points(f"`waypoints[{index}]`", point, like=x))
        stops.append(arrays.checked_points("`x_star`", x_star, like=x))
        nodes, weights = quadrature.rule(rule, num_points)
        if self.region is not None and tf.executing_eagerly():
            if x.shape[1:] != self.region.shape:
                raise checks.invalid(
                    "`x`", f"of points of shape {self.region.shape}, as `data`", tuple(x.shape)
                )
            for start, end in itertools.pairwise(stops):
                on_the_way = _between(start, end, tf.constant(nodes, x.dtype))
                self.region.warn(on_the_way.numpy().reshape(-1, *x.shape[1:]), "The path", 4)
        self.known_sigma()
        return self._path(
            tf.stack(stops), tf.constant(nodes, x.dtype), tf.constant(weights, x.dtype)
        )

    @same_kind
    def conservativity(
        self, x: TensorLike, *, num_vectors: int | None = None, seed: int = 0
    ) -> Any:
        """Returns how far r is from a gradient (3.3.6): |J - J'|_F / 2|J|_F with J = dr/dx, (n,).

        It is 0 if J is symmetric, which is true if r(x) - x is the gradient of some log p, and 1 if
        J is antisymmetric. If J is zero up to rounding, it may be any value from 0 to 1.

        Args:
            x: (n, ...).
            num_vectors: None computes J, in d backward passes; a number estimates both norms from
                products with this many random vectors.
            seed: an integer >= 0, the seed of the random vectors.
        """
        x = arrays.checked_points("`x`", x)
        if x.shape[0] == 0:
            return tf.zeros(0, x.dtype)  # without points, no Jacobian can be computed
        if num_vectors is None:
            return _asymmetry(_finite(self._jacobian(x)))
        num_vectors = checks.positive_integer("`num_vectors`", num_vectors)
        return _finite(self._asymmetry(x, num_vectors, arrays.stateless_seed(seed)))

    def tangent_directions(
        self, x: TensorLike, *, threshold: float = 0.5, top_k: int | None = None
    ) -> Tangents:
        """Returns the `Tangents` of the manifold at points x (n, ...) of d values.

        They come from the spectrum of the symmetric part of J = dr/dx, which is not that of J
        unless J is symmetric: `Tangents.warnings` says if the difference is too large.

        Args:
            x: (n, ...).
            threshold: directions with eigenvalues above it count as tangent; above 0.5, the
                variance of the data is larger than that of the noise.
            top_k: the number of directions of each point, less than d, by block Lanczos iterations
                with products; the asymmetry is then estimated with 20 random vectors. None computes
                all from J, in d backward passes and of order d^3 operations for each point.
        """
        threshold = checks.finite_number("`threshold`", threshold)
        x = arrays.checked_points("`x`", x, at_least=1)
        size = int(np.prod(x.shape[1:]))
        if top_k is not None:
            found = self._largest_tangents(x, checks.positive_integer("`top_k`", top_k), size)
        else:
            parts = [
                [array.numpy() for array in self._tangents(_finite(self._jacobian(x[piece])))]
                for piece in spectra.pieces(len(x), size)
            ]
            found = [np.concatenate(part) for part in zip(*parts, strict=True)]
        values, vectors, asymmetry, skew, *residual = found
        dimension = (values > threshold).sum(axis=1)
        return Tangents(
            values, vectors, dimension, asymmetry, skew,
            residual=residual[0] if residual else np.zeros(len(values)),
        )  # fmt: skip

    def _largest_tangents(self, x: tf.Tensor, top_k: int, size: int) -> list[Array]:
        if top_k >= size:
            raise checks.invalid("`top_k`", f"less than {size}, or None for all", top_k)
        pairs = [
            spectra.of_symmetric_part(
                self.products_at(x[i : i + 1]), size, top_k, tol=_tolerance(x.dtype)
            )
            for i in range(len(x))
        ]
        values, vectors, skew, residual = (np.stack(part) for part in zip(*pairs, strict=True))
        asymmetry = self._asymmetry(x, 20, arrays.stateless_seed(0))
        return [values, vectors, _finite(asymmetry).numpy(), skew, residual]

    def products_at(self, x: tf.Tensor) -> spectra.Products:
        """Returns a function from vectors (d, m) to (J v, J'v) in float64, at one point (1, ...).

        The function raises ValueError if they aren't finite.
        """

        def products(v: Array) -> tuple[Array, Array]:
            vectors = tf.constant(v.T.reshape(-1, *x.shape[1:]), x.dtype)
            same = tf.repeat(x, len(vectors), axis=0)
            along, back = (_finite(a, "dr/dx").numpy() for a in self._products(same, vectors))
            return tuple(a.reshape(v.shape[::-1]).T.astype(np.float64) for a in (along, back))

        return products

    @same_kind
    def denoising_score_matching(self, x: TensorLike, noisy: TensorLike) -> Any:
        """Returns the denoising score matching loss (n,) of the score (3.3.7; Vincent, 2011).

        |score(x~) - (x - x~) / sigma^2|^2 / 2, which is the denoising loss |r(x~) - x|^2 over
        2 sigma^4.

        Args:
            x: (n, ...) clean examples.
            noisy: (n, ...), the same examples with Gaussian noise of sigma.
        """
        x = arrays.checked_points("`x`", x)
        return _finite(self._matching(x, arrays.checked_points("`noisy`", noisy, like=x)))

    def check_finite(self, x: tf.Tensor, name: str) -> None:
        """Raises ValueError, which names points x (n, ...), unless r(x) is finite there."""
        _finite(self._reconstruct(x), f"r(x) at {name}")

    def known_sigma(self) -> float:
        """Returns sigma; raises ValueError if the estimator has none."""
        if self.sigma is None:
            raise checks.invalid(
                "`sigma`",
                "known for this",
                None,
                "Without it, `direction` is available, which has no scale.",
            )
        return self.sigma

    def _reconstruct(self, x: tf.Tensor) -> tf.Tensor:
        return arrays.reconstruction(self._given, x)

    def _difference(self, x: tf.Tensor) -> tf.Tensor:
        return self._reconstruct(x) - x

    def _variance(self, x: tf.Tensor) -> tf.Tensor:
        return tf.constant(self.known_sigma() ** 2, x.dtype)

    def _compute_direction(self, x: tf.Tensor) -> tf.Tensor:
        move = self._difference(x)
        norm = tf.norm(arrays.flat(move), axis=1)
        return tf.math.divide_no_nan(move, tf.reshape(norm, [-1] + [1] * (x.shape.rank - 1)))

    def _integrate(self, stops: tf.Tensor, nodes: tf.Tensor, weights: tf.Tensor) -> tf.Tensor:
        """Returns - integral of score . dx along straight lines through `stops` (m, n, ...)."""
        starts, steps = stops[:-1], stops[1:] - stops[:-1]
        shape = tf.concat([[-1], tf.shape(stops)[2:]], axis=0)
        where = _between(starts, stops[1:], nodes)  # (nodes, pieces, n, ...)
        flat_where = tf.ensure_shape(tf.reshape(where, shape), [None, *stops.shape[2:]])
        score = tf.reshape(self._score(flat_where), tf.shape(where))
        size = int(np.prod(stops.shape[2:]))
        flat = [tf.shape(nodes)[0], tf.shape(steps)[0], tf.shape(steps)[1], size]
        along = tf.einsum("kpnd,pnd->kn", tf.reshape(score, flat), tf.reshape(steps, flat[1:]))
        return -tf.linalg.matvec(along, weights, transpose_a=True)

    def _compute_tangents(self, derivative: tf.Tensor) -> tuple[tf.Tensor, ...]:
        values, vectors = tf.linalg.eigh(_symmetric(derivative))
        skew = (derivative - tf.linalg.matrix_transpose(derivative)) / 2
        squares = tf.linalg.eigvalsh(tf.matmul(skew, skew, transpose_a=True))[:, -1]
        norm = tf.sqrt(tf.maximum(squares, 0))
        return values[:, ::-1], vectors[:, :, ::-1], _asymmetry(derivative), norm

    def _compute_asymmetry(self, x: tf.Tensor, num_vectors: int, seed: tf.Tensor) -> tf.Tensor:
        shape = tf.concat([[num_vectors], tf.shape(x)], axis=0)
        vectors = tf.random.stateless_normal(shape, seed, dtype=x.dtype)
        skew = whole = 0.0
        for number in range(num_vectors):
            _, forward, back = jacobians.products(self._reconstruct, x, vectors[number])
            skew += tf.reduce_sum(tf.square(arrays.flat(forward - back) / 2), axis=1)
            # E|Jv|^2 = E|J'v|^2 = |J|^2
            both = (tf.square(arrays.flat(forward)) + tf.square(arrays.flat(back))) / 2
            whole += tf.reduce_sum(both, axis=1)
        return tf.sqrt(tf.math.divide_no_nan(skew, whole))

    def _match(self, x: tf.Tensor, noisy: tf.Tensor) -> tf.Tensor:
        target = (x - noisy) / self._variance(x)
        return tf.reduce_sum(tf.square(arrays.flat(self._score(noisy) - target)), axis=1) / 2


def _finite(values: tf.Tensor, name: str = "r(x)") -> tf.Tensor:
    """Returns values (n, ...); raises ValueError if they aren't finite, but not during tracing."""
    if tf.executing_eagerly():
        finite = tf.math.is_finite(values)
        bad = np.flatnonzero(~tf.reduce_all(finite, range(1, values.shape.rank)).numpy())
        if len(bad):
            received = f"NaN or infinity for {len(bad)} of {len(values)} points, first {bad[0]}"
            raise checks.invalid(name, "finite", received)
    return values


def _tolerance(dtype: tf.DType) -> float:
    return float(np.finfo(dtype.as_numpy_dtype).eps) ** 0.5


def _symmetric(matrices: tf.Tensor) -> tf.Tensor:
    return (matrices + tf.linalg.matrix_transpose(matrices)) / 2


def _asymmetry(matrices: tf.Tensor) -> tf.Tensor:
    """Returns |J - J'|_F / 2|J|_F of matrices (n, d, d)."""
    skew = (matrices - tf.linalg.matrix_transpose(matrices)) / 2
    squared = [tf.reduce_sum(tf.square(m), axis=[1, 2]) for m in (skew, matrices)]
    return tf.sqrt(tf.math.divide_no_nan(*squared))


def _between(start: tf.Tensor, end: tf.Tensor, nodes: tf.Tensor) -> tf.Tensor:
    """Returns the points (k, ...) that lie at `nodes` (k,) on the way from start to end."""
    nodes = tf.reshape(nodes, [-1] + [1] * start.shape.rank)
    return start + nodes * (end - start)
