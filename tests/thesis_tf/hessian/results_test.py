import dataclasses

import numpy as np
import pytest

from thesis_tf.hessian.results import Result


@dataclasses.dataclass(frozen=True, repr=False, eq=False)
class Measured(Result):
    values: np.ndarray
    mean: float
    count: int
    done: bool

    def _table(self):
        return ("value",), [[value] for value in self.values.tolist()]

    def summary(self):
        return {"mean": self.mean, "count": self.count}


MEASURED = Measured(np.array([1.5, 2.5], "f"), 2.0, 2, True)


def test_shown_in_short():
    assert repr(MEASURED) == "Measured(mean=2, count=2)"
    assert MEASURED.table().split() == ["value", "1.5", "2.5"]


def test_saved_with_the_types_of_the_fields(tmp_path):
    MEASURED.save(tmp_path / "a.npz")
    again = Measured.load(tmp_path / "a.npz")
    np.testing.assert_array_equal(again.values, MEASURED.values)
    assert again.values.dtype == "float32"
    assert (again.mean, again.count, again.done) == (2.0, 2, True)
    assert [type(v) for v in (again.mean, again.count, again.done)] == [float, int, bool]


def test_a_file_of_another_result(tmp_path):
    np.savez(tmp_path / "b.npz", values=np.zeros(2), mean=1.0)
    with pytest.raises(ValueError, match="must hold the fields of Measured; it lacks count, done"):
        Measured.load(tmp_path / "b.npz")
