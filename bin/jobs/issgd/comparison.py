"""One run of `bin.issgd_compare`, and what it makes of all of them."""

import time

import keras
import numpy as np

from bin.jobs.issgd import reports
from thesis_tf import issgd
from thesis_tf.persistence import files


def train(config, data, classes, method, seed):
    """Trains a fresh network; returns records of its evaluations."""
    keras.backend.clear_session()
    keras.utils.set_random_seed(config.hardware.seed + seed)
    model = config.run.build(data, classes)
    config.training.compile(model)
    target = min(config.targets) if config.stop_at_target else None
    return fit(
        model,
        Evaluation(data, config.evaluate_every, config.steps, target),
        batch_size=config.training.batch_size,
        refresh_every=None if method == "uniform" else config.refresh_every,
        smoothing=config.draws.rule(),
        seed=seed,
        true_gradient=config.true_gradient,
    )


def fit(model, evaluation, **sampling):
    """Trains a compiled classifier; returns records of its evaluations, with traces.

    Args:
        model: from inputs to logits.
        evaluation: an `Evaluation`, which has the data and the number of steps.
        **sampling: of `issgd.ImportanceSampling`; with `refresh_every=None` draws are uniform.
    """
    sampling = issgd.ImportanceSampling(*evaluation.data["train"], **sampling)
    model.fit(
        sampling.dataset.repeat(),
        steps_per_epoch=evaluation.steps,
        callbacks=[sampling, evaluation],
        shuffle=False,
        verbose=0,
    )
    traces = {record["step"]: record for record in sampling.history}
    return [record | traces.get(record["step"], {}) for record in evaluation.records]


class Evaluation(keras.callbacks.Callback):
    """Evaluates on all training and test examples every few steps, and after the last.

    Args:
        data: {split: (x, y)}.
        every: steps between evaluations.
        steps: how many there will be.
        target: a training loss at which training ends, or None.

    Attributes:
        records: a dict of each evaluation.
        mistakes: which test examples were classified wrongly at each, bool (examples,).
    """

    def __init__(self, data, every, steps, target=None):
        super().__init__()
        self.data, self.steps = data, steps
        self.records, self.mistakes = [], []
        self._every, self._target = every, target
        self._seconds, self._since = 0.0, None

    def on_train_begin(self, logs=None):
        """Evaluates before the first step."""
        self._evaluate(0)

    def on_train_batch_end(self, batch, logs=None):
        """Evaluates when it is time."""
        step = int(self.model.optimizer.iterations.numpy())
        if step % self._every == 0 or step == self.steps:
            self._evaluate(step)
            if self._target is not None and self.records[-1]["loss"] <= self._target:
                self.model.stop_training = True

    def _evaluate(self, step):
        if self._since is not None:
            self._seconds += time.perf_counter() - self._since
        train = reports.evaluate(self.model, *self.data["train"])
        x, y = self.data["test"]
        self.mistakes.append(reports.logits_of(self.model, x).argmax(-1) != y)
        self.records.append(
            {
                "step": step,
                "seconds": self._seconds,
                "loss": train["loss"],
                "train_error": train["error"],
                "test_error": float(np.mean(self.mistakes[-1])),
            }
        )
        # Evaluations are not part of the time.
        self._since = time.perf_counter()


def report(done, targets, folder):
    """Writes pictures and tables of {method: [records of each run]}; returns the table."""
    histories = {method: [_history(records) for records in runs] for method, runs in done.items()}
    for suffix in reports.SUFFIXES:
        issgd.draw_training(histories, folder / f"training.{suffix}")
        if any("trace_ideal" in r for records in done["importance"] for r in records):
            issgd.draw_traces(done["importance"], folder / f"traces.{suffix}")
    summary = {method: _summary(runs, targets) for method, runs in done.items()}
    variance = variance_order([r for records in done["importance"] for r in records])
    ratio, step = worst_ratio(done["uniform"], done["importance"])
    more = {"variance": variance, "worst_ratio": {"ratio": ratio, "step": step}}
    files.write_json(folder / "summary.json", summary | more)
    table = _table(summary, targets)
    table += (
        f"\nAt equal steps the median training loss by importance is at worst {ratio:.3f} times the"
        f" uniform one, at step {step}."
    )
    if variance["evaluations"]:
        table += "\n" + VARIANCE.format(**variance)
    files.write_text(folder / "table.txt", table + "\n")
    return table


VARIANCE = (
    "Of {evaluations} evaluations with traces, ideal <= stale <= uniform in {stale_between}; ideal"
    " <= actual (smoothed) <= uniform in {actual_between}; of the others draws became uniform in"
    " {taken_over}."
)


def variance_order(records):
    """Counts where the traces of records (Eq 7.6-7.9) are in the order that the thesis found."""
    traces = [
        {name: r[f"trace_{name}"] for name in ("ideal", "stale", "uniform", "actual")}
        | {"draws": r["uniform"]}
        for r in records
        if "trace_ideal" in r
    ]
    between = {
        name: [t["ideal"] <= t[name] <= t["uniform"] for t in traces]
        for name in ("stale", "actual")
    }
    worse = [t for t, good in zip(traces, between["actual"], strict=True) if not good]
    return {
        "evaluations": len(traces),
        "stale_between": sum(between["stale"]),
        "actual_between": sum(between["actual"]),
        "taken_over": sum(t["draws"] for t in worse),
    }


def worst_ratio(uniform, importance):
    """Returns (the largest ratio of median losses, importance to uniform; the step it is at).

    Of steps that all runs evaluated.
    """
    losses = [
        [{record["step"]: record["loss"] for record in records} for records in runs]
        for runs in (uniform, importance)
    ]
    steps = set.intersection(*(set(run) for runs in losses for run in runs))
    ratios = {}
    for step in sorted(steps):
        u, i = (np.median([run[step] for run in runs]) for runs in losses)
        ratios[step] = float(i / u)
    worst = max(ratios, key=ratios.get)
    return ratios[worst], worst


def _history(records):
    history = issgd.History()
    for record in records:
        history.add(record)
    return history


def steps_to(records, target):
    """The first step at which the training loss was at most `target`, None if it never was."""
    return next((r["step"] for r in records if r["loss"] <= target), None)


def _summary(runs, targets):
    reached = {str(t): [steps_to(records, t) for records in runs] for t in targets}
    ends = {k: [records[-1][k] for records in runs] for k in ("loss", "train_error", "test_error")}
    return {"steps_to": reached, "at_the_end": ends}


def _table(summary, targets):
    """Medians, with quartiles for what is reached at the end."""
    lines = [f"{'median (quartiles)':26}" + "".join(f"{m:>24}" for m in summary) + f"{'ratio':>8}"]
    for target in targets:
        found = {m: _median_step(s["steps_to"][str(target)]) for m, s in summary.items()}
        cells = "".join(f"{'-' if v is None else format(v, '.0f'):>24}" for v in found.values())
        a, b = found.values()
        ratio = f"{a / b:8.2f}" if a is not None and b else f"{'-':>8}"
        lines.append(f"{f'steps to loss {target:g}':26}{cells}{ratio}")
    for name in ("loss", "train_error", "test_error"):
        ends = {m: np.percentile(s["at_the_end"][name], [50, 25, 75]) for m, s in summary.items()}
        cells = "".join(f"{f'{m:.4f} ({a:.4f}-{b:.4f})':>24}" for m, a, b in ends.values())
        a, b = (values[0] for values in ends.values())
        lines.append(f"{name.replace('_', ' ') + ' at the end':26}{cells}{a / b if b else 0:8.2f}")
    return "\n".join(lines)


def _median_step(steps):
    """The median, where runs that never arrived count as later than all others."""
    values = np.median([np.inf if step is None else step for step in steps])
    return None if np.isinf(values) else float(values)
