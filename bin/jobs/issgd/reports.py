"""Output of the importance-sampling programs: TensorBoard, figures, the model, its metrics."""

import pathlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from bin.jobs.issgd import config
from thesis_tf import issgd
from thesis_tf.persistence import files
from thesis_tf.reporting.summaries import SummaryWriter

if TYPE_CHECKING:
    import keras

SUFFIXES = ("png", "svg")


class ResultWriter:
    """Writes the records of a training while it runs, and its results at the end.

    Args:
        folder: where to write.
    """

    def __init__(self, folder: pathlib.Path) -> None:
        self._folder = folder
        self._writer = SummaryWriter(folder / "logs")

    def write(self, record: issgd.Record) -> None:
        """Writes a record of the history to TensorBoard."""
        values = {
            f"issgd/{name.replace('+', '_plus_')}": float(value)
            for name, value in record.values().items()
            if isinstance(value, (int, float)) and name != "step"
        }
        self._writer.scalars(record.step, values)

    def finish(
        self,
        model: "keras.Model",
        history: issgd.History,
        test: tuple[np.ndarray, np.ndarray],
    ) -> dict[str, float]:
        """Writes figures, the model and its metrics on the test examples; returns the metrics."""
        draw({"training": [history]}, [history], self._folder)
        metrics = evaluate(model, *test)
        with files.atomic(self._folder / "model.keras") as partial:
            model.save(partial)
        files.write_json(self._folder / "metrics.json", metrics)
        return metrics


def draw(
    runs: dict[str, list[issgd.History]],
    with_variances: Sequence[issgd.History],
    folder: pathlib.Path,
) -> None:
    """Draws training curves, and gradient variances if there are any, into a folder."""
    have = any(record.gradient_variances for h in with_variances for record in h.records)
    for suffix in SUFFIXES:
        issgd.draw_training(runs, folder / f"training.{suffix}")
        if have:
            issgd.draw_gradient_variance(with_variances, folder / f"gradient_variance.{suffix}")


def evaluate(model: "keras.Model", x: np.ndarray, y: np.ndarray) -> dict[str, float]:
    """Returns {"loss", "error"} of a classifier on examples.

    Unlike `bin.common.training.evaluate`, it neither uses nor resets the metrics of the compiled
    model, since it is called while `fit` is running, and leaves out regularization.
    """
    logits = logits_of(model, x)
    return {
        "loss": float(config.loss()(y, logits)),
        "error": float(np.mean(logits.argmax(-1) != y)),
    }


def logits_of(model: "keras.Model", x: np.ndarray, *, batch_size: int = 1000) -> np.ndarray:
    """Returns the outputs of a classifier for examples, (n, classes)."""
    batches = [x[i : i + batch_size] for i in range(0, len(x), batch_size)]
    return np.concatenate([model.predict_on_batch(batch) for batch in batches])
