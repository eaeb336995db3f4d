"""One run of `bin.issgd_compare`, and the tables and figures of all runs."""

import dataclasses
import pathlib
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import keras
import numpy as np

from bin.common import ends
from bin.jobs import guess
from bin.jobs.issgd import reports
from bin.jobs.issgd.config import Config
from thesis_tf import datasets, issgd
from thesis_tf.persistence import files
from thesis_tf.reporting import tables

METHODS = ("uniform", "importance")


@dataclasses.dataclass(frozen=True)
class Sampling:
    """How `fit` draws examples; see `issgd.ImportanceSampling`."""

    batch_size: int
    refresh_every: int | None
    smoothing: issgd.Smoothing
    seed: int
    true_gradient: bool


def train(
    config: Config,
    splits: datasets.Splits,
    sampling: Sampling,
    evaluation: "Evaluation",
) -> issgd.History:
    """Trains a new network; returns the records of its evaluations."""
    keras.backend.clear_session()
    keras.utils.set_random_seed(config.hardware.seed + sampling.seed)
    model = config.run.build(splits)
    config.training.compile(model)
    return fit(model, evaluation, sampling)


def fit(model: keras.Model, evaluation: "Evaluation", sampling: Sampling) -> issgd.History:
    """Trains a compiled classifier; returns the records of its evaluations, with variances.

    Args:
        model: a network from inputs to logits.
        evaluation: an `Evaluation`, which holds the data and the number of steps.
        sampling: how examples are drawn.
    """
    callback = issgd.ImportanceSampling(
        *evaluation.data["train"],
        batch_size=sampling.batch_size,
        refresh_every=sampling.refresh_every,
        smoothing=sampling.smoothing,
        seed=sampling.seed,
        true_gradient=sampling.true_gradient,
    )
    model.fit(
        callback.dataset.repeat(),
        steps_per_epoch=evaluation.steps,
        callbacks=[callback, evaluation],
        shuffle=False,
        verbose=0,
    )
    measured = {record.step: record for record in callback.history.records}
    history = issgd.History()
    for record in evaluation.records:
        if record.step in measured:
            found = measured[record.step]
            record = dataclasses.replace(
                record,
                uniform=found.uniform,
                gradient_variances=found.gradient_variances,
                true_gradient_squared=found.true_gradient_squared,
            )
        history.add(record)
    return history


class Evaluation(keras.callbacks.Callback):
    """Evaluates on all training and test examples every few steps, and after the last step.

    Args:
        data: {split: (x, y)}.
        every: steps between evaluations.
        steps: the number of steps of the training.
        target: the training loss at which training ends, or None.

    Attributes:
        records: one `issgd.Record` per evaluation.
        mistakes: one bool array (examples,) per evaluation, true for misclassified test examples.
    """

    def __init__(
        self,
        data: Mapping[str, tuple[np.ndarray, np.ndarray]],
        every: int,
        steps: int,
        target: float | None = None,
    ) -> None:
        super().__init__()
        self.data, self.steps = data, steps
        self.records: list[issgd.Record] = []
        self.mistakes: list[np.ndarray] = []
        self._every, self._target = every, target
        self._seconds = 0.0
        self._since: float | None = None
        self._evaluator: reports.Evaluator | None = None

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Evaluates before the first step."""
        self._evaluator = reports.Evaluator(self.model)
        self._evaluate(0)

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Evaluates every `every` steps."""
        step = int(self.model.optimizer.iterations.numpy())
        if step % self._every == 0 or step == self.steps:
            loss = self._evaluate(step)
            if self._target is not None and loss <= self._target:
                self.model.stop_training = True

    def _evaluate(self, step: int) -> float:
        if self._since is not None:
            self._seconds += time.perf_counter() - self._since
        assert self._evaluator is not None  # made in `on_train_begin`
        loss, wrong = self._evaluator(*self.data["train"])
        self.mistakes.append(self._evaluator(*self.data["test"])[1])
        errors = {"train": float(np.mean(wrong)), "test": float(np.mean(self.mistakes[-1]))}
        self.records.append(
            issgd.Record(step=step, seconds=self._seconds, loss=loss, errors=errors)
        )
        # Evaluations do not count as training time.
        self._since = time.perf_counter()
        return loss


def save(history: issgd.History, path: pathlib.Path) -> None:
    """Writes the records of a run as JSON."""
    files.write_json(path, [record.values() for record in history.records])


def load(path: pathlib.Path) -> issgd.History:
    """Reads the records of a run."""
    history = issgd.History()
    for values in files.read_json(path):
        history.add(issgd.Record.from_values(values))
    return history


def report(
    done: Mapping[str, list[issgd.History]],
    targets: Sequence[float],
    folder: pathlib.Path,
    *,
    labels: np.ndarray,
    warn: ends.Warn = ends.unheard,
) -> str:
    """Writes figures and tables of {method: [history of each run]}; returns the table.

    Args:
        done: the histories.
        targets: the losses to reach.
        folder: where to write.
        labels: (n,) the classes of the test examples.
        warn: called if a diagnostic is bad.
    """
    doubts = reports.uniform_draws(done["importance"])
    order = variance_order(done["importance"])
    if not order.evaluations:
        doubts.append(
            "Gradient norms were measured only at the beginning, so draws were by those of an"
            " untrained network: --steps must be at least --refresh_every."
        )
    for method, several in done.items():
        errors = [history.records[-1].errors["test"] for history in several]
        doubts += [f"{method}: {s}" for s in guess.doubts(1 - float(np.median(errors)), labels)]
    for sentence in doubts:
        warn(sentence)
    reports.draw(dict(done), done["importance"], folder, doubts=doubts)
    summary = {method: _summary(runs, targets) for method, runs in done.items()}
    ratio, step = worst_ratio(done["uniform"], done["importance"])
    more = {
        "variance": dataclasses.asdict(order),
        "worst_ratio": {"ratio": ratio, "step": step},
        "warnings": doubts,
    }
    files.write_json(folder / "summary.json", summary | more)
    table = _table(summary, targets)
    table += (
        f"\nAt equal steps, the median training loss of importance sampling is at most {ratio:.3f}"
        f" times that of uniform draws, at step {step}."
    )
    if order.evaluations:
        table += f"\n{order.in_words()}"
    files.write_text(folder / "table.txt", "\n".join([table, *doubts]) + "\n")
    return table


@dataclasses.dataclass(frozen=True)
class VarianceOrder:
    """The number of evaluations whose gradient variances have the order that the thesis found.

    Attributes:
        evaluations: the number of evaluations with gradient variances.
        stale_between: the number of those with ideal <= stale <= uniform.
        actual_between: the number of those with ideal <= actual <= uniform.
        taken_over: the number of the other evaluations after which draws became uniform.
    """

    evaluations: int
    stale_between: int
    actual_between: int
    taken_over: int

    def in_words(self) -> str:
        """Returns the counts as a sentence."""
        return (
            f"Of {self.evaluations} evaluations with gradient variances, ideal <= stale <= uniform"
            f" in {self.stale_between}; ideal <= actual (smoothed) <= uniform in"
            f" {self.actual_between}; in {self.taken_over} of the others, draws became uniform."
        )


def variance_order(histories: Iterable[issgd.History]) -> VarianceOrder:
    """Counts the evaluations whose gradient variances are in order (Eq. 7.6-7.9)."""
    records = [r for h in histories for r in h.records if r.gradient_variances]
    stale, actual, taken_over = 0, 0, 0
    for record in records:
        variances = record.gradient_variances
        stale += variances["ideal"] <= variances["stale"] <= variances["uniform"]
        if variances["ideal"] <= variances["actual"] <= variances["uniform"]:
            actual += 1
        else:
            taken_over += bool(record.uniform)
    return VarianceOrder(len(records), stale, actual, taken_over)


def worst_ratio(
    uniform: Sequence[issgd.History], importance: Sequence[issgd.History]
) -> tuple[float, int]:
    """Returns (the largest ratio of median losses, importance to uniform; its step).

    Only steps at which all runs were evaluated are considered.
    """
    losses = [
        [{record.step: record.loss for record in history.records} for history in runs]
        for runs in (uniform, importance)
    ]
    steps = set.intersection(*(set(run) for runs in losses for run in runs))
    ratios = {}
    for step in sorted(steps):
        u, i = (np.median([run[step] for run in runs]) for runs in losses)
        ratios[step] = float(i / u)
    worst = max(ratios, key=ratios.__getitem__)
    return ratios[worst], worst


def steps_to(history: issgd.History, target: float) -> int | None:
    """Returns the first step at which the training loss was at most `target`, None if never."""
    for record in history.records:
        if record.loss is not None and record.loss <= target:
            return record.step
    return None


_AT_THE_END = ("loss", "train_error", "test_error")


def _summary(runs: Sequence[issgd.History], targets: Sequence[float]) -> dict[str, Any]:
    reached = {str(t): [steps_to(history, t) for history in runs] for t in targets}
    last = [history.records[-1].values() for history in runs]
    return {"steps_to": reached, "at_the_end": {k: [v[k] for v in last] for k in _AT_THE_END}}


def _table(summary: Mapping[str, Any], targets: Sequence[float]) -> str:
    """Returns a table of medians, with quartiles for final values."""
    rows: list[list[tables.Cell]] = []
    for target in targets:
        u, i = (_median_step(s["steps_to"][str(target)]) for s in summary.values())
        steps = ["-" if value is None else f"{value:.0f}" for value in (u, i)]
        rows.append([f"steps to loss {target:g}", *steps, _ratio(u, i)])
    for name in _AT_THE_END:
        ends = [np.percentile(s["at_the_end"][name], [50, 25, 75]) for s in summary.values()]
        cells = [f"{median:.4f} ({low:.4f}-{high:.4f})" for median, low, high in ends]
        (u, i) = (values[0] for values in ends)
        rows.append([f"{name.replace('_', ' ')} at the end", *cells, _ratio(u, i)])
    return tables.text(["median (quartiles)", *summary, "ratio"], rows)


def _ratio(uniform: float | None, importance: float | None) -> str:
    return f"{uniform / importance:.2f}" if uniform is not None and importance else "-"


def _median_step(steps: Sequence[int | None]) -> float | None:
    """Returns the median; runs that never reached the loss count as the latest."""
    values = np.median([np.inf if step is None else step for step in steps])
    return None if np.isinf(values) else float(values)
