"""What a trained reconstruction function says of the density of its data (thesis, 3.3)."""

import dataclasses
import functools
import itertools

import numpy as np
import tensorflow as tf

from thesis_tf._core import arrays, checks
from thesis_tf.autoencoders.density import jacobians, quadrature
from thesis_tf.autoencoders.density.data_region import DataRegion
from thesis_tf.autoencoders.density.hessian import LogDensityHessian


@dataclasses.dataclass(frozen=True, eq=False)
class Tangents:
    """Directions in which r lets a point move, the flattest first.

    Attributes:
        eigenvalues: (n, d) of the symmetric part of dr/dx, the largest first: near 1 along the
            manifold; across it, where data of variance v lie, near v / (v + sigma^2).
        directions: (n, d, d), unit vectors as columns.
        dimension: (n,), how many eigenvalues are above the threshold.
    """

    eigenvalues: np.ndarray
    directions: np.ndarray
    dimension: np.ndarray


class ScoreEstimator:
    """Score, curvature and energy differences of a density, from a reconstruction function.

    A denoising auto-encoder trained with squared error on Gaussian noise of standard deviation
    sigma, or an RCAE of that sigma, has r(x) = x + sigma^2 d log p(x) / dx + o(sigma^2) (Theorems 1
    and 2), where p is the density of the data. Without the limit it is Tweedie's formula: the best
    possible DAE has (r(x) - x) / sigma^2 = d log p_sigma(x) / dx exactly, with p_sigma the density
    of the data smoothed by the noise. All here is of p_sigma, as far as r was trained.

        estimator = ScoreEstimator(model, sigma=0.1)
        estimator.score(x)  # (n, ...), as x

    Methods take points x (n, ...) of any floating dtype, compute in that dtype as far as r does,
    are compiled once for each shape and dtype of a point, and may be called inside a
    `tf.function` (all but `tangent_directions`), where nobody looks for NaN.
    In float32 the score has an absolute error of about 1e-7 |x| / sigma^2.

    Args:
        reconstruct: r, a Keras model or a function, from (n, ...) to the same shape.
        sigma: the standard deviation of the noise that r was trained with; None if it isn't known,
            which leaves what needs no scale: `direction`, `jacobian`, `conservativity`,
            `tangent_directions`.
        data: (n, ...) training examples, if `energy_difference` is to warn of paths away from them.
        jit_compile: whether XLA compiles all that is computed.

    Raises:
        ValueError: sigma is not positive; and of every method, if r(x) has not the shape of x or x
            is not finite.
        TypeError: `reconstruct` can't be called; and of every method, if x is not of a floating
            dtype.
    """

    def __init__(self, reconstruct, sigma=None, *, data=None, jit_compile=False):
        if not callable(reconstruct):
            raise checks.invalid(
                "`reconstruct`", "a model or a function x -> r(x)", repr(reconstruct),
                kind=TypeError,
            )  # fmt: skip
        self.sigma = None if sigma is None else checks.positive_number("`sigma`", sigma)
        self.region = None
        if data is not None:
            self.region = DataRegion(
                arrays.checked_points("`data`", data, at_least=1), self.known_sigma()
            )
        self._given = reconstruct

        compiled = functools.partial(arrays.compiled, jit_compile=jit_compile)

        self._score = compiled(lambda x: self._difference(x) / self._variance(x))
        self._direction = compiled(self._compute_direction)
        self._jacobian = compiled(lambda x: jacobians.jacobian(self.reconstruct, x)[1])
        self._path = compiled(self._integrate, batch_axes=2)
        self._asymmetry = compiled(self._compute_asymmetry)
        self._eigenpairs = compiled(lambda x: tf.linalg.eigh(_symmetric(self._jacobian(x))))
        self._matching = compiled(self._match)

    def reconstruct(self, x):
        """Returns r(x) (n, ...), in the dtype of x."""
        return arrays.reconstruction(self._given, x)

    def score(self, x):
        """Returns d log p / dx at points x (n, ...), (r(x) - x) / sigma^2 (Eq 3.5 and 3.10)."""
        return self._score(arrays.checked_points("`x`", x))

    def direction(self, x):
        """Returns the direction of the score, of unit length (n, ...), whatever sigma is (3.3.5).

        Where r(x) = x it is 0.
        """
        return self._direction(arrays.checked_points("`x`", x))

    def jacobian(self, x):
        """Returns dr/dx (n, d, d) at points x (n, ...) of d values."""
        return self._jacobian(arrays.checked_points("`x`", x))

    def hessian_log_prob(self, x):
        """Returns d^2 log p / dx^2 (n, d, d), the symmetric part of (dr/dx - I) / sigma^2 (Eq 3.9).

        What is asymmetric in dr/dx is no derivative of a density; `conservativity` measures it.
        Costs d backward passes and n d^2 values; `hessian_operator` costs neither.
        """
        x = arrays.checked_points("`x`", x)
        derivative = _symmetric(self._jacobian(x))
        return (derivative - tf.eye(derivative.shape[-1], dtype=x.dtype)) / self._variance(x)

    def hessian_operator(self, x):
        """Returns `hessian_log_prob(x)` as a `tf.linalg.LinearOperator` that forms no matrix."""
        self.known_sigma()
        return LogDensityHessian(self.reconstruct, arrays.checked_points("`x`", x), self.sigma)

    def energy_difference(self, x, x_star, num_points=8, *, rule="gauss_legendre", waypoints=None):
        """Returns E(x*) - E(x) = log p(x) - log p(x*), a path integral of the score (Eq 3.14).

        Args:
            x: (n, ...) beginnings.
            x_star: (n, ...) ends.
            num_points: points at which r is computed on each straight piece; 1 and "midpoint" or
                "gauss_legendre" is exact for a Gaussian.
            rule: "gauss_legendre", "midpoint", "trapezoid" or "simpson".
            waypoints: (m, n, ...) points between, which the path goes through in straight lines;
                None is one line.

        Returns:
            (n,). Warns with `OutsideDataWarning` if the estimator was given data and the path
            leaves them; not inside a `tf.function`.
        """
        x = arrays.checked_points("`x`", x)
        stops = [x]
        if waypoints is not None:
            waypoints = tf.convert_to_tensor(waypoints)
            if waypoints.shape.rank != x.shape.rank + 1:
                expected = f"of shape (m, {', '.join(map(str, x.shape))})"
                raise checks.invalid("`waypoints`", expected, f"shape {tuple(waypoints.shape)}")
            for index, point in enumerate(tf.unstack(waypoints)):
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
                self.region.warn(on_the_way.numpy().reshape(-1, *x.shape[1:]), "The path", 2)
        self.known_sigma()
        return self._path(
            tf.stack(stops), tf.constant(nodes, x.dtype), tf.constant(weights, x.dtype)
        )

    def conservativity(self, x, num_probes=None, seed=(0, 0)):
        """Returns how far r is from a gradient (3.3.6): |J - J'|_F / 2|J|_F with J = dr/dx, (n,).

        0 where J is symmetric, as it is if r(x) - x is the gradient of some log p; 1 where J is
        antisymmetric. Of a J that is zero but for rounding it is anything from 0 to 1.

        Args:
            x: (n, ...).
            num_probes: None computes J, in d backward passes; a number estimates both norms from so
                many products with random vectors.
            seed: an integer or a pair of them, that the vectors are drawn by.
        """
        x = arrays.checked_points("`x`", x)
        if x.shape[0] == 0:
            return tf.zeros(0, x.dtype)  # which no Jacobian is computed for
        if num_probes is None:
            derivative = self._jacobian(x)
            skew = (derivative - tf.linalg.matrix_transpose(derivative)) / 2
            squared = [tf.reduce_sum(tf.square(m), axis=[1, 2]) for m in (skew, derivative)]
            return tf.sqrt(tf.math.divide_no_nan(*squared))
        num_probes = checks.positive_integer("`num_probes`", num_probes)
        return self._asymmetry(x, num_probes, arrays.checked_seed(seed))

    def tangent_directions(self, x, threshold=0.5):
        """Returns the `Tangents` of the manifold at points x (n, ...), by the spectrum of dr/dx.

        Args:
            x: (n, ...).
            threshold: eigenvalues above it count as tangent; at .5 the data vary more than the
                noise.
        """
        values, vectors = self._eigenpairs(arrays.checked_points("`x`", x))
        values, vectors = values.numpy()[:, ::-1], vectors.numpy()[:, :, ::-1]
        return Tangents(values, vectors, (values > threshold).sum(axis=1))

    def denoising_score_matching(self, x, noisy):
        """Returns the denoising score matching loss (n,) of the score (3.3.7; Vincent, 2011).

        |score(x~) - (x - x~) / sigma^2|^2 / 2, which is the denoising loss |r(x~) - x|^2 over
        2 sigma^4.

        Args:
            x: (n, ...) clean examples.
            noisy: (n, ...), the same with Gaussian noise of sigma.
        """
        x = arrays.checked_points("`x`", x)
        return self._matching(x, arrays.checked_points("`noisy`", noisy, like=x))

    def known_sigma(self):
        """Returns sigma; raises ValueError if the estimator was given none."""
        if self.sigma is None:
            raise checks.invalid(
                "`sigma`", "known for this", None, "Without it there is `direction`, of no scale."
            )
        return self.sigma

    def _difference(self, x):
        return self.reconstruct(x) - x

    def _variance(self, x):
        return tf.constant(self.known_sigma() ** 2, x.dtype)

    def _compute_direction(self, x):
        way = self._difference(x)
        norm = tf.norm(arrays.flat(way), axis=1)
        return tf.math.divide_no_nan(way, tf.reshape(norm, [-1] + [1] * (x.shape.rank - 1)))

    def _integrate(self, stops, nodes, weights):
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

    def _compute_asymmetry(self, x, num_probes, seed):
        shape = tf.concat([[num_probes], tf.shape(x)], axis=0)
        vectors = tf.random.stateless_normal(shape, seed, dtype=x.dtype)
        skew = whole = 0.0
        for probe in range(num_probes):
            _, forward, back = jacobians.products(self.reconstruct, x, vectors[probe])
            skew += tf.reduce_sum(tf.square(arrays.flat(forward - back) / 2), axis=1)
            # E|Jv|^2 = E|J'v|^2 = |J|^2
            both = (tf.square(arrays.flat(forward)) + tf.square(arrays.flat(back))) / 2
            whole += tf.reduce_sum(both, axis=1)
        return tf.sqrt(tf.math.divide_no_nan(skew, whole))

    def _match(self, x, noisy):
        target = (x - noisy) / self._variance(x)
        return tf.reduce_sum(tf.square(arrays.flat(self._score(noisy) - target)), axis=1) / 2


def _symmetric(matrices):
    return (matrices + tf.linalg.matrix_transpose(matrices)) / 2


def _between(start, end, nodes):
    """Returns the points (k, ...) that lie at `nodes` (k,) on the way from start to end."""
    nodes = tf.reshape(nodes, [-1] + [1] * start.shape.rank)
    return start + nodes * (end - start)
