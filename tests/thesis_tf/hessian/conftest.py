"""Small problems with known dense Hessians."""

import dataclasses

import keras
import numpy as np
import pytest
import scipy.sparse.linalg
import tensorflow as tf

from thesis_tf.hessian.eigen import lanczos


@pytest.fixture
def problem():
    """Returns a function that creates (model, loss, (x, y)) of a float64 softmax network."""

    def make(examples=20, seed=0, **dense):
        keras.utils.set_random_seed(seed)
        model = keras.Sequential(
            [
                keras.Input((4,), dtype="float64"),
                keras.layers.Dense(5, "tanh", dtype="float64", name="first", **dense),
                keras.layers.Dense(3, dtype="float64", name="last"),
            ]
        )
        rng = np.random.default_rng(seed)
        data = rng.normal(size=(examples, 4)), rng.integers(0, 3, examples)
        return model, keras.losses.SparseCategoricalCrossentropy(from_logits=True), data

    return make


@pytest.fixture
def dense_hessian():
    """Returns a function that computes the Hessian (d, d) of a mean loss by `tape.jacobian`."""

    def compute(model, data):
        x, y = data
        variables = [v.value for v in model.trainable_variables]
        with tf.GradientTape() as outer:
            with tf.GradientTape() as inner:
                losses = keras.losses.sparse_categorical_crossentropy(y, model(x), from_logits=True)
                loss = tf.reduce_mean(losses) + sum(
                    v.regularizer(v) for v in model.trainable_variables if v.regularizer
                )
            gradient = inner.gradient(loss, variables)
            flat = tf.concat([tf.reshape(g, [-1]) for g in gradient], 0)
        blocks = outer.jacobian(flat, variables, unconnected_gradients="zero")
        return np.concatenate([b.numpy().reshape(len(flat), -1) for b in blocks], axis=1)

    return compute


class Matrix:
    """A symmetric matrix, used like an operator."""

    def __init__(self, matrix):
        self.matrix = np.asarray(matrix)
        self.shape, self.dtype, self.products = self.matrix.shape, self.matrix.dtype, 0

    def fingerprint(self, *, weights=True):
        return str(abs(self.matrix).sum())

    def __matmul__(self, vectors):
        self.products += 1 if len(vectors.shape) == 1 else vectors.shape[1]
        if isinstance(vectors, tf.Tensor):
            return tf.constant(self.matrix @ vectors.numpy())
        return self.matrix @ vectors

    def to_scipy(self):
        return scipy.sparse.linalg.LinearOperator(
            self.shape, matvec=lambda v: self @ v.reshape(-1), dtype=self.dtype
        )


@pytest.fixture
def matrix():
    """Returns a function from eigenvalues to a `Matrix` with them, and its eigenvectors (d, d)."""

    def make(eigenvalues, dtype="float64", seed=0):
        eigenvalues = np.sort(eigenvalues)
        rng = np.random.default_rng(seed)
        vectors, _ = np.linalg.qr(rng.normal(size=(len(eigenvalues),) * 2))
        return Matrix(((vectors * eigenvalues) @ vectors.T).astype(dtype)), vectors

    return make


@pytest.fixture
def poor_restarts(monkeypatch):
    """Turns the vectors that a search keeps when it begins anew by 1e-5 toward another vector.

    Then residuals of 1e-5 stay outside the Krylov space, like rounding errors on some processors.
    """
    begin_anew = lanczos.begin_anew

    def turned(state, pairs):
        _, vectors = np.linalg.eigh(state.matrix[: state.count, : state.count])
        overlap = abs(vectors.T @ pairs.coefficients).max(axis=1)
        other = vectors[:, [overlap.argmin()]]
        coefficients, triangle = np.linalg.qr(pairs.coefficients + 1e-5 * other)
        coefficients *= np.sign(np.diag(triangle))
        return begin_anew(state, dataclasses.replace(pairs, coefficients=coefficients))

    monkeypatch.setattr(lanczos, "begin_anew", turned)
