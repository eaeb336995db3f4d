import pytest

from bin.reproduction.engine import catalogue


def names(patterns):
    return [figure.name for figure in catalogue.select(patterns)]


def test_names_globs_and_all_in_the_order_of_the_thesis():
    assert names(["7.2", "3.4"]) == ["3.4", "7.2"]
    assert names(["table_7*"]) == ["table_7.1"]
    every = [figure.name for figure in catalogue.figures()]
    assert names(["3.*", "3.4"]) == [name for name in every if name.startswith("3.")]
    assert names(["all"]) == every
    assert names(["Table_7.1"]) == ["table_7.1"]


@pytest.mark.parametrize(
    ("asked", "near"),
    [("7.1", "table_7.1"), ("3.14", "3.4"), ("fig_7.4", "7.4"), ("9.12", "9.3, 9.4")],
)
def test_an_unknown_one_lists_the_nearest(asked, near):
    with pytest.raises(ValueError, match=r"Nearest: .*--list") as error:
        catalogue.select(["3.4", asked])
    assert near in str(error.value).partition("Nearest: ")[2]


def test_none_at_all_is_refused():
    with pytest.raises(ValueError, match="--figures must name figures"):
        catalogue.select([])
    with pytest.raises(ValueError, match="--figures must name figures"):
        catalogue.select(["", ""])


def test_other_names_of_a_figure():
    assert catalogue.select(["3.4", "", "table_7.1"]) == catalogue.select(["fig_3_4", "table_7_1"])


def test_names_of_a_figure():
    figure, table = catalogue.select(["3.4"])[0], catalogue.select(["table_7.1"])[0]
    assert (figure.label, figure.slug) == ("Figure 3.4", "fig_3_4")
    assert (table.label, table.slug) == ("Table 7.1", "table_7_1")
    assert table.module == "bin.reproduction.chapters.chapter_7.table_7_1"


def test_a_module_that_lacks_a_part_is_refused(monkeypatch):
    (figure,) = catalogue.select(["3.4"])
    module = figure.load()
    monkeypatch.delattr(module, "claims")
    monkeypatch.setattr(module, "CONFIGS", {"quick": module.CONFIGS["quick"]})
    with pytest.raises(TypeError, match=r"chapter_3\.fig_3_4 lacks claims, CONFIGS\['full'\]"):
        figure.load()
