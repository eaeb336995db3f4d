"""The plan of one call: what to compute, what can't be computed, and the report."""

import datetime
import pathlib
from collections.abc import Sequence

from bin.reproduction.engine import cache, contract, report, schedule, verdicts
from bin.reproduction.engine import task as tasks
from bin.reproduction.engine.catalogue import Figure
from bin.reproduction.engine.task import Failure
from bin.reproduction.engine.verdicts import Entry

# The process has read the new code, and has saved its result under the new hash.
_CHANGED = Failure("Its code or data changed during the computation. Run the same command again.")

_START = 6  # seconds until a process has loaded TensorFlow


class Plan:
    """The figures of one call.

    Args:
        figures: [`catalogue.Figure`] in the order of the report.
        budget: "quick" or "full".
        sources: `contract.Sources`.
        seed: the seed of all random numbers.
        cache_dir: a path; it must be absolute if other machines use it.
        threads: the number of threads per figure.

    Attributes:
        tasks: {figure: its task} for figures that can be computed or are in the cache.
        failures: {figure: why it failed}.
        missing: {figure: the files that are missing}.
    """

    def __init__(
        self,
        figures: Sequence[Figure],
        budget: str,
        sources: contract.Sources,
        seed: int,
        cache_dir: pathlib.Path,
        threads: int,
    ) -> None:
        self._figures, self._budget, self._seed = figures, budget, seed
        self._cache = cache.Cache(cache_dir)
        self._configs: dict[Figure, contract.Settings] = {}
        self.tasks: dict[Figure, tasks.Task] = {}
        self.failures: dict[Figure, Failure] = {}
        self.missing: dict[Figure, str] = {}
        for figure in figures:
            task = tasks.Task(figure, budget, sources, seed, cache_dir, threads)
            try:
                config = task.config()
            except Exception as error:  # any error of the figure's module
                self.failures[figure] = Failure(tasks.in_a_line(error))
                continue
            if lacking := config.lacking():
                self.missing[figure] = " and ".join(lacking)
            else:
                self.tasks[figure], self._configs[figure] = task, config

    @property
    def logs(self) -> pathlib.Path:
        """The folder of the figures' logs."""
        return self._cache.logs

    def problems(self) -> list[str]:
        """Returns lines on missing files, and on the figures that can't be computed."""
        lacking: dict[str, list[str]] = {}
        for figure, missing in self.missing.items():
            lacking.setdefault(missing, []).append(figure.label)
        return [
            *(f"{figure.label} failed: {what.error}" for figure, what in self.failures.items()),
            *(
                f"{', '.join(labels)}: not computed; missing: {missing}."
                for missing, labels in lacking.items()
            ),
        ]

    def left(self) -> list[Figure]:
        """Returns the figures that are not in the cache."""
        return [
            figure
            for figure, config in self._configs.items()
            if not self._cache.read(figure, config)
        ]

    def compute(self, pool: schedule.Pool, jobs: int) -> None:
        """Computes the remaining figures, `jobs` at a time, and shows progress."""
        left = self.left()
        expected = {f: _START + self._configs[f].expected_seconds for f in left}
        jobs = min(jobs, len(left))
        show = schedule.Progress(expected, jobs, self._verdicts)
        try:
            done = schedule.run({f: self.tasks[f] for f in left}, pool, jobs, show)
        finally:
            show.close()
            pool.stop()
        self.failures.update({figure: what for figure, what in done.items() if what})

    def write(self, folder: pathlib.Path, command: str) -> list[Entry]:
        """Writes the report to a folder; returns its entries."""
        entries = [self._entry(figure) for figure in self._figures]
        today = f"{datetime.datetime.now(datetime.UTC):%Y-%m-%d}"
        about = report.About(self._budget, self._seed, command, today)
        pictures = {f.slug: self._cache.shown(f, config) for f, config in self._configs.items()}
        report.write(folder, entries, about, pictures)
        return entries

    def _entry(self, figure: Figure) -> Entry:
        if figure in self.failures:
            return Entry(figure, failure=self.failures[figure])
        if figure in self.missing:
            return Entry(figure, missing=self.missing[figure], title=figure.load().TITLE)
        shown = self._cache.read(figure, self._configs[figure])
        if shown is None:
            return Entry(figure, failure=_CHANGED)
        return Entry(figure, shown=shown)

    def _verdicts(self, figure: Figure) -> str:
        """Returns a phrase with the numbers of a figure's claims by verdict."""
        shown = self._cache.read(figure, self._configs[figure])
        if shown is None:
            return _CHANGED.error
        return verdicts.in_words(verdicts.counts_of_claims(shown.claims))
