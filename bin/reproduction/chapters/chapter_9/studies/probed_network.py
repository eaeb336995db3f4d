"""A network with a linear probe on each of its layers, at moments of its training (chapter 9)."""

from __future__ import annotations

import dataclasses
import tempfile
from typing import TYPE_CHECKING, Any

from bin.reproduction.engine import study_cache
from bin.reproduction.engine.contract import Settings

if TYPE_CHECKING:
    import keras
    import numpy as np

    from thesis_tf.datasets import Splits

FITTING = "fitting"
_IMAGES = 64  # the number of images with which the scale of pixels is determined


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(Settings):
    """The network, its training, and its probes.

    Attributes:
        model: a name for `models.build`.
        image_size, auxiliary_head: settings of a backbone; see `models.build`.
        preprocessing: as for `models.build`, or "fitting": pixels in [-1, 1] or in [0, 1],
            whichever the weights were trained with.
        weights: the name in `contract.SOURCES` of the initial weights, or None for random ones.
        dataset: a name in `contract.SOURCES`, or mnist_mini.
        examples: the numbers of (train, validation, test) examples of the training; None for all.
        moments: the steps at which the network is probed, in order; training ends at the last.
        batch_size, learning_rate: settings of the training with Adam.
        momentum: the momentum of the moving averages of batch normalization. None leaves Keras'
            0.99, with which they lag behind by about a hundred steps.
        taps: the taps to probe, as for `probes.extract`.
        reduction: the reduction from outputs to features.
        probed: the numbers of (train, validation, test) examples of the probes; None for all.
    """

    model: str
    image_size: int | None = None
    preprocessing: str | None = None
    auxiliary_head: bool = False
    weights: str | None = None
    dataset: str = "mnist_mini"
    examples: tuple[int | None, int | None, int | None] = (None, None, None)
    moments: tuple[int, ...] = (0,)
    batch_size: int = 128
    learning_rate: float = 1e-3
    momentum: float | None = None
    taps: tuple[str, ...] = ("*",)
    reduction: str = "mean"
    probed: tuple[int | None, int | None, int | None] = (None, None, None)


@study_cache.shared
def reports(config: Config) -> dict[str, Any]:
    """Trains the network and probes it at each moment.

    Returns:
        {"moments": [{"step": its number, "report": the result of `ProbeReport.to_json`}, ...],
        "examples": {split: the number of examples of the probes}, "trained_on": the number of
        examples on which the network was trained here, which may be 0, "preprocessing": that of
        pixels}.
    """
    import keras

    from bin.common import configs, training

    splits = config.sources.load(config.dataset, config.examples, config.seed)
    probed = config.sources.load(config.dataset, config.probed, config.seed)
    keras.utils.set_random_seed(config.seed)
    model, preprocessing = _built(config, splits)
    last = max(config.moments)
    how = configs.Training(
        epochs=1,  # `total` determines the number of steps
        batch_size=config.batch_size,
        learning_rate=config.learning_rate,
        checkpoint_every=last + 1,
    )
    if last:
        training.compile_for(model, how)
    moments = []
    with tempfile.TemporaryDirectory() as folder:
        for step in config.moments:
            if step:
                training.train(model, splits, how, folder, total=step, seed=config.seed)
            moments.append({"step": step, "report": _report(config, model, probed)})
    return {
        "moments": moments,
        "examples": {name: len(getattr(probed, name)) for name in ("train", "validation", "test")},
        "trained_on": len(splits.train) if last else 0,
        "preprocessing": preprocessing,
    }


def _built(config: Config, splits: Splits) -> tuple[keras.Model, str]:
    """Returns the network and its preprocessing of pixels."""
    import keras

    import models

    def build(preprocessing: str | None) -> keras.Model:
        return models.build(
            config.model,
            splits.train.x.shape[1:],
            # Pretrained networks keep their number of classes.
            None if config.weights else splits.num_classes,
            weights=getattr(config.sources, config.weights) if config.weights else "none",
            image_size=config.image_size,
            preprocessing=preprocessing,
            auxiliary_head=config.auxiliary_head,
        )

    preprocessing = config.preprocessing
    if preprocessing == FITTING:
        images = splits.train.x[:_IMAGES]
        preprocessing = min(("tf", "unit"), key=lambda name: _misfit(build(name), images))
    model = build(preprocessing)
    if config.momentum is not None:
        for layer in model.layers:
            if isinstance(layer, keras.layers.BatchNormalization):
                layer.momentum = config.momentum
    return model, preprocessing or "default"


def _misfit(model: keras.Model, images: np.ndarray) -> float:
    """Returns how far images are from the statistics of the first batch normalization.

    The unit is a variance.
    """
    import keras
    import numpy as np

    first = next(x for x in model.layers if isinstance(x, keras.layers.BatchNormalization))
    seen = keras.Model(model.inputs, first.input).predict(images, verbose=0)
    off = seen.mean(axis=(0, 1, 2)) - np.asarray(first.moving_mean)
    return float(np.mean(off**2 / np.asarray(first.moving_variance)))


def _report(config: Config, model: keras.Model, splits: Splits) -> dict[str, Any]:
    from thesis_tf import probes

    examples, labels, parts = splits.stacked()
    with tempfile.TemporaryDirectory() as folder:
        store = probes.extract(
            model,
            examples,
            folder,
            taps=list(config.taps),
            reduction=config.reduction,
            seed=config.seed,
        )
        assert store is not None  # there is a single shard
        report = probes.fit_probes(
            store, labels, parts, class_names=splits.class_names, seed=config.seed
        )
    return report.to_json()
