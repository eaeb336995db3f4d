"""What the importance-sampling programs write: TensorBoard, pictures, the model, its metrics."""

import numpy as np
import tensorflow as tf

from bin.jobs.issgd import common
from thesis_tf import issgd
from thesis_tf.persistence import files

SUFFIXES = ("png", "svg")


class Reports:
    """Writes a run's records as they come, and the rest at its end.

    Args:
        folder: where to.
    """

    def __init__(self, folder):
        self._folder, self._writer = folder, None

    def write(self, record):
        """Writes a record of the history to TensorBoard."""
        if self._writer is None:
            self._writer = tf.summary.create_file_writer(str(self._folder / "logs"))
        with self._writer.as_default(record["step"]):
            for name, value in record.items():
                if isinstance(value, (int, float)) and name != "step":
                    tf.summary.scalar(f"issgd/{name.replace('+', '_plus_')}", float(value))

    def finish(self, model, history, test):
        """Writes pictures, the model and its metrics on the test examples; returns these."""
        for suffix in SUFFIXES:
            issgd.draw_training({"training": [history]}, self._folder / f"training.{suffix}")
            if history.column("trace_ideal"):
                issgd.draw_traces([history], self._folder / f"traces.{suffix}")
        metrics = evaluate(model, *test)
        with files.atomic(self._folder / "model.keras") as partial:
            model.save(partial)
        files.write_json(self._folder / "metrics.json", metrics)
        return metrics


def evaluate(model, x, y):
    """Returns {"loss", "error"} of a classifier on examples."""
    logits = logits_of(model, x)
    return {
        "loss": float(common.loss()(y, logits)),
        "error": float(np.mean(logits.argmax(-1) != y)),
    }


def logits_of(model, x, batch_size=1000):
    """Returns what a classifier puts out for examples, (n, classes)."""
    batches = [x[i : i + batch_size] for i in range(0, len(x), batch_size)]
    return np.concatenate([model.predict_on_batch(batch) for batch in batches])
