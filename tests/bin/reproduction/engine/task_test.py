import dataclasses
import errno
import os

import pytest

from bin.reproduction.engine import cache, catalogue, contract, results
from bin.reproduction.engine import task as tasks

(FIGURE,) = catalogue.select(["3.4"])
MODULE = FIGURE.load()


@pytest.fixture
def task(tmp_path):
    return tasks.Task(FIGURE, "quick", contract.Sources(), 0, tmp_path, 1)


@pytest.mark.slow
def test_a_figure_is_computed_judged_and_drawn(task, tmp_path):
    assert tasks.work(task) is None
    kept = cache.Cache(tmp_path)
    shown = kept.read(FIGURE, task.config())
    assert shown.title == MODULE.TITLE
    assert {claim.verdict for claim in shown.claims} <= set(contract.Verdict)
    assert shown.settings["points"] == MODULE.CONFIGS["quick"].points
    assert shown.made.seconds > 0
    assert shown.made.versions["tensorflow"]
    assert shown.made.machine.cores == os.cpu_count()
    assert shown.made.threads == 1
    picture = kept.shown(FIGURE, task.config()) / cache.PICTURE
    assert picture.read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_what_is_there_is_not_computed_again(task, monkeypatch):
    assert tasks.work(task) is None

    def never(config):
        raise AssertionError("computed again")

    monkeypatch.setattr(MODULE, "run", never)
    assert tasks.work(task) is None
    # If its image is missing, it is drawn from its result.
    kept = cache.Cache(task.cache)
    (kept.shown(FIGURE, task.config()) / cache.PICTURE).unlink()
    (kept.shown(FIGURE, task.config()) / "shown.json").unlink()
    kept.shown(FIGURE, task.config()).rmdir()
    assert tasks.work(task) is None
    assert kept.read(FIGURE, task.config()).title == MODULE.TITLE


def test_doubts_of_a_result_are_shown(task, monkeypatch):
    monkeypatch.setattr(MODULE, "run", lambda config: {"chains": [{"warnings": ["R-hat 5."]}]})
    monkeypatch.setattr(MODULE, "draw", lambda result, path: path.write_bytes(b"IEND\xaeB`\x82"))
    monkeypatch.setattr(MODULE, "claims", lambda result: [])
    assert tasks.work(task) is None
    assert cache.Cache(task.cache).read(FIGURE, task.config()).warnings == ("R-hat 5.",)


DAMAGES = {
    "no image": ("shown", cache.PICTURE, None),
    "half a picture": ("shown", cache.PICTURE, b"\x89PNG\r\n\x1a\n"),
    "no claims": ("shown", cache.SHOWN, None),
    "half of the claims": ("shown", cache.SHOWN, b'{"title": '),
    "nothing": ("shown", cache.SHOWN, b"{}"),
    "half a result": ("result", "result.json", b'{"result": '),
    "no arrays": ("result", "arrays.npz", None),
    "half of the arrays": ("result", "arrays.npz", b"PK"),
}


@pytest.mark.slow
@pytest.mark.parametrize("damage", DAMAGES)
def test_what_is_damaged_is_made_again(task, damage):
    assert tasks.work(task) is None
    kept, config = cache.Cache(task.cache), task.config()
    before = kept.read(FIGURE, config)
    where, name, contents = DAMAGES[damage]
    damaged = getattr(kept, where)(FIGURE, config) / name
    damaged.unlink()
    if contents is not None:
        damaged.write_bytes(contents)
    if where == "result":
        # An existing image is not drawn again, regardless of how it was made.
        (kept.shown(FIGURE, config) / cache.PICTURE).unlink()
    assert kept.read(FIGURE, config) is None
    assert tasks.work(task) is None
    assert kept.read(FIGURE, config).claims == before.claims
    assert results.read(kept.result(FIGURE, config)) is not None


def test_a_drawing_that_writes_nothing_fails(task, monkeypatch):
    monkeypatch.setattr(MODULE, "draw", lambda result, path: None)
    assert "fig_3_4.draw wrote no image" in tasks.work(task).error
    assert cache.Cache(task.cache).read(FIGURE, task.config()) is None


def test_an_error_is_a_line():
    assert tasks.in_a_line(ValueError("no\n  luck")) == "ValueError: no luck"
    assert len(tasks.in_a_line(ValueError("no luck " * 999))) <= 400


def test_one_that_raises_leaves_its_error_and_its_log(task, monkeypatch, capfd):
    def fails(config):
        print("as far as here")
        os.write(2, b"and what C++ says\n")
        raise ValueError("no luck\nand more")

    monkeypatch.setattr(MODULE, "run", fails)
    outcome = tasks.work(task)
    assert outcome.error == "ValueError: no luck and more"
    assert "raise ValueError" in outcome.traceback
    log = cache.Cache(task.cache).log(FIGURE).read_text()
    for said in ("as far as here", "and what C++ says", "ValueError: no luck"):
        assert said in log
    print("heard again")
    assert capfd.readouterr().out == "heard again\n"


def test_a_failing_drawing_keeps_what_was_computed(task, monkeypatch):
    def fails(result, path):
        path.write_text("half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(MODULE, "draw", fails)
    assert "No space left" in tasks.work(task).error
    kept = cache.Cache(task.cache)
    assert not kept.shown(FIGURE, task.config()).exists()
    assert not list((task.cache / "shown").iterdir())
    assert results.load(kept.result(FIGURE, task.config()))["result"]["grid"].shape == (1000,)


def test_a_cache_that_cannot_be_written_is_an_outcome(task, tmp_path):
    (tmp_path / "file").write_text("")
    blocked = dataclasses.replace(task, cache=tmp_path / "file")
    assert "NotADirectoryError" in tasks.work(blocked).error


def test_the_environment_has_its_share_of_the_cores(task):
    shared = dataclasses.replace(task, threads=3).environment()
    assert shared["OMP_NUM_THREADS"] == shared["TF_NUM_INTRAOP_THREADS"] == "3"
