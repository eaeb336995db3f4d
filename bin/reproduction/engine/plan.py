"""What is to be computed, what can't be, and the report of it."""

import datetime

from bin.reproduction.engine import cache, report, schedule
from bin.reproduction.engine import task as tasks

# Its process has read the new code, and kept what it made under that.
_CHANGED = {
    "error": "Its code or its data changed while it was computed. The same command shows it.",
    "traceback": "",
}

_START = 6  # seconds until a process has loaded TensorFlow


class Plan:
    """The figures of one call.

    Args:
        figures: [`catalogue.Figure`] in the order of the report.
        budget: "quick" or "full".
        sources: `contract.Sources`.
        seed: of all that is random.
        cache_dir: a path, absolute where others share it.
        threads: how many each figure may compute with.

    Attributes:
        tasks: {figure: `worker.Task`} of those that can be computed, or are there.
        failures: {figure: {"error", "traceback"}}.
        missing: {figure: the files that it lacks}.
    """

    def __init__(self, figures, budget, sources, seed, cache_dir, threads):
        self._figures, self._about = figures, {"budget": budget, "seed": seed}
        self._cache, self._configs = cache.Cache(cache_dir), {}
        self.tasks, self.failures, self.missing = {}, {}, {}
        for figure in figures:
            task = tasks.Task(figure, budget, sources, seed, cache_dir, threads)
            try:
                config = task.config()
            except Exception as error:  # whatever a figure's own module raises
                self.failures[figure] = {"error": tasks.in_a_line(error), "traceback": ""}
                continue
            if lacking := config.lacking():
                self.missing[figure] = " and ".join(lacking)
            else:
                self.tasks[figure], self._configs[figure] = task, config

    @property
    def logs(self):
        """The folder of what figures print."""
        return self._cache.logs

    def problems(self):
        """Lines on what can't be computed: what is missing, and which figures go without."""
        lacking = {}
        for figure, missing in self.missing.items():
            lacking.setdefault(missing, []).append(figure.label)
        return [
            *(f"{figure.label} failed: {what['error']}" for figure, what in self.failures.items()),
            *(
                f"{', '.join(labels)}: not computed, for want of {missing}."
                for missing, labels in lacking.items()
            ),
        ]

    def left(self):
        """The figures that are not in the cache."""
        return [
            figure
            for figure, config in self._configs.items()
            if not self._cache.read(figure, config)
        ]

    def compute(self, pool, jobs):
        """Computes what is left, `jobs` figures at a time, and shows how it goes."""
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

    def write(self, folder, command):
        """Writes the report to a folder; returns its entries."""
        entries = [self._entry(figure) for figure in self._figures]
        about = self._about | {
            "command": command,
            "date": f"{datetime.datetime.now(datetime.UTC):%Y-%m-%d}",
        }
        pictures = {f.slug: self._cache.shown(f, config) for f, config in self._configs.items()}
        report.write(folder, entries, about, pictures)
        return entries

    def _entry(self, figure):
        if figure in self.failures:
            return report.entry(figure, failure=self.failures[figure])
        if figure in self.missing:
            about = {"title": figure.load().TITLE, "missing": self.missing[figure]}
            return report.entry(figure, missing=about)
        shown = self._cache.read(figure, self._configs[figure])
        return report.entry(figure, shown=shown, failure=None if shown else _CHANGED)

    def _verdicts(self, figure):
        """How many of a figure's claims have which verdict."""
        shown = self._cache.read(figure, self._configs[figure])
        if not shown:
            return _CHANGED["error"]
        counted = report.counts([{"claims": shown["claims"], "status": report.DONE}])["claims"]
        return report.verdicts(counted)
