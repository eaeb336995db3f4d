import json

import pytest

from bin.reproduction.engine import cache, catalogue, contract, plan
from bin.reproduction.engine import task as tasks

WELL, BROKEN, BARE = (
    catalogue.select(["3.4"])[0],
    *(catalogue.Figure(99, number, "figure") for number in (1, 2)),
)


class Inline:
    """A pool that does the work immediately, in this process."""

    def __init__(self):
        self.done, self.stopped = {}, False

    def start(self, task):
        self.done[task.figure] = tasks.work(task)

    def finished(self, timeout):
        done, self.done = self.done, {}
        return done

    def stop(self):
        self.stopped = True


@pytest.fixture
def planned(tmp_path, monkeypatch):
    """Returns a function that plans three figures: valid, not importable, and without data."""
    real = catalogue.Figure.load

    def load(figure):
        if figure == BROKEN:
            raise SyntaxError("invalid syntax (fig_99_1.py, line 3)")
        if figure == BARE:
            needs = contract.Settings(needs=("mnist", "inception_weights"))
            module = type("Module", (), {"TITLE": "Bare", "CONFIGS": {"quick": needs}})
            return module
        return real(figure)

    monkeypatch.setattr(catalogue.Figure, "load", load)

    def make():
        figures = [WELL, BROKEN, BARE]
        return plan.Plan(figures, "quick", contract.Sources(), 0, tmp_path / "cache", 1)

    return make


@pytest.mark.slow
def test_what_works_is_done_and_the_rest_is_said(planned, tmp_path, capsys):
    made, pool = planned(), Inline()
    assert made.problems() == [
        "Figure 99.1 failed: SyntaxError: invalid syntax (fig_99_1.py, line 3)",
        "Figure 99.2: not computed; missing: mnist.npz (--data_dir) and --inception_weights.",
    ]
    assert made.left() == [WELL]
    made.compute(pool, 5)
    assert pool.stopped
    assert "2 hold, 1 does not hold" in capsys.readouterr().out
    assert made.left() == []
    entries = made.write(tmp_path / "report", "python")
    assert [entry.status for entry in entries] == ["done", "failed", "without"]
    whole = json.loads((tmp_path / "report" / "report.json").read_text())
    assert (whole["budget"], whole["seed"], whole["command"]) == ("quick", 0, "python")
    # Another call reads the results of this one.
    assert planned().left() == []


def test_one_that_fails_while_it_runs_is_in_the_report(planned, tmp_path, monkeypatch):
    made = planned()

    def fails(config):
        raise MemoryError("no room")

    monkeypatch.setattr(WELL.load(), "run", fails)
    made.compute(Inline(), 1)
    entry = made.write(tmp_path / "report", "python")[0]
    assert (entry.status, entry.failure.error) == ("failed", "MemoryError: no room")
    assert planned().left() == [WELL]


@pytest.mark.slow
def test_code_that_changes_meanwhile_is_said(planned, tmp_path, monkeypatch, capsys):
    made = planned()
    # The process of the figure reads other code than this process.
    monkeypatch.setattr(cache.Cache, "read", lambda *args: None)
    made.compute(Inline(), 1)
    assert "changed during the computation" in capsys.readouterr().out
    entry = made.write(tmp_path / "report", "python")[0]
    assert entry.status == "failed"
    assert "changed during the computation" in entry.failure.error


@pytest.mark.slow
def test_the_pool_is_stopped_whatever_happens(planned):
    class Interrupted(Inline):
        def finished(self, timeout):
            raise KeyboardInterrupt

    pool = Interrupted()
    with pytest.raises(KeyboardInterrupt):
        planned().compute(pool, 1)
    assert pool.stopped
