import dataclasses

import numpy as np
import pytest

from thesis_tf.hessian import Eigenpairs, SearchOptions


def eigenpairs():
    return Eigenpairs(
        values=np.array([-2.0, 3.0, 20.0]),
        vectors=np.eye(5, 3, dtype="float32"),
        residuals=np.array([1e-3, 2e-2, 1.3e-4]),
        converged=np.array([True, False, True]),
        products=17,
        checks=3,
        smallest=1,
    )


def test_saving(tmp_path):
    pairs = eigenpairs()
    pairs.save(tmp_path / "pairs")
    again = Eigenpairs.load(tmp_path / "pairs")
    for name in ("values", "vectors", "residuals", "converged"):
        np.testing.assert_array_equal(getattr(again, name), getattr(pairs, name))
    assert (again.products, again.checks, again.smallest) == (17, 3, 1)
    assert (again.vectors.dtype, again.converged.dtype) == ("float32", "bool")


def test_a_file_of_something_else(tmp_path):
    with pytest.raises(FileNotFoundError):
        Eigenpairs.load(tmp_path / "none.npz")
    np.savez(tmp_path / "other.npz", values=np.zeros(2))
    with pytest.raises(ValueError, match="the fields of Eigenpairs; it lacks vectors, residuals"):
        Eigenpairs.load(tmp_path / "other.npz")
    (tmp_path / "cut.npz").write_bytes((tmp_path / "other.npz").read_bytes()[:60])
    with pytest.raises(ValueError, match=r"complete \.npz file"):
        Eigenpairs.load(tmp_path / "cut.npz")


def test_shown():
    pairs = eigenpairs()
    rows = [row.split() for row in pairs.table().splitlines()]
    assert rows[1] == ["largest", "1", "20", "1.3e-04", "yes"]
    assert rows[2:4] == [
        ["largest", "2", "3", "2.0e-02", "NO"],
        ["smallest", "1", "-2", "1.0e-03", "yes"],
    ]
    note = "Copies of multiple eigenvalues may be missing"
    assert note in pairs.table()
    assert note not in dataclasses.replace(pairs, confirmed=True).table()
    assert "<td" in pairs._repr_html_()
    assert pairs.summary() == {
        "largest": 20.0, "smallest": -2.0, "eigenvalues": 3, "converged": 2,
        "confirmed": False, "max_residual": 0.02, "products": 17,
    }  # fmt: skip
    assert repr(pairs).startswith("Eigenpairs(largest=20, smallest=-2, eigenvalues=3")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"solver": "lobpcg"}, "`solver` must be one of lanczos, eigsh"),
        ({"ncv": 0}, "`ncv` must be a positive integer"),
        ({"memory_limit": -1}, "`memory_limit` must be a number of bytes"),
        ({"max_products": 0}, "`max_products` must be a positive integer"),
        ({"confirm": -1}, "`confirm` must be None, or a number of products"),
        ({"save_every": 0}, "`save_every` must be a positive integer"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        SearchOptions(**options)
