"""The order in which figures are computed, and the progress display."""

import sys
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Protocol

import tqdm

from bin.reproduction.engine.catalogue import Figure
from bin.reproduction.engine.task import Failure, Task

_TICK = 0.5  # seconds between checks of running tasks


class Pool(Protocol):
    """An object that computes tasks: `pools.LocalPool` or `pools.RayPool`."""

    def start(self, task: Task) -> None:
        """Starts a task."""

    def finished(self, timeout: float) -> dict[Figure, Failure | None]:
        """Waits for something to end; returns {figure: None or what went wrong}."""

    def stop(self) -> None:
        """Ends what still runs."""


def run(
    tasks: Mapping[Figure, Task], pool: Pool, jobs: int, show: "Progress"
) -> dict[Figure, Failure | None]:
    """Runs tasks, `jobs` at a time; the longest chain of dependent tasks comes first.

    Args:
        tasks: {figure: its task}.
        pool: the pool that computes them.
        jobs: the number of simultaneous tasks.
        show: a `Progress`.

    Returns:
        {figure: None, or why it failed}.
    """
    waits = {figure: _waits_for(figure, tasks) for figure in tasks}
    left = sorted(tasks, key=lambda figure: -_urgency(figure, waits, show.expected))
    running: set[Figure] = set()
    done: dict[Figure, Failure | None] = {}
    while left or running:
        for figure in list(left):
            if len(running) < jobs and not waits[figure] - done.keys():
                left.remove(figure)
                running.add(figure)
                show.started(figure)
                pool.start(tasks[figure])
        show.tick(left)
        for figure, outcome in pool.finished(_TICK).items():
            running.remove(figure)
            done[figure] = outcome
            show.finished(figure, outcome)
    return done


def _waits_for(figure: Figure, tasks: Iterable[Figure]) -> set[Figure]:
    """Returns the figures of `tasks` for which a figure must wait because they share studies."""
    names = getattr(figure.load(), "AFTER", ())
    return {other for other in tasks if other.name in names and other != figure}


def _urgency(
    figure: Figure, waits: Mapping[Figure, set[Figure]], expected: Mapping[Figure, float]
) -> float:
    behind = [other for other, before in waits.items() if figure in before]
    return expected[figure] + max((_urgency(o, waits, expected) for o in behind), default=0)


class Progress:
    """Shows progress: on a terminal, one bar per running figure; in a log, one line per ended one.

    Args:
        expected: {figure: expected seconds}.
        jobs: the number of simultaneous figures.
        say: a function from a figure to the text that is shown when it has succeeded.
    """

    def __init__(
        self, expected: Mapping[Figure, float], jobs: int, say: Callable[[Figure], str]
    ) -> None:
        self.expected = expected
        self._jobs, self._say = jobs, say
        self._bars: dict[Figure, tqdm.tqdm] = {}
        self._since: dict[Figure, float] = {}
        self._took, self._count = 0.0, len(expected)
        self._done, self._of_done = 0, 0.0
        self._terminal = sys.stdout.isatty()
        self._total = self._bar(f"{self._count} to do", sum(expected.values()))

    def _bar(self, name: str, seconds: float) -> tqdm.tqdm:
        return tqdm.tqdm(
            total=max(1.0, seconds),
            desc=f"{name:<12}",
            # The text is passed as the unit, since tqdm's postfix begins with a comma.
            bar_format="{desc} {bar:30} {unit}",
            unit="",
            leave=False,
            file=sys.stdout,
            disable=not self._terminal,
        )

    def started(self, figure: Figure) -> None:
        """Handles the start of a figure."""
        self._since[figure] = time.monotonic()
        self._bars[figure] = self._bar(figure.label, self.expected[figure])

    def tick(self, left: Iterable[Figure]) -> None:
        """Updates the bars; `left` are the figures that have not started."""
        if not self._terminal:
            return
        now, remaining = time.monotonic(), sum(self.expected[figure] for figure in left)
        for figure, bar in self._bars.items():
            took, expected = now - self._since[figure], self.expected[figure]
            # A figure that takes longer than expected is shown as almost done.
            bar.n = min(took, 0.99 * bar.total)
            remaining += max(expected - took, 0.1 * took)
            bar.unit = f"{_time(took)} of about {_time(expected)}"
            bar.refresh()
        slowness = self._took / self._of_done if self._of_done else 1.0
        self._total.set_description_str(f"{self._done} of {self._count:<6}", refresh=False)
        self._total.n = min(self._of_done, self._total.total)
        self._total.unit = f"about {_time(slowness * remaining / self._jobs)} left"
        self._total.refresh()

    def finished(self, figure: Figure, outcome: Failure | None) -> None:
        """Handles the end of a figure, successful or not."""
        took = time.monotonic() - self._since.pop(figure)
        self._bars.pop(figure).close()
        self._done += 1
        self._took += took
        self._of_done += self.expected[figure]
        said = f"FAILED: {outcome.error}" if outcome else self._say(figure)
        tqdm.tqdm.write(f"{figure.label:<12} {_time(took):>8}  {said}", file=sys.stdout)
        sys.stdout.flush()

    def close(self) -> None:
        """Removes the bars."""
        for bar in (*self._bars.values(), self._total):
            bar.close()


def _time(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
