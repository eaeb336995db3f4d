"""Output of the importance-sampling programs: TensorBoard, figures, the model, its metrics."""

import pathlib
from collections.abc import Iterable, Sequence

import keras
import numpy as np
import tensorflow as tf

from bin.common import ends
from bin.jobs import guess
from thesis_tf import issgd
from thesis_tf.persistence import files
from thesis_tf.plotting import style
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
        *,
        doubts: Sequence[str] = (),
        warn: ends.Warn = ends.unheard,
    ) -> dict[str, float]:
        """Writes figures, the model and its metrics on the test examples; returns the metrics.

        Args:
            model: the trained model.
            history: the history of the training.
            test: the test examples and their classes.
            doubts: sentences that say why not to trust the training.
            warn: called with these, and if the model is no better than a guess.
        """
        loss, wrong = Evaluator(model)(*test)
        metrics = {"loss": loss, "error": float(np.mean(wrong))}
        doubts = [*doubts, *guess.doubts(1 - metrics["error"], test[1])]
        for sentence in doubts:
            warn(sentence)
        draw({"training": [history]}, [history], self._folder, doubts=doubts)
        with files.atomic(self._folder / "model.keras") as partial:
            model.save(partial)
        files.write_json(self._folder / "metrics.json", metrics)
        return metrics


def draw(
    runs: dict[str, list[issgd.History]],
    with_variances: Sequence[issgd.History],
    folder: pathlib.Path,
    *,
    doubts: Sequence[str] = (),
) -> None:
    """Draws training curves, and gradient variances if there are any, into a folder.

    Above them are sentences that say why not to trust them.
    """
    title = style.heading(None, doubts)
    have = any(record.gradient_variances for h in with_variances for record in h.records)
    for suffix in SUFFIXES:
        issgd.draw_training(runs, folder / f"training.{suffix}", title=title)
        if have:
            path = folder / f"gradient_variance.{suffix}"
            issgd.draw_gradient_variance(with_variances, path, title=title)


def uniform_draws(histories: Iterable[issgd.History]) -> list[str]:
    """Returns a sentence if most steps of trainings by gradient norms drew uniformly."""
    draws: list[tuple[int, bool]] = []  # the number of steps before a record, and how they drew
    for history in histories:
        last = 0
        for record in history.records:
            if record.uniform is not None:
                draws.append((record.step - last, record.uniform))
            last = record.step
    steps = sum(count for count, _ in draws)
    fraction = sum(count for count, uniform in draws if uniform) / max(steps, 1)
    if fraction <= 0.5:
        return []
    if fraction == 1:
        return [
            "All draws were uniform, so this was no importance sampling: too few gradient norms"
            " came before the end, or they were too old or worse than uniform draws."
        ]
    return [
        f"In {fraction:.0%} of the steps draws were uniform: too few gradient norms had come, or"
        " they were too old or worse than uniform draws."
    ]


def stale_norms(history: issgd.History) -> list[str]:
    """Returns a sentence if, at the end, norms are on average older than half the training."""
    last = history.records[-1] if history.records else None
    if last is None or not last.staleness or 2 * last.staleness <= last.step:
        return []
    return [
        f"The gradient norms were {last.staleness:.0f} of {last.step} steps old at the end: workers"
        " have ended, or are too slow. Start more, or limit the age by --staleness."
    ]


def lonely(history: issgd.History) -> list[str]:
    """Returns a sentence if a peer never averaged its parameters with those of another one."""
    if not history.records or any(record.exchanged_with for record in history.records):
        return []
    return [
        "This peer trained alone: it never received the parameters of another one. Do all have the"
        " same --run_id and --store, and did they run at the same time?"
    ]


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
