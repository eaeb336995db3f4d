"""Output of the importance-sampling programs: TensorBoard, figures, the model, its metrics."""

import pathlib
from collections.abc import Sequence

import keras
import numpy as np
import tensorflow as tf

from thesis_tf import issgd
from thesis_tf.persistence import files
from thesis_tf.reporting.summaries import SummaryWriter

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
        model: keras.Model,
        history: issgd.History,
        test: tuple[np.ndarray, np.ndarray],
    ) -> dict[str, float]:
        """Writes figures, the model and its metrics on the test examples; returns the metrics."""
        draw({"training": [history]}, [history], self._folder)
        loss, wrong = Evaluator(model)(*test)
        metrics = {"loss": loss, "error": float(np.mean(wrong))}
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


class Evaluator:
    """Evaluates a classifier, also while `fit` is running.

    Unlike `bin.common.training.evaluate`, it neither uses nor resets the metrics of the compiled
    model, and leaves out what layers add to the loss.

    Args:
        model: a compiled classifier of one output.
        batch_size: examples that are computed at once.
    """

    def __init__(self, model: keras.Model, *, batch_size: int = 1000) -> None:
        self._model, self._batch_size = model, batch_size
        self._one = tf.function(self._batch, autograph=False, reduce_retracing=True)

    def __call__(self, x: np.ndarray, y: np.ndarray) -> tuple[float, np.ndarray]:
        """Returns the mean loss, and whether each example is misclassified, (n,) bool."""
        total, guesses = 0.0, []
        for start in range(0, len(x), self._batch_size):
            rows = slice(start, start + self._batch_size)
            loss, guess = self._one(tf.constant(x[rows]), tf.constant(y[rows]))
            total += float(loss) * len(x[rows])
            guesses.append(guess.numpy())
        return total / len(x), np.concatenate(guesses) != y

    def _batch(self, x: tf.Tensor, y: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        outputs = self._model(x, training=False)
        # Keras' own, which finds the logits of probabilities.
        loss = self._model.compute_loss(x, y, outputs, training=False)
        added = [tf.cast(value, loss.dtype) for value in self._model.losses]
        return loss - sum(added), tf.argmax(outputs, axis=-1)
