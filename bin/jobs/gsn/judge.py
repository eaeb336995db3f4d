"""The classifier of real examples that judges samples, and how far to trust it."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal

import keras
import numpy as np

import models
from bin.common import configs, contents, training
from bin.jobs import guess
from thesis_tf import datasets, gsn

if TYPE_CHECKING:
    from bin.jobs.gsn.training import NetworkRun

_EPOCHS = 3
_MOST_UNSURE = 0.2  # the fraction of real examples that a judge may not recognize
_ONE_CLASS = 0.9  # the fraction of samples of one class that is nearly all


class Judge:
    """Judges samples by a classifier that is trained on the labeled examples of a run.

    Args:
        run: a `training.NetworkRun`.
        verbose: Keras' 0, 1 or 2.

    Attributes:
        absence: why there is no judge, a sentence; None if there is one.

    Raises:
        ValueError: the labels of the data can't be used.
    """

    def __init__(self, run: "NetworkRun", *, verbose: Literal[0, 1, 2] = 0) -> None:
        self._run, self._verbose = run, verbose
        self._splits: datasets.Splits | None = None
        self._probabilities: Callable[[np.ndarray], np.ndarray] | None = None
        self._accuracy: dict[str, float] = {}
        self._doubt: str | None = None
        self.absence = self._load()

    def _load(self) -> str | None:
        """Reads the examples with their labels, or returns why no classifier can judge."""
        data, shape = self._run.config.data, self._run.shape
        if not self._run.is_image:
            return f"examples of shape {shape} are no images."
        if not datasets.has_labels(data.dataset):
            return f"{self._run.splits.name} has no labels."
        splits = data.load(announce=False)  # `NetworkRun` has said what was read
        if len(shape) != 3 or splits.train.x.shape[1:] != shape:
            return (
                f"the classifier is for images (height, width, channels), and examples have shape"
                f" {shape}; --value_range tells that values are pixels."
            )
        if min(shape[:2]) < 4:
            return f"the classifier needs at least 4 x 4 pixels, and examples have shape {shape}."
        self._splits = splits
        return None

    def judge(self, samples: np.ndarray, **options: Any) -> dict[str, Any]:
        """Judges samples by the trained classifier, if there is one that can be trusted.

        Args:
            samples: (n, ...), or (steps, chains, ...) of chains.
            **options: of `gsn.sample_quality`.

        Returns:
            {"classifier": its accuracy on test examples, "quality", "quality_of_test_examples"}, or
            {"quality_left_out": a sentence} without labels. If the classifier is no better than a
            guess, "classifier" and "warnings", which say so; if it recognizes no class in many of
            the real examples, or nearly all samples are of one class, all of these.
        """
        if self.absence is not None:
            said = f"Quality is left out: {self.absence}"
            self._run.say(said)
            return {"quality_left_out": said}
        probabilities = self._trained()
        found: dict[str, Any] = {"classifier": self._accuracy}
        if self._doubt is not None:
            return {**found, "warnings": [self._doubt]}
        x = self._run.splits.test.x
        leading = samples.shape[: samples.ndim - x.ndim + 1]
        judged = probabilities(samples.reshape(-1, *x.shape[1:])).reshape(*leading, -1)
        test = gsn.sample_quality(probabilities(x))
        found["quality"] = gsn.sample_quality(judged, **options).summary()
        found["quality_of_test_examples"] = test.summary()
        doubts = []
        if test.unsure > _MOST_UNSURE:
            doubts.append(
                "The classifier that measures the quality of samples recognizes no class in"
                f" {test.unsure:.0%} of the real test examples: don't trust that quality."
            )
        doubts += _of_one_class(found["quality"]["class_fractions"], test.class_fractions)
        return found | ({"warnings": doubts} if doubts else {})

    def _trained(self) -> Callable[[np.ndarray], np.ndarray]:
        """Returns a function from examples to class probabilities, trained once."""
        if self._probabilities is None:
            self._probabilities = self._train()
        return self._probabilities

    def _train(self) -> Callable[[np.ndarray], np.ndarray]:
        splits = self._splits
        assert splits is not None
        pixels = splits.values.pixels if splits.values else None
        model = models.build(
            "mnist_convnet", self._run.shape, splits.num_classes, value_range=pixels
        )
        settings = configs.Training(epochs=_EPOCHS, batch_size=min(128, len(splits.train)))
        training.compile_for(model, settings)
        self._run.say("Training a classifier, or reading an existing one ...")
        # The run knows its examples; labels count here alone.
        folder = self._run.folder / "classifier" / contents.of_splits(splits)[:8]
        training.train(model, splits, settings, folder, verbose=self._verbose)
        metrics = training.evaluate(model, splits.test, settings.batch_size)
        self._accuracy = {
            "test_accuracy": metrics["accuracy"],
            "share_of_commonest_class": guess.share_of_commonest(splits.test.y),
        }
        for doubt in guess.doubts(metrics["accuracy"], splits.test.y):
            self._doubt = f"Quality is left out, since its classifier can't judge. {doubt}"
        # Labeled images have their stored values; those of the network may be in [0, 1].
        found = self._run.splits.values
        is_scaled = found is not None and found.in_unit and found.pixels is not None
        black, white = pixels if pixels and is_scaled else (0.0, 1.0)

        def probabilities(x: np.ndarray) -> np.ndarray:
            stored = (white - black) * x + black if black else white * x
            logits = model.predict(stored, batch_size=500, verbose=0)
            return keras.ops.convert_to_numpy(keras.ops.softmax(logits))

        return probabilities


def _of_one_class(of_samples: Sequence[float], of_examples: np.ndarray) -> list[str]:
    """Returns a sentence if nearly all samples are of one class, unlike real examples."""
    top, most = int(np.argmax(of_samples)), max(of_samples)
    if most <= _ONE_CLASS or of_examples[top] >= most / 2:
        return []
    return [
        f"According to the classifier {most:.0%} of the samples are of class {top}, and"
        f" {of_examples[top]:.0%} of the test examples."
    ]
