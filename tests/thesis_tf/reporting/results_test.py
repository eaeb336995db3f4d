import pytest

from thesis_tf.reporting.results import TabularResult


class Result(TabularResult):
    def _table(self):
        return ("name", "value"), [("<a>", 1)]

    def summary(self):
        return {"value": 1}


class WithoutSummary(TabularResult):
    def _table(self):
        return ("name",), []


def test_a_result_is_a_table_in_a_terminal_and_in_a_notebook():
    assert Result().table() == "name  value\n<a>       1"
    assert "&lt;a&gt;" in Result()._repr_html_()


def test_a_result_that_lacks_a_part_cannot_be_made():
    with pytest.raises(TypeError, match="summary"):
        WithoutSummary()
