"""Runs with importance sampling and with uniform draws, for figures 7.2 to 7.4 and Table 7.1.

As in `bin.issgd_compare`, both methods begin with the same network in each run, and differ only in
the distribution of draws.
"""

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from bin.reproduction.engine import contract, study_cache

if TYPE_CHECKING:
    from thesis_tf.issgd import History

METHODS = ("uniform", "importance")
MEASURED = ("loss", "train_error", "test_error")
NAMES = {
    "mnist_mini": "8,100 MNIST digits",
    "mnist": "MNIST",
    "cifar10": "CIFAR-10",
    "svhn": "SVHN",
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(contract.Settings):
    """One setting of both methods.

    Attributes:
        datasets: names of data sets; the first one whose files exist is used.
        examples: the numbers of (train, validation, test) examples to draw, or None for all.
        units: the numbers of units of the hidden layers.
        batch_size: examples per step.
        learning_rate: the learning rate of SGD.
        momentum: Nesterov momentum; 0 for none.
        smoothing: the constant that is added to every norm, such as 10; or relative:0.3 for this
            fraction of the mean norm.
        refresh_every: steps between measurements of all gradient norms.
        evaluate_every: steps between evaluations.
        steps: the number of steps of each run.
        runs: the number of runs of each method.
    """

    datasets: tuple[str, ...] = ("mnist_mini",)
    examples: tuple[int, int, int] | None = None
    units: tuple[int, ...] = (128,) * 4
    batch_size: int = 128
    learning_rate: float = 0.01
    momentum: float = 0.95
    smoothing: str = "10"
    refresh_every: int = 50
    evaluate_every: int = 50
    steps: int = 800
    runs: int = 6

    def dataset(self) -> str:
        """Returns the name of the first data set whose files exist."""
        there = [d for d in self.datasets if d not in contract.SOURCES or self.sources.has(d)]
        return there[0] if there else self.datasets[-1]

    def label(self) -> str:
        """Returns a short description of the setting."""
        kind, _, number = self.smoothing.rpartition(":")
        added = f"+{number} of the mean" if kind else f"+{number}"
        return f"{NAMES[self.dataset()]}, learning rate {self.learning_rate:g}, smoothing {added}"


@study_cache.shared
def compared(config: Config) -> dict[str, Any]:
    """Trains with both methods; returns curves (runs, evaluations) and gradient variances."""
    import keras

    from bin.jobs.issgd import comparison
    from bin.jobs.issgd.config import Draws, loss_of
    from models.mlp import mlp
    from thesis_tf.reporting import progress

    splits = config.sources.load(config.dataset(), config.examples, config.seed)
    data = {name: (getattr(splits, name).x, getattr(splits, name).y) for name in ("train", "test")}
    rule = Draws(smoothing=config.smoothing).rule()
    done: dict[str, list[History]] = {method: [] for method in METHODS}
    mistakes: dict[str, list[list[np.ndarray]]] = {method: [] for method in METHODS}
    # Alternates between methods, so that other work on the machine slows down both equally.
    jobs = [(run, method) for run in range(config.runs) for method in METHODS]
    with progress.bar("auto", total=len(jobs), unit="run") as bar:
        for run, method in jobs:
            seed = config.seed * config.runs + run
            keras.backend.clear_session()
            keras.utils.set_random_seed(seed)
            model = mlp(splits.train.x.shape[1:], splits.num_classes, units=config.units)
            momentum = {"momentum": config.momentum, "nesterov": True} if config.momentum else {}
            optimizer = keras.optimizers.SGD(config.learning_rate, **momentum)
            model.compile(optimizer, loss_of(model))
            evaluation = comparison.Evaluation(data, config.evaluate_every, config.steps)
            sampling = comparison.Sampling(
                batch_size=config.batch_size,
                refresh_every=config.refresh_every if method == "importance" else None,
                smoothing=rule,
                seed=seed,
                true_gradient=True,
            )
            done[method].append(comparison.fit(model, evaluation, sampling))
            mistakes[method].append(evaluation.mistakes)
            bar.update()
    ratio, step = comparison.worst_ratio(done["uniform"], done["importance"])
    return {
        "label": config.label(),
        "dataset": config.dataset(),
        "examples": {name: len(y) for name, (_, y) in data.items()},
        "steps": np.array([record.step for record in done["uniform"][0].records]),
        "curves": {
            method: {name: _stacked(runs, name) for name in ("seconds", *MEASURED)}
            for method, runs in done.items()
        },
        "errors_of_examples": _errors_of_examples(mistakes),
        "gradient_variances": _gradient_variances(done["importance"]),
        "order": dataclasses.asdict(comparison.variance_order(done["importance"])),
        "worst": {"ratio": ratio, "step": step},
        # Steps of importance sampling to the final loss of uniform draws, None for never.
        "arrived": [
            comparison.steps_to(importance, uniform.records[-1].values()["loss"])
            for uniform, importance in zip(done["uniform"], done["importance"], strict=True)
        ],
        # Processes that measure norms during training. There are none: training stops to measure.
        "workers": 0,
    }


def _stacked(runs: "Sequence[History]", name: str) -> np.ndarray:
    return np.array([[record.values()[name] for record in run.records] for run in runs])


def _errors_of_examples(mistakes: dict[str, list[list[np.ndarray]]]) -> dict[str, float]:
    """Returns the standard error of a difference of test errors, due to the number of examples.

    All runs are tested on the same examples, so more runs don't reduce it.
    """
    uniform, importance = (np.mean(mistakes[method], axis=0) for method in METHODS)
    fewer = uniform - importance  # (evaluations, examples)
    count = fewer.shape[1] ** 0.5
    return {
        "while_training": fewer[1:].mean(axis=0).std(ddof=1) / count,
        "at_the_end": fewer[-1].std(ddof=1) / count,
    }


def _gradient_variances(runs: "Sequence[History]") -> dict[str, np.ndarray]:
    """Returns {"steps": (k,), draws: (runs, k)} for the evaluations with gradient variances."""
    measured = [[r for r in run.records if r.gradient_variances] for run in runs]
    found = {"steps": np.array([record.step for record in measured[0]])}
    for name in measured[0][0].gradient_variances:
        found[name] = np.array([[r.gradient_variances[name] for r in run] for run in measured])
    return found
