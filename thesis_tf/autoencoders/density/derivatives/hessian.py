"""The Hessian of log p that a reconstruction function implies, as a linear operator."""

from collections.abc import Callable

import tensorflow as tf

from thesis_tf._core import arrays
from thesis_tf.autoencoders.density.derivatives import jacobians


class LogDensityHessian(tf.linalg.LinearOperator):
    """The symmetric part of (dr/dx - I) / sigma^2 (Eq 3.9), one matrix (d, d) per point.

    It computes products without the matrix: a product costs one forward pass, one forward and one
    backward derivative of r. Like any `tf.linalg.LinearOperator` it can be composed with others;
    `to_dense` computes the matrices.

    Args:
        reconstruct: r, from (n, ...) to (n, ...).
        x: (n, ...), the points.
        sigma: the standard deviation of the noise with which r was trained.
    """

    def __init__(
        self, reconstruct: Callable[[tf.Tensor], tf.Tensor], x: tf.Tensor, sigma: float
    ) -> None:
        self._reconstruct, self._x, self._sigma = reconstruct, x, sigma
        self._size = arrays.flat(x).shape[1]
        super().__init__(
            dtype=x.dtype,
            is_self_adjoint=True,
            is_square=True,
            name="LogDensityHessian",
            parameters={"reconstruct": reconstruct, "x": x, "sigma": sigma},
        )

    def _shape(self) -> tf.TensorShape:
        return tf.TensorShape([self._x.shape[0], self._size, self._size])

    def _shape_tensor(self) -> tf.Tensor:
        return tf.stack([tf.shape(self._x)[0], self._size, self._size])

    def _matmul(self, x: tf.Tensor, adjoint: bool = False, adjoint_arg: bool = False) -> tf.Tensor:
        vectors = tf.linalg.matrix_transpose(x) if not adjoint_arg else x
        count = tf.shape(vectors)[-2]
        here = tf.repeat(self._x, count, axis=0)
        shape = tf.concat([tf.shape(self._x)[:1], [count, self._size]], axis=0)
        vectors = tf.broadcast_to(vectors, shape)
        along = tf.reshape(vectors, tf.shape(here))
        _, forward, backward = jacobians.products(
            lambda p: arrays.reconstruction(self._reconstruct, p), here, along
        )
        product = ((forward + backward) / 2 - along) / tf.constant(self._sigma**2, here.dtype)
        return tf.linalg.matrix_transpose(tf.reshape(product, shape))
