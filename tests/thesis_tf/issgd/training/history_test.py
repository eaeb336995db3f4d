import json

import pytest

from thesis_tf.issgd.training.history import FILE, History


def record(step, **more):
    return {"step": step, "seconds": step / 10, "loss": 1.0 / (step + 1), **more}


def written(folder, *steps):
    history = History(folder)
    for step in steps:
        history.add(record(step))
    return history


def test_records_outlive_their_history(tmp_path):
    history = written(tmp_path / "new", 4, 8)
    history.add(record(12, error=float("nan"), uniform=True))
    again = History(tmp_path / "new").records
    assert again[:2] == history.records[:2] == [record(4), record(8)]
    assert again[2]["error"] != again[2]["error"]
    assert len((tmp_path / "new" / FILE).read_text().splitlines()) == 3


def test_without_a_folder_records_are_in_memory_alone(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    history = written(None, 4, 8)
    history.cut(4)
    assert (history.records, list(tmp_path.iterdir())) == ([record(4)], [])


@pytest.mark.parametrize("left", [1, 20, -1])
def test_a_line_that_a_kill_cut_short_is_left_out(tmp_path, left):
    written(tmp_path, 4, 8)
    path = tmp_path / FILE
    line = json.dumps(record(12))
    whole = path.read_text()
    path.write_text(whole + line[:left])
    history = History(tmp_path)
    assert history.records == [record(4), record(8)]
    # Who only reads, as for a figure of a run that goes on, changes nothing.
    assert path.read_text() == whole + line[:left]
    history.add(record(16))
    history.add(record(20))
    assert History(tmp_path).records == [record(4), record(8), record(16), record(20)]


def test_a_whole_line_without_its_end_is_kept(tmp_path):
    written(tmp_path, 4, 8)
    path = tmp_path / FILE
    path.write_text(path.read_text()[:-1])
    history = History(tmp_path)
    assert history.records == [record(4), record(8)]
    history.add(record(12))
    assert History(tmp_path).records == [record(4), record(8), record(12)]


def test_what_comes_after_a_step_is_cut(tmp_path):
    history = written(tmp_path, 4, 8, 12)
    history.cut(8)
    assert history.records == History(tmp_path).records == [record(4), record(8)]
    history.add(record(11))
    assert History(tmp_path).records == [record(4), record(8), record(11)]
    history.cut(0)
    assert history.records == History(tmp_path).records == []
    assert [path.name for path in tmp_path.iterdir()] == [FILE]


def test_a_column_is_of_the_records_that_have_a_value():
    history = written(None, 4)
    history.add(record(8, error=0.5))
    history.add(record(12, error=None))
    history.add(record(16, error=0.0))
    assert history.column("error") == [(8, 0.8, 0.5), (16, 1.6, 0.0)]
    assert history.column("nothing") == []
