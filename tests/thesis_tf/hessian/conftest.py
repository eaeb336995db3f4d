"""Small problems whose dense Hessians are known."""

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf

from thesis_tf.hessian.eigen.lanczos import Lanczos


@pytest.fixture
def problem():
    """A function that makes (model, loss, (x, y)) of a network in float64, tanh and softmax."""

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
    """A function that computes the Hessian (d, d) of a mean loss by `tape.jacobian`."""

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
    """A symmetric matrix in the place of an operator."""

    def __init__(self, matrix):
        self.matrix = np.asarray(matrix)
        self.shape, self.dtype, self.products = self.matrix.shape, self.matrix.dtype, 0

    def identity(self):
        return str(abs(self.matrix).sum())

    def multiply(self, vectors):
        self.products += len(vectors)
        return [tf.constant(self.matrix @ v.numpy()) for v in vectors]

    def __matmul__(self, vectors):
        self.products += 1 if vectors.ndim == 1 else vectors.shape[1]
        return self.matrix @ vectors


@pytest.fixture
def matrix():
    """A function from eigenvalues to a `Matrix` with them, and its eigenvectors (d, d)."""

    def make(eigenvalues, dtype="float64", seed=0):
        eigenvalues = np.sort(eigenvalues)
        rng = np.random.default_rng(seed)
        vectors, _ = np.linalg.qr(rng.normal(size=(len(eigenvalues),) * 2))
        return Matrix(((vectors * eigenvalues) @ vectors.T).astype(dtype)), vectors

    return make


@pytest.fixture
def poor_restarts(monkeypatch):
    """Turns what a search is begun anew with by 1e-5 towards another Ritz vector.

    Then residuals of 1e-5 stay outside the space, as rounding else makes them, on some processors.
    """
    begin_anew = Lanczos.begin_anew

    def turned(search, ritz):
        count = len(search.basis)
        _, vectors = np.linalg.eigh(search.matrix[:count, :count])
        overlap = abs(vectors.T @ ritz.coefficients).max(axis=1)
        other = vectors[:, [overlap.argmin()]]
        coefficients = ritz.coefficients + 1e-5 * other
        coefficients, triangle = np.linalg.qr(coefficients)
        coefficients *= np.sign(np.diag(triangle))
        begin_anew(search, dataclasses.replace(ritz, coefficients=coefficients))

    monkeypatch.setattr(Lanczos, "begin_anew", turned)
