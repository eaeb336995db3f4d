"""Runs by importance sampling and by uniform draws, of one setting: figures 7.2 to 7.4, Table 7.1.

As `bin.issgd_compare` makes them: both methods begin with the same network in each run, and differ
in nothing but the draws.
"""

import dataclasses

import numpy as np

from bin.reproduction.engine import contract, study_cache

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
    """One setting.

    Attributes:
        datasets: of which the first that is there is used.
        examples: (train, validation, test) to draw, or None for all.
        units: of the network's hidden layers.
        batch_size: examples a step.
        learning_rate: of SGD.
        momentum: Nesterov's; 0 for none.
        smoothing: what is added to every norm: 10, or relative:0.3 for that part of the mean.
        refresh_every: steps between measurements of all norms.
        evaluate_every: steps between evaluations.
        steps: of each run.
        runs: of each method.
    """

    datasets: tuple = ("mnist_mini",)
    examples: tuple | None = None
    units: tuple = (128,) * 4
    batch_size: int = 128
    learning_rate: float = 0.01
    momentum: float = 0.95
    smoothing: str = "10"
    refresh_every: int = 50
    evaluate_every: int = 50
    steps: int = 800
    runs: int = 6

    def dataset(self):
        """The name of the first data set that is there."""
        there = [d for d in self.datasets if d not in contract.SOURCES or self.sources.has(d)]
        return there[0] if there else self.datasets[-1]

    def label(self):
        """The setting in a few words."""
        kind, _, number = self.smoothing.rpartition(":")
        added = f"+{number} of the mean" if kind else f"+{number}"
        return f"{NAMES[self.dataset()]}, learning rate {self.learning_rate:g}, smoothing {added}"


@study_cache.shared
def compared(config):
    """Trains by both methods; returns curves (runs, evaluations) and traces of the gradients."""
    import keras
    import tqdm

    from bin.jobs.issgd import common, comparison
    from models.mlp import mlp

    splits = config.sources.load(config.dataset(), config.examples, config.seed)
    data = {name: (getattr(splits, name).x, getattr(splits, name).y) for name in ("train", "test")}
    rule = common.Draws(config.smoothing, None, None, 0.1).rule()
    done, mistakes = ({method: [] for method in METHODS} for _ in range(2))
    # Both methods of a run in turn, so that what else the machine does slows them alike.
    jobs = [(run, method) for run in range(config.runs) for method in METHODS]
    for run, method in tqdm.tqdm(jobs, unit="run", disable=None):
        seed = config.seed * config.runs + run
        keras.backend.clear_session()
        keras.utils.set_random_seed(seed)
        model = mlp(splits.train.x.shape[1:], splits.num_classes, units=config.units)
        momentum = {"momentum": config.momentum, "nesterov": True} if config.momentum else {}
        optimizer = keras.optimizers.SGD(config.learning_rate, **momentum)
        model.compile(optimizer, common.loss())
        evaluation = comparison.Evaluation(data, config.evaluate_every, config.steps)
        records = comparison.fit(
            model,
            evaluation,
            batch_size=config.batch_size,
            refresh_every=config.refresh_every if method == "importance" else None,
            smoothing=rule,
            seed=seed,
            true_gradient=True,
        )
        done[method].append(records)
        mistakes[method].append(evaluation.mistakes)
    ratio, step = comparison.worst_ratio(done["uniform"], done["importance"])
    return {
        "label": config.label(),
        "dataset": config.dataset(),
        "examples": {name: len(y) for name, (_, y) in data.items()},
        "steps": np.array([record["step"] for record in done["uniform"][0]]),
        "curves": {
            method: {name: _stacked(runs, name) for name in ("seconds", *MEASURED)}
            for method, runs in done.items()
        },
        "errors_of_examples": _errors_of_examples(mistakes),
        "traces": _traces(done["importance"]),
        "order": comparison.variance_order([r for run in done["importance"] for r in run]),
        "worst": {"ratio": ratio, "step": step},
        # Steps of importance sampling to the loss that uniform draws end with, None for never.
        "arrived": [
            comparison.steps_to(importance, uniform[-1]["loss"])
            for uniform, importance in zip(done["uniform"], done["importance"], strict=True)
        ],
        # Processes that measure norms beside the training, which here stops for that.
        "workers": 0,
    }


def _stacked(runs, name):
    return np.array([[record[name] for record in records] for records in runs])


def _errors_of_examples(mistakes):
    """What the number of test examples leaves uncertain of a difference of test errors.

    All runs are tested on the same examples, so that more runs make that no smaller.
    """
    uniform, importance = (np.mean(mistakes[method], axis=0) for method in METHODS)
    fewer = uniform - importance  # (evaluations, examples)
    count = fewer.shape[1] ** 0.5
    return {
        "while_training": fewer[1:].mean(axis=0).std(ddof=1) / count,
        "at_the_end": fewer[-1].std(ddof=1) / count,
    }


def _traces(runs):
    """Returns {"steps": (k,), proposal: (runs, k)}, of the evaluations that have traces."""
    runs = [[r for r in records if "trace_ideal" in r] for records in runs]
    names = [name for name in runs[0][0] if name.startswith("trace_")]
    steps = np.array([record["step"] for record in runs[0]])
    return {"steps": steps} | {n.removeprefix("trace_"): _stacked(runs, n) for n in names}
