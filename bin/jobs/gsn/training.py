"""The network of `bin.gsn`: built from its config, trained with exact resumption, or loaded."""

import dataclasses
import pathlib
from typing import TYPE_CHECKING, Any, Literal

import keras
import numpy as np
import tensorflow as tf

from bin.common import training
from bin.jobs import spread
from models.gsn import convolutional_dae, walkback_dae
from thesis_tf import corruption, datasets, gsn, mcmc
from thesis_tf.persistence import files
from thesis_tf.plotting import style
from thesis_tf.reporting.summaries import SummaryWriter

if TYPE_CHECKING:
    from bin.gsn import Config, Network

_SHEET = (10, 20)  # the numbers of chains and of steps in a sheet of samples


class NetworkRun:
    """Builds, trains and loads a network.

    Args:
        config: a `bin.gsn.Config`.
        folder: where to write.
        strategy: a `tf.distribute.Strategy`.
        chief: whether this process writes files.
        verbose: Keras' 0, 1 or 2; 0 prints nothing.

    Raises:
        ValueError: the data don't fit the network; raised before anything is written.
    """

    def __init__(
        self,
        config: "Config",
        folder: pathlib.Path,
        strategy: tf.distribute.Strategy,
        *,
        chief: bool = True,
        verbose: Literal[0, 1, 2] = 0,
    ) -> None:
        self.config, self.folder, self.strategy = config, folder, strategy
        self._chief, self._verbose = chief, verbose
        self.splits = config.data.load_inputs()
        if config.binarize:
            self.splits = _binarized(self.splits)
        self.steps = training.steps_an_epoch(self.splits, config.training)
        training.planned_steps(self.splits, config.training)
        with strategy.scope():
            self.model = self._build()
        for part in (self.splits.train, self.splits.validation, self.splits.test):
            try:
                self.model.reconstruction.check(part.x)
            except ValueError as error:
                if config.network.outputs != "bernoulli":
                    raise
                advice = "In this program, use --outputs=normal with --corruption=gaussian."
                raise ValueError(f"{error} {advice}") from error

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one example."""
        return self.splits.train.x.shape[1:]

    @property
    def is_image(self) -> bool:
        """Whether examples can be drawn as images."""
        return len(self.shape) == 2 or (len(self.shape) == 3 and self.shape[-1] in (1, 3))

    def _build(self) -> gsn.GenerativeStochasticNetwork:
        network, seed = self.config.network, self.config.hardware.seed
        steps, layers = network.walkback_steps, network.layers
        assert layers is not None  # `bin.gsn.config_from_flags` sets the default
        walkback = gsn.Walkback(
            steps if len(steps) == 2 else steps[0],
            stop=network.walkback_stop,
            loss=network.walkback_loss,
        )
        shared: dict[str, Any] = {
            "corruption": self._corruption(),
            "walkback": walkback,
            "scaling": network.scaling,
            "reconstruction": _reconstruction(network),
            "seed": seed,
        }
        if network.network == "dae":
            return walkback_dae(self.shape, units=layers[0], **shared)
        if network.network == "conv_dae":
            return convolutional_dae(self.shape, filters=layers, **shared)
        initial = network.initial_hidden
        model = gsn.GSN(
            layers,
            noise=network.hidden_noise,
            initial_hidden=int(initial) if initial.isdigit() else initial,
            num_remembered=len(self.splits.train) if initial == "stored" else None,
            **shared,
        )
        model.build((None, *self.shape))
        return model

    def _corruption(self) -> corruption.Corruption | None:
        kind, level = self.config.network.corruption, self.config.network.corruption_level
        if kind == "none" or level is None:
            return None
        x = self.splits.train.x
        if kind == "salt_and_pepper":
            return corruption.SaltAndPepper(level, low=float(x.min()), high=float(x.max()))
        if kind == "block":
            if not self.is_image:
                raise ValueError(
                    f"--corruption=block is for images. Received: examples of shape {self.shape}."
                )
            height, width = (max(1, round(level * side)) for side in self.shape[:2])
            return corruption.Block(height, width, value=0.0)
        return corruption.Masking(level) if kind == "masking" else corruption.Gaussian(level)

    def train(self, sheet_every: int = 5) -> dict[str, float]:
        """Trains, or continues from the checkpoint; returns the last epoch's losses, a dict."""
        config = self.config
        rate = keras.optimizers.schedules.ExponentialDecay(
            config.training.learning_rate, self.steps, config.decay
        )
        with self.strategy.scope():
            self.model.compile(training.optimizer_for(config.training, rate))
        splits = self.splits
        if config.network.initial_hidden == "stored":
            rows = {s: np.arange(len(getattr(splits, s))) for s in ("train", "validation", "test")}
            numbered = {s: dataclasses.replace(getattr(splits, s), y=y) for s, y in rows.items()}
            splits = dataclasses.replace(splits, **numbered)
        logs = training.train(
            self.model,
            splits,
            config.training,
            self.folder,
            seed=config.hardware.seed,
            chief=self._chief,
            callbacks=[_Sheets(self, sheet_every)] if self._chief else [],
            verbose=self._verbose,
        )
        if self._chief:
            with files.atomic(self.folder / "model.keras") as partial:
                self.model.save(partial)
        return logs

    def load(self) -> None:
        """Reads the trained network; raises ValueError if there is none with this config."""
        path = self.folder / "model.keras"
        if not path.exists():
            raise ValueError(f"{path} doesn't exist: use --do=train first, or to finish training.")
        try:
            model = keras.saving.load_model(path, compile=False, safe_mode=True)
        except Exception as error:
            # Keras passes on the errors of zip files, JSON and HDF5.
            raise ValueError(
                f"{path} is not a Keras model, or is incomplete ({error}). Delete it and run"
                " --do=train: the checkpoint in the same folder has all weights."
            ) from None
        ours = [tuple(v.shape) for v in self.model.variables]
        if type(model) is not type(self.model) or ours != [tuple(v.shape) for v in model.variables]:
            raise ValueError(f"{path} doesn't have the network of {self.folder}/config.json.")
        self.model = model

    def say(self, line: str) -> None:
        """Prints a line, unless `verbose` is 0."""
        if self._verbose:
            print(line, flush=True)


class _Sheets(keras.callbacks.Callback):
    """Draws a sheet of samples every few epochs; shows it and scaling factors in TensorBoard."""

    def __init__(self, run: NetworkRun, every: int) -> None:
        super().__init__()
        self._run, self._every = run, every
        self._writer = SummaryWriter(run.folder / "logs")

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Draws after every `every` epochs, and after the last epoch."""
        run, model = self._run, self.model
        step = int(model.optimizer.iterations.numpy())
        if model.log_alpha is not None:
            alphas = enumerate(model.alphas.numpy(), 1)
            self._writer.scalars(step, {f"scaling/alpha_{k}": alpha for k, alpha in alphas})
        last = epoch + 1 == run.config.training.epochs
        if not self._every or ((epoch + 1) % self._every and not last) or not run.is_image:
            return
        chains, steps = _SHEET
        x = run.splits.train.x[:chains]
        kernel = model.transition_kernel()
        seed = mcmc.stream_seed(run.config.hardware.seed, epoch)
        found = mcmc.sample_chain(kernel, x, steps, seed=seed, output_fn=kernel.mean, verbose=0)
        path = run.folder / "sheets" / f"epoch_{epoch + 1:04d}.png"
        said = spread.doubts(spread.ratio(found.samples[-1], run.splits.train.x))
        title = style.heading(f"{run.splits.name}, epoch {epoch + 1}", said)
        gsn.draw_chain_images(found.samples, path, title=title)
        self._writer.images(step, "samples", found.samples[-1].reshape(len(x), *run.shape[:2], -1))


def _reconstruction(network: "Network") -> gsn.Reconstruction:
    if network.outputs == "bernoulli":
        return gsn.Bernoulli()
    return gsn.Normal(network.output_scale) if network.outputs == "normal" else gsn.NormalMixture(2)


def _binarized(splits: "datasets.Splits") -> "datasets.Splits":
    parts = {}
    for name in ("train", "validation", "test"):
        split = getattr(splits, name)
        x = (split.x > 0.5).astype(split.x.dtype)
        parts[name] = dataclasses.replace(split, x=x, y=x)
    return dataclasses.replace(splits, **parts)
