"""Trains networks of chapter 5 on digits and judges their chains (5.4, 5.6, 5.7, Table 5.1).

All networks have the same protocol: chains begin at training examples, and their samples are the
means E[x | H] of the steps.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from bin.reproduction.chapters.chapter_5.studies import digit_classifier
from bin.reproduction.engine import study_cache
from bin.reproduction.engine.contract import Settings

if TYPE_CHECKING:
    from bin.reproduction.chapters.chapter_5.studies import real_valued_gsn
    from thesis_tf.datasets import Splits
    from thesis_tf.gsn import GenerativeStochasticNetwork

    AnyConfig: TypeAlias = "Config | real_valued_gsn.Config"

_SHOWN = 10  # the number of chains whose images are kept
_RUNS = 3  # the number of completions of each image


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(Settings):
    """A network, its training, and its chains.

    Attributes:
        dataset: mnist_mini or mnist.
        examples: the numbers of (train, validation, test) examples to draw, or None for all.
        network: "gsn", the network of figure 5.5, or "dae", with one hidden layer.
        layers: the numbers of units of the hidden layers.
        noise: the standard deviation of the noise in hidden layers above the first, for "gsn".
        corruption: the probability of salt-and-pepper noise.
        walkback: the number of steps of walkback.
        scaling: whether a scaling factor is learned for each of these steps.
        epochs: the epochs after which chains are run, in order; training ends after the last.
        batch_size: examples per step.
        learning_rate: the learning rate of Adam at the first step.
        decay: the learning rate at the last step, as a fraction of `learning_rate`.
        clip: the norm to which gradients are clipped, since high learning rates otherwise lead to
            spikes of the loss.
        consecutive: (chains, steps); a classifier judges all of these steps.
        scored: (chains, steps, n): the chains from which log-likelihoods are estimated; every nth
            step is kept.
        completed: the number of test images whose left half is fixed and whose right half is drawn.
        completion_steps: the number of steps of these chains.
        classifier: the settings of the classifier of real digits.
    """

    dataset: str = "mnist_mini"
    examples: tuple[int, int, int] | None = None
    network: str = "gsn"
    layers: tuple[int, ...] = (500, 500)
    noise: float = 2.0
    corruption: float = 0.4
    walkback: int = 4
    scaling: bool = False
    epochs: tuple[int, ...] = (10,)
    batch_size: int = 25
    learning_rate: float = 4e-3
    decay: float = 0.2
    clip: float = 50.0
    consecutive: tuple[int, int] = (50, 100)
    scored: tuple[int, int, int] = (8, 4000, 4)
    completed: int = 0
    completion_steps: int = 100
    classifier: digit_classifier.Config = digit_classifier.CONFIGS["quick"]


@study_cache.shared
def samples(config: Config) -> dict[str, Any]:
    """Trains the network and runs its chains after each of `config.epochs`.

    Returns:
        {"stages": [{"epoch", "images": (steps, 10, 28, 28) uint8 of consecutive steps, "quality":
        the summary of `gsn.sample_quality`, "changes": (chains,), changes of class per 100 steps,
        "parzen" and "conservative": summaries of estimates, "mixing": a summary of diagnostics},
        ...], "losses": (epochs,) in nats per step of walkback, "alphas": (epochs, k),
        "completions": the result of `_completions` or None, "examples": the number of training
        examples, "real": the classifier's judgment of test examples, "accuracy": the classifier's
        accuracy}.
    """
    import keras

    found = digit_classifier.trained(config.classifier)
    classify = digit_classifier.probabilities(found)
    splits = inputs(config)
    keras.utils.set_random_seed(config.seed)
    model = _network(config, splits.train.x.shape[1:])
    records: list[dict[str, Any]] = []
    stages = []
    for epoch in trained(model, splits, config, records):
        stages.append(_stage(config, model, splits, classify) | {"epoch": epoch})
    return {
        "stages": stages,
        "losses": np.array([record["loss"] for record in records]),
        "alphas": np.array([record["alphas"] for record in records]),
        "completions": _completions(config, model, splits, classify) if config.completed else None,
        "examples": len(splits.train),
        "real": found["quality"],
        "accuracy": found["accuracy"],
    }


def inputs(config: Config) -> Splits:
    """Returns `Splits` of examples in [0, 1], without labels."""
    from thesis_tf import datasets

    return datasets.load_inputs(
        config.dataset,
        data_dir=config.sources.data_dir,
        examples=config.examples,
        seed=config.seed,
    )


def trained(
    model: GenerativeStochasticNetwork,
    splits: Splits,
    config: AnyConfig,
    records: list[dict[str, Any]],
) -> Iterator[int]:
    """Trains a network, and yields each of `config.epochs` after this number of epochs.

    Args:
        model: a `gsn.GenerativeStochasticNetwork`.
        splits: examples without labels.
        config: with `epochs`, `batch_size`, `learning_rate`, `decay`, `clip` and `seed`.
        records: a list, to which one {"loss", "alphas"} per epoch is appended.
    """
    import keras

    from bin.common import training

    def record(epoch: int, logs: dict[str, float]) -> None:
        records.append({"loss": logs["loss"], "alphas": model.alphas.numpy()})

    steps = len(splits.train) // config.batch_size
    rate = keras.optimizers.schedules.ExponentialDecay(
        config.learning_rate, max(1, steps * config.epochs[-1]), config.decay
    )
    model.compile(keras.optimizers.Adam(rate, global_clipnorm=config.clip))
    done = 0
    for until in config.epochs:
        if until > done:
            model.fit(
                training.batches(splits.train, config.batch_size, config.seed, done * steps),
                steps_per_epoch=steps,
                initial_epoch=done,
                epochs=until,
                callbacks=[keras.callbacks.LambdaCallback(on_epoch_end=record)],
                shuffle=False,
                verbose=0,
            )
        done = until
        yield until


def scored(config: AnyConfig, model: GenerativeStochasticNetwork, splits: Splits) -> dict[str, Any]:
    """Runs the chains of `config.scored` and estimates log-likelihoods from them.

    Returns:
        {"parzen", "conservative": summaries of estimates, "mixing": a summary of diagnostics},
        each with its "warnings".
    """
    import tensorflow as tf

    from thesis_tf import gsn, mcmc

    count, steps, thin = config.scored
    kernel = model.transition_kernel()
    chains = mcmc.sample_chain(
        kernel,
        starts(config, splits, count),
        steps // thin,
        num_steps_between_results=thin - 1,
        seed=mcmc.stream_seed(config.seed, 3),
        output_fn=kernel.distribution_parameters,
        verbose=0,
    )
    parameters, reconstruction = chains.samples, model.reconstruction
    flat = reconstruction.mean(tf.constant(np.concatenate(parameters)))
    means = np.reshape(flat, (*parameters.shape[:2], *splits.test.x.shape[1:]))
    x, validation = splits.test.x, splits.validation.x
    estimates = {
        "parzen": gsn.parzen_log_likelihood(means, x, validation),
        "conservative": gsn.conservative_log_likelihood(parameters, x, reconstruction),
        "mixing": chains.diagnostics,
    }
    return {
        name: {**result.summary(), "warnings": result.warnings()}
        for name, result in estimates.items()
    }


def starts(config: AnyConfig, splits: Splits, count: int) -> np.ndarray:
    """Returns the training examples at which `count` chains begin."""
    rng = np.random.default_rng([config.seed, 1])
    return splits.train.x[rng.permutation(len(splits.train))[:count]]


def pixels(images: np.ndarray) -> np.ndarray:
    """Returns images (..., 28, 28[, 1]) in [0, 1] as bytes (..., 28, 28)."""
    images = images[..., 0] if images.shape[-1] == 1 else images
    return np.round(255 * np.clip(images, 0, 1)).astype(np.uint8)


def _network(config: Config, shape: tuple[int, ...]) -> GenerativeStochasticNetwork:
    from models.gsn import walkback_dae
    from thesis_tf import gsn
    from thesis_tf.corruption import SaltAndPepper

    shared: dict[str, Any] = {
        "corruption": SaltAndPepper(config.corruption),
        "walkback": config.walkback,
        "scaling": config.scaling,
        "seed": config.seed,
    }
    if config.network == "dae":
        (units,) = config.layers
        return walkback_dae(shape, units=units, **shared)
    model = gsn.GSN(config.layers, noise=config.noise, **shared)
    model.build((None, *shape))
    return model


def _stage(
    config: Config,
    model: GenerativeStochasticNetwork,
    splits: Splits,
    classify: Callable[[np.ndarray], np.ndarray],
) -> dict[str, Any]:
    """Runs a network's chains after one epoch; returns their images, judgments and estimates."""
    from thesis_tf import gsn, mcmc

    count, steps = config.consecutive
    x = starts(config, splits, count)
    kernel = model.transition_kernel()
    seed = mcmc.stream_seed(config.seed, 2)
    chains = mcmc.sample_chain(kernel, x, steps, seed=seed, output_fn=kernel.mean, verbose=0)
    p = classify(chains.samples)
    alone = [gsn.sample_quality(p[:, chain : chain + 1]) for chain in range(count)]
    return {
        "images": pixels(chains.samples[:, :_SHOWN]),
        "quality": gsn.sample_quality(p).summary(),
        "changes": np.array([chain.changes_per_100_steps for chain in alone]),
        **scored(config, model, splits),
    }


def _completions(
    config: Config,
    model: GenerativeStochasticNetwork,
    splits: Splits,
    classify: Callable[[np.ndarray], np.ndarray],
) -> dict[str, Any]:
    """Completes test images whose left half is known.

    Returns:
        {"truth": (n, 28, 28) uint8, "mask": (28, 28), true for known pixels, "images": (runs, n,
        28, 28) uint8 of the last steps, "held": whether known values are bit-identical after all
        steps, "deviations": (n,), the standard deviation between runs, averaged over the unknown
        pixels of each image, "quality", "quality_of_starts": summaries of `gsn.sample_quality`}.
    """
    from thesis_tf import gsn, mcmc

    truth = splits.test.x[: config.completed]
    mask = np.zeros(truth.shape[1:], bool)
    mask[:, : truth.shape[2] // 2] = True
    kernel, clamp = model.transition_kernel(), mcmc.MaskClamp(mask, truth)
    rng = np.random.default_rng([config.seed, 4])
    begun, ends, held = [], [], True
    for run in range(_RUNS):
        # Unknown pixels begin with shuffled pixels of other examples.
        rows = rng.permutation(len(splits.train))[: len(truth)]
        begun.append(np.where(mask, truth, rng.permuted(splits.train.x[rows], axis=0)))
        chains = mcmc.sample_chain(
            kernel,
            begun[-1],
            1,
            num_steps_between_results=config.completion_steps - 1,
            seed=mcmc.stream_seed(config.seed, 100 + run),
            clamp=clamp,
            output_fn=lambda state: clamp(kernel.mean(state)),
            verbose=0,
        )
        drawn = chains.final_state.x.numpy()
        held &= bool((drawn[:, mask] == truth[:, mask]).all())
        ends.append(chains.samples[-1])
    last = np.stack(ends)
    return {
        "truth": pixels(truth),
        "mask": mask[..., 0],
        "images": pixels(last),
        "held": held,
        "deviations": last.std(axis=0, ddof=1)[:, ~mask].mean(axis=1),
        "quality": gsn.sample_quality(classify(last)).summary(),
        "quality_of_starts": gsn.sample_quality(classify(np.stack(begun))).summary(),
    }
