from thesis_tf.reporting import tables

HEADINGS = ("layer", "error", "converged")
ROWS = [("a|b", 0.123456, True), ("<c>", None, False)]


def test_a_table_for_a_terminal():
    assert tables.text(HEADINGS, ROWS) == (
        "layer   error  converged\n"
        "a|b    0.1235        yes\n"
        "<c>         -         no"
    )  # fmt: skip


def test_a_table_without_rows_has_its_headings():
    assert tables.text(HEADINGS, []) == "layer  error  converged"


def test_html_is_escaped():
    found = tables.as_html(HEADINGS, ROWS)
    assert "&lt;c&gt;" in found
    assert found.count("<tr>") == 3
    assert '<td style="text-align:right">0.1235</td>' in found


def test_markdown_is_escaped():
    assert tables.markdown(HEADINGS, ROWS).splitlines() == [
        "| layer | error | converged |",
        "| --- | ---: | ---: |",
        r"| a\|b | 0.1235 | yes |",
        "| <c> | - | no |",
    ]
