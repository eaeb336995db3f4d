import dataclasses

import numpy as np
import pytest

from thesis_tf.reporting.results import SavedResult, TabularResult


class Result(TabularResult):
    def _table(self):
        return ("name", "value"), [("<a>", 1)]

    def summary(self):
        return {"value": 1, "all": [1, 2], "named": {"a": 1}, "none": None, "done": True}


class WithoutSummary(TabularResult):
    def _table(self):
        return ("name",), []


@dataclasses.dataclass(frozen=True, repr=False, eq=False)
class Measured(SavedResult):
    values: np.ndarray
    mean: float
    count: int
    done: bool

    def _table(self):
        return ("value",), [[value] for value in self.values.tolist()]

    def summary(self):
        return {"mean": self.mean, "count": self.count}


@dataclasses.dataclass(frozen=True, repr=False, eq=False)
class Pair(SavedResult):
    first: Measured
    second: "Measured"
    name: str

    def _table(self):
        return ("name",), [[self.name]]

    def summary(self):
        return {"name": self.name}


MEASURED = Measured(np.array([1.5, 2.5], "f"), 2.0, 2, True)


def test_a_result_is_a_table_in_a_terminal_and_in_a_notebook():
    assert Result().table() == "name  value\n<a>       1"
    assert "&lt;a&gt;" in Result()._repr_html_()


def test_shown_in_short():
    assert repr(Result()) == "Result(value=1, none=-, done=yes)"
    assert repr(MEASURED) == "Measured(mean=2, count=2)"
    assert MEASURED.table().split() == ["value", "1.5", "2.5"]


def test_a_result_that_lacks_a_part_cannot_be_made():
    with pytest.raises(TypeError, match="summary"):
        WithoutSummary()


def test_saved_with_the_types_of_the_fields(tmp_path):
    MEASURED.save(tmp_path / "a.npz")
    again = Measured.load(tmp_path / "a.npz")
    np.testing.assert_array_equal(again.values, MEASURED.values)
    assert again.values.dtype == "float32"
    assert (again.mean, again.count, again.done) == (2.0, 2, True)
    assert [type(v) for v in (again.mean, again.count, again.done)] == [float, int, bool]


def test_saved_with_results_that_it_holds(tmp_path):
    Pair(MEASURED, dataclasses.replace(MEASURED, mean=7.0), "two").save(tmp_path / "p.npz")
    again = Pair.load(tmp_path / "p.npz")
    assert (again.first.mean, again.second.mean, again.name) == (2.0, 7.0, "two")
    np.testing.assert_array_equal(again.second.values, MEASURED.values)


def test_a_file_of_another_result(tmp_path):
    np.savez(tmp_path / "b.npz", values=np.zeros(2), mean=1.0)
    with pytest.raises(ValueError, match="must hold the fields of Measured; it lacks count, done"):
        Measured.load(tmp_path / "b.npz")
    with pytest.raises(ValueError, match=r"it lacks first.values, .*second.done, name"):
        Pair.load(tmp_path / "b.npz")
