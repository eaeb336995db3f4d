"""A network with a linear probe on each of its layers, at moments of its training (chapter 9)."""

import dataclasses
import tempfile

from bin.reproduction.engine import study_cache
from bin.reproduction.engine.contract import Settings

FITTING = "fitting"
_IMAGES = 64  # are enough to see which scale of pixels fits


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(Settings):
    """Which network, what it learns, and where and when it is probed.

    Attributes:
        model: a name that `models.build` takes.
        image_size, auxiliary_head: of a backbone; see `models.build`.
        preprocessing: likewise, or "fitting": of those in [-1, 1] and in [0, 1] the one that the
            weights were trained with.
        weights: the name in `contract.SOURCES` of those to begin with, or None for random ones.
        dataset: a name in `contract.SOURCES`, or mnist_mini.
        examples: (train, validation, test) that it is trained with; None stands for all.
        moments: the steps at which it is probed, in order; it is trained up to the last.
        batch_size, learning_rate: of the training, by Adam.
        momentum: of the moving averages of batch normalisation. None leaves Keras' .99, with which
            they lag behind by some hundred steps.
        taps: where to probe, as `probes.extract` takes it.
        reduction: from activations to features.
        probed: (train, validation, test) examples of the probes; None stands for all.
    """

    model: str
    image_size: int | None = None
    preprocessing: str | None = None
    auxiliary_head: bool = False
    weights: str | None = None
    dataset: str = "mnist_mini"
    examples: tuple = (None, None, None)
    moments: tuple = (0,)
    batch_size: int = 128
    learning_rate: float = 1e-3
    momentum: float | None = None
    taps: tuple = ("*",)
    reduction: str = "mean"
    probed: tuple = (None, None, None)


@study_cache.shared
def reports(config):
    """Trains the network and probes it at each moment.

    Returns:
        {"moments": [{"step": its number, "report": what `ProbeReport.to_json` gives}, ...],
        "examples": {split: how many the probes had}, "trained_on": how many the network was
        trained on, 0 for none, "preprocessing": of pixels}.
    """
    import keras

    from bin.common import configs, training

    splits = config.sources.load(config.dataset, config.examples, config.seed)
    probed = config.sources.load(config.dataset, config.probed, config.seed)
    keras.utils.set_random_seed(config.seed)
    model, preprocessing = _built(config, splits)
    last = max(config.moments)
    how = configs.Training(
        epochs=1,  # `total` says for how long
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


def _built(config, splits):
    """Returns the network, and how it scales pixels."""
    import keras

    import models

    def build(preprocessing):
        return models.build(
            config.model,
            splits.train.x.shape[1:],
            # Pretrained networks have classes of their own.
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


def _misfit(model, images):
    """How far images are off what the first batch normalisation has seen, in its own units."""
    import keras
    import numpy as np

    first = next(x for x in model.layers if isinstance(x, keras.layers.BatchNormalization))
    seen = keras.Model(model.inputs, first.input).predict(images, verbose=0)
    off = seen.mean(axis=(0, 1, 2)) - np.asarray(first.moving_mean)
    return float(np.mean(off**2 / np.asarray(first.moving_variance)))


def _report(config, model, splits):
    from thesis_tf import probes

    examples, labels, parts = splits.stacked()
    with tempfile.TemporaryDirectory() as folder:
        store = probes.extract(
            model, examples, folder, list(config.taps), config.reduction, seed=config.seed
        )
        report = probes.fit_probes(
            store, labels, parts, class_names=splits.class_names, seed=config.seed
        )
    return report.to_json()
