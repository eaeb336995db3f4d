import itertools

import pytest

from bin.reproduction.engine import catalogue, schedule
from bin.reproduction.engine.catalogue import Figure
from bin.reproduction.engine.task import Failure


class Module:
    def __init__(self, after=()):
        self.AFTER = after


class Pool:
    """Runs nothing; each figure ends after a given number of checks."""

    def __init__(self, looks, outcomes=None):
        self.looks, self.outcomes = dict(looks), outcomes or {}
        self.running, self.order, self.most = {}, [], 0

    def start(self, task):
        self.running[task] = self.looks[task.name]
        self.order.append(task.name)
        self.most = max(self.most, len(self.running))

    def finished(self, timeout):
        self.running = {figure: left - 1 for figure, left in self.running.items()}
        done = [figure for figure, left in self.running.items() if left == 0]
        for figure in done:
            del self.running[figure]
        return {figure: self.outcomes.get(figure.name) for figure in done}


@pytest.fixture
def scheduled(monkeypatch, capsys):
    """Returns a function (expected, after, jobs, outcomes) -> (pool, output, outcomes)."""

    def run(expected, after=None, jobs=2, outcomes=None):
        figures = {f"1.{n}": Figure(1, n, "figure") for n in range(1, len(expected) + 1)}
        monkeypatch.setattr(
            catalogue.Figure, "load", lambda figure: Module((after or {}).get(figure.name, ()))
        )
        pool = Pool(expected, outcomes)
        seconds = {figures[name]: value for name, value in expected.items()}
        show = schedule.Progress(seconds, jobs, lambda figure: f"{figure.name} is well")
        done = schedule.run({f: f for f in figures.values()}, pool, jobs, show)
        show.close()
        return pool, capsys.readouterr().out, {f.name: what for f, what in done.items()}

    return run


def test_the_longest_begins_first_and_no_more_than_jobs_run(scheduled):
    pool, said, done = scheduled({"1.1": 1, "1.2": 5, "1.3": 3, "1.4": 2})
    assert pool.order == ["1.2", "1.3", "1.4", "1.1"]
    assert pool.most == 2
    assert done == dict.fromkeys(pool.looks)
    assert len(said.splitlines()) == 4
    assert "Figure 1.3" in said
    assert "1.3 is well" in said


def test_one_waits_for_another_and_that_one_is_urgent(scheduled):
    after = {"1.3": ("1.1", "9.9"), "1.4": ("1.3",)}
    expected = {"1.1": 1, "1.2": 4, "1.3": 3, "1.4": 2}
    pool, _, _ = scheduled(expected, after, jobs=1)
    assert pool.order == ["1.1", "1.3", "1.2", "1.4"]
    pool, _, _ = scheduled(expected, after, jobs=4)
    places = [pool.order.index(name) for name in ("1.1", "1.3", "1.4")]
    assert places == sorted(places)
    # 9.9 is not one of the figures, so nobody waits for it.
    assert set(pool.order) == set(expected)


def test_one_that_fails_stops_nobody(scheduled):
    failure = Failure("ValueError: no luck", "...")
    _, said, done = scheduled({"1.1": 1, "1.2": 2}, {"1.2": ("1.1",)}, outcomes={"1.1": failure})
    assert done == {"1.1": failure, "1.2": None}
    assert "FAILED: ValueError: no luck" in said


class Terminal:
    def __init__(self):
        self.said = ""

    def write(self, text):
        self.said += text

    def flush(self):
        pass

    def isatty(self):
        return True


def test_a_terminal_shows_bars_and_the_time_left(monkeypatch):
    terminal, clock = Terminal(), itertools.count(0, 10)
    monkeypatch.setattr("sys.stdout", terminal)
    monkeypatch.setattr(schedule.time, "monotonic", lambda: next(clock))
    first, second = Figure(1, 1, "figure"), Figure(1, 2, "figure")
    show = schedule.Progress({first: 30.0, second: 300.0}, 1, lambda figure: "done")
    show.started(first)  # at 0 s
    show.tick([second])  # at 10 s: 20 s and 300 s are left
    assert "10 s of about 30 s" in terminal.said
    assert "about 5 min left" in terminal.said
    show.finished(first, None)  # at 20 s, in two thirds of the expected time
    show.started(second)  # at 30 s
    show.tick([])  # at 40 s: 290 s are left, or two thirds of them at this speed
    assert "about 3 min left" in terminal.said
    show.close()


@pytest.mark.parametrize(
    ("seconds", "said"), [(5.4, "5 s"), (100, "2 min"), (3000, "50 min"), (9000, "2.5 h")]
)
def test_times(seconds, said):
    assert schedule._time(seconds) == said
