import json

import pytest

from thesis_tf.issgd.training.history import FILE, History, Record


def record(step, **more):
    return Record(step=step, seconds=step / 10, loss=1.0 / (step + 1), **more)


def written(folder, *steps):
    history = History(folder=folder)
    for step in steps:
        history.add(record(step))
    return history


def test_records_outlive_their_history(tmp_path):
    history = written(tmp_path / "new", 4, 8)
    history.add(record(12, errors={"test": float("nan")}, uniform=True))
    again = History(folder=tmp_path / "new").records
    assert again[:2] == history.records[:2] == [record(4), record(8)]
    assert again[2].errors["test"] != again[2].errors["test"]
    assert len((tmp_path / "new" / FILE).read_text().splitlines()) == 3


def test_lines_are_json_also_of_infinite_variances(tmp_path):
    history = History(folder=tmp_path)
    infinite = {"stale": float("inf"), "uniform": 2.0}
    history.add(record(4, gradient_variances=infinite, exchanged_with="NaN"))

    def refused(name):
        raise AssertionError(f"{name} is no JSON")

    line = json.loads((tmp_path / FILE).read_text(), parse_constant=refused)
    assert float(line["gradient_variance_stale"]) == float("inf")
    assert History(folder=tmp_path).records == history.records


def test_without_a_folder_records_are_in_memory_alone(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    history = written(None, 4, 8)
    history.cut(4)
    assert (history.records, list(tmp_path.iterdir())) == ([record(4)], [])


@pytest.mark.parametrize("left", [1, 20, -1])
def test_a_line_that_a_kill_cut_short_is_left_out(tmp_path, left):
    written(tmp_path, 4, 8)
    path = tmp_path / FILE
    line = json.dumps(record(12).values())
    whole = path.read_text()
    path.write_text(whole + line[:left])
    history = History(folder=tmp_path)
    assert history.records == [record(4), record(8)]
    # Reading, for example for a figure of a running training, changes nothing.
    assert path.read_text() == whole + line[:left]
    history.add(record(16))
    history.add(record(20))
    assert History(folder=tmp_path).records == [record(4), record(8), record(16), record(20)]


def test_a_whole_line_without_its_end_is_kept(tmp_path):
    written(tmp_path, 4, 8)
    path = tmp_path / FILE
    path.write_text(path.read_text()[:-1])
    history = History(folder=tmp_path)
    assert history.records == [record(4), record(8)]
    history.add(record(12))
    assert History(folder=tmp_path).records == [record(4), record(8), record(12)]


def test_what_comes_after_a_step_is_cut(tmp_path):
    history = written(tmp_path, 4, 8, 12)
    history.cut(8)
    assert history.records == History(folder=tmp_path).records == [record(4), record(8)]
    history.add(record(11))
    assert History(folder=tmp_path).records == [record(4), record(8), record(11)]
    history.cut(0)
    assert history.records == History(folder=tmp_path).records == []
    assert [path.name for path in tmp_path.iterdir()] == [FILE]


def test_a_column_is_of_the_records_that_have_a_value():
    history = written(None, 4)
    history.add(record(8, errors={"test": 0.5}))
    history.add(record(12))
    history.add(record(16, errors={"test": 0.0}))
    assert history.column("test_error") == [(8, 0.8, 0.5), (16, 1.6, 0.0)]
    assert history.column("nothing") == []


def test_values_are_flat_and_a_record_is_made_of_them_again():
    full = record(
        4,
        uniform=False,
        usable=0.5,
        losses={"train": 1.0, "validation": 2.0},
        errors={"test": 0.25},
        gradient_variances={"ideal": 1.0, "stale+10": 3.0},
        true_gradient_squared=0.1,
    )
    values = full.values()
    assert values["validation_loss"] == 2.0
    assert values["test_error"] == 0.25
    assert values["gradient_variance_stale+10"] == 3.0
    assert "staleness" not in values
    assert Record.from_values(json.loads(json.dumps(values))) == full


@pytest.mark.parametrize(
    ("values", "message"),
    [({"loss": 1.0}, "needs a step"), ({"step": 1, "mood": 2.0}, "no value 'mood'")],
)
def test_values_of_no_record(values, message):
    with pytest.raises(ValueError, match=message):
        Record.from_values(values)


def test_a_table_of_the_last_and_the_smallest_values():
    history = written(None, 4)
    history.add(record(8, errors={"test": 0.25}, uniform=True))
    history.add(Record(12, seconds=1.5, errors={"test": float("nan")}, exchanged_with="a"))
    assert history.table() == (
        "value       records    last  smallest  at step\n"
        "loss              2  0.1111    0.1111        8\n"
        "test_error        2     nan      0.25        8"
    )
    assert json.loads(json.dumps(history.summary())) == {
        "records": 3,
        "step": 12,
        "seconds": 1.5,
        "loss": 1 / 9,
        "test_error": None,
        "uniform": True,
        "exchanged_with": "a",
    }
    assert History().summary() == {"records": 0}
    assert History().table() == "value  records  last  smallest  at step"
