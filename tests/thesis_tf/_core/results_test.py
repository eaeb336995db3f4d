from thesis_tf._core.results import TabularResult


class Result(TabularResult):
    def _table(self):
        return ("name", "value"), [("<a>", 1)]


def test_a_result_is_a_table_in_a_terminal_and_in_a_notebook():
    assert Result().table() == "name  value\n<a>       1"
    assert "&lt;a&gt;" in Result()._repr_html_()
