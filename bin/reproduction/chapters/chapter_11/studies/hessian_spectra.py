"""Chapter 11's studies: eigenpairs of a network's Hessian at moments of its training."""

import dataclasses
from typing import TYPE_CHECKING, Any

from bin.reproduction.engine import study_cache
from bin.reproduction.engine.contract import Settings

if TYPE_CHECKING:
    import keras

    from thesis_tf.datasets import Splits
    from thesis_tf.hessian import HessianOperator

_NETWORKS = {"lenet": "The LeNet", "mlp": "A multi-layer perceptron"}
_DATA = {"mnist_mini": "MNIST digits", "mnist": "digits of MNIST", "cifar10": "images of CIFAR-10"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(Settings):
    """A network, trained with RMSProp as in the thesis, and the search for its eigenpairs.

    Attributes:
        dataset: the name of the training data.
        model: a name in `models.NAMES`.
        batch_size: examples per step.
        moments: the steps of training at which to search; `best_steps` uses only the last.
        examples: the number of training examples; the Hessian is that of their mean loss.
        largest, smallest: the numbers of eigenpairs at the upper and the lower end.
        tol: the residual of an eigenpair, relative to its eigenvalue.
    """

    dataset: str = "mnist_mini"
    model: str = "lenet"
    batch_size: int = 32
    moments: tuple[int, ...] = (50,)
    examples: int = 200
    largest: int = 8
    smallest: int = 8
    tol: float = 1e-2


@study_cache.shared
def best_steps(config: Config) -> dict[str, Any]:
    """Computes eigenpairs at one moment, and the best steps along the eigenvectors.

    Returns:
        A dict: "values", "residuals" (k,), in ascending order; "steps", k dicts of a `BestStep`;
        "searches", {"smallest", "largest": dicts of a `LineSearch`}; "at_optimum", the loss at
        1 / lambda along the eigenvector of the largest; "step", the step of the training; "data",
        "epoch" (the number of its steps), "notes" and "warnings".
    """
    from bin.jobs import hessian as hessian_job
    from thesis_tf import hessian

    splits, model, operator = _begun(config)
    _train(model, splits, config, 0, config.moments[-1])
    operator.refresh()
    pairs = hessian.extreme_eigenpairs(
        operator, largest=config.largest, smallest=config.smallest, tol=config.tol
    )
    steps, searches = hessian_job.along_eigenvectors(operator, pairs)
    value, vector = pairs.values[-1], pairs.vectors[:, -1]
    at_optimum = hessian.line_search(operator, vector, [1 / value], curvature=value)
    said = _said(config, splits, operator)
    return {
        "warnings": pairs.warnings(),
        "values": pairs.values,
        "residuals": pairs.residuals,
        "steps": [step.summary() for step in steps],
        "searches": {name: dataclasses.asdict(search) for name, search in searches.items()},
        "at_optimum": float(at_optimum.loss[0]),
        "step": config.moments[-1],
        **said,
    }


@study_cache.shared
def over_training(config: Config) -> dict[str, Any]:
    """Computes the extreme eigenvalues over training.

    Returns:
        A dict: "entries", as in `SpectrumHistory.to_json`; "data", "epoch" (the number of its
        steps), "notes" and "warnings".
    """
    from thesis_tf import hessian

    splits, model, operator = _begun(config)
    tracker = hessian.SpectrumTracker(
        operator, largest=config.largest, smallest=config.smallest, tol=config.tol
    )
    done = 0
    for moment in config.moments:
        _train(model, splits, config, done, moment)
        tracker.add(moment)
        done = moment
    history = tracker.history
    return {
        "entries": history.to_json(),
        "warnings": history.warnings(),
        **_said(config, splits, operator),
    }


def _begun(config: Config) -> tuple["Splits", "keras.Model", "HessianOperator"]:
    """Returns data, a compiled network, and the Hessian of its loss on a subset of the data."""
    import keras

    import models
    from bin.common import configs, training
    from thesis_tf import hessian

    keras.utils.set_random_seed(config.seed)
    splits = config.sources.load(config.dataset, seed=config.seed)
    model = models.build(config.model, splits.train.x.shape[1:], splits.num_classes)
    how = configs.Training(epochs=1, batch_size=config.batch_size, optimizer="rmsprop")
    training.compile_for(model, how)
    x, y = splits.train.x, splits.train.y
    subset = hessian.fixed_subset(x, y, fraction=config.examples / len(y), seed=config.seed)
    return splits, model, hessian.HessianOperator(model, model.loss, subset)


def _train(model: "keras.Model", splits: "Splits", config: Config, done: int, until: int) -> None:
    from bin.common import training

    if until > done:
        batches = training.batches(splits.train, config.batch_size, config.seed, done)
        model.fit(batches, steps_per_epoch=until - done, shuffle=False, verbose=0)


def _said(config: Config, splits: "Splits", operator: "HessianOperator") -> dict[str, Any]:
    """Returns the data, the steps per epoch, and notes on the network and the Hessian."""
    network, data = _NETWORKS[config.model], _DATA[config.dataset]
    epoch = len(splits.train) // config.batch_size
    return {
        "data": config.dataset,
        "epoch": epoch,
        "notes": [
            f"{network} ({operator.shape[0]:,} parameters), trained on {len(splits.train):,} {data}"
            f" by RMSProp in batches of {config.batch_size}: {epoch:,} steps per epoch. The Hessian"
            f" is that of the mean loss of {config.examples:,} of these examples."
        ],
    }
