import os

import numpy as np
import pytest
import tensorflow as tf

from thesis_tf.hessian.eigen import basis as module
from thesis_tf.hessian.eigen.basis import DeviceBasis, HostBasis


def bases(ncv, size, dtype, folder):
    return {
        "memory": HostBasis(ncv, size, dtype, np.inf),
        "disk": HostBasis(ncv, size, dtype, 0, folder=folder / "vectors"),
        "device": DeviceBasis(ncv, size, dtype),
    }


def orthonormal(count, size, dtype="float64", seed=0):
    rows, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(size, count)))
    return rows.T.astype(dtype)


@pytest.mark.parametrize("kind", ["memory", "disk", "device"])
@pytest.mark.parametrize("chunk", [7, 1 << 15])
def test_sums_and_rests(tmp_path, monkeypatch, kind, chunk):
    monkeypatch.setattr(module, "CHUNK", chunk)
    rows = orthonormal(4, 30)
    basis = bases(6, 30, "float64", tmp_path)[kind]
    assert basis.on_disk == (kind == "disk")
    for number, row in enumerate(rows):
        basis.put(number, tf.constant(row))
    np.testing.assert_array_equal(basis[2], rows[2])
    rng = np.random.default_rng(1)
    vector, weights = rng.normal(size=30), rng.normal(size=(4, 3))

    rest, along = basis.orthogonalized(tf.constant(vector), 4, 30)
    np.testing.assert_allclose(along, rows @ vector, atol=1e-14)
    np.testing.assert_allclose(rest, vector - rows.T @ (rows @ vector), atol=1e-14)
    np.testing.assert_allclose(basis.combine(weights), weights.T @ rows, atol=1e-14)
    assert basis.replacements == 0
    basis.replace(weights)
    assert basis.replacements == 1
    np.testing.assert_allclose(basis.combine(np.eye(3)), weights.T @ rows, atol=1e-14)
    basis.put(3, tf.constant(vector))
    np.testing.assert_array_equal(basis[3], vector)
    basis.close()
    assert not any(files for _, _, files in os.walk(tmp_path))


def test_only_the_newest_have_more_than_rounding_errors():
    *rows, other = orthonormal(6, 30)
    basis = HostBasis(5, 30, "float64", np.inf)
    for number, row in enumerate(rows):
        basis.put(number, tf.constant(row))
    vector = 3 * rows[4] - 2 * rows[3] + 1e-9 * rows[0] + other
    rest, along = basis.orthogonalized(tf.constant(vector), 5, 2)
    rounding = 30 * np.finfo(float).eps * np.linalg.norm(vector)  # for sums of 30 products
    np.testing.assert_allclose(along, [1e-9, 0, 0, -2, 3], atol=rounding)
    np.testing.assert_allclose(np.stack(rows) @ rest.numpy(), 0, atol=rounding)


def test_a_long_vector_in_float32_stays_orthogonal():
    # With a few large elements among many, one sum over all elements has an error of about 1e-4.
    size = 1 << 20
    rng = np.random.default_rng(0)
    row = 1e-3 * rng.normal(size=size)
    row[:5] = 1.0
    row /= np.linalg.norm(row)
    basis = HostBasis(1, size, "float32", np.inf)
    basis.put(0, tf.constant(row, tf.float32))
    vector = tf.constant(1e-3 * rng.normal(size=size) + row, tf.float32)
    rest, _ = basis.orthogonalized(vector, 1, 1)
    norm = np.linalg.norm(rest)
    # Half a rounding for each element, and the same for the sums of chunks and their subtraction.
    rounding = 2 * np.finfo(np.float32).eps
    assert abs(basis[0].astype(float) @ rest.numpy().astype(float)) < rounding * norm


@pytest.mark.parametrize(("memory_limit", "on_disk"), [(np.inf, False), (0, True)])
def test_the_basis_of_a_machine_without_accelerators(tmp_path, memory_limit, on_disk):
    basis = module.make_basis(30, "float32", ncv=4, memory_limit=memory_limit, folder=tmp_path)
    assert isinstance(basis, HostBasis)
    assert (basis.ncv, basis.on_disk) == (4, on_disk)
    basis.close()
