"""Training on drawn examples, resumable at every synchronisation; master and peers build on it."""

import math
import pathlib

import keras
import numpy as np
import tensorflow as tf
import tqdm

from thesis_tf._core import checks
from thesis_tf.issgd.sampling.proposal import Proposal
from thesis_tf.issgd.sampling.tracker import WeightMonitor
from thesis_tf.issgd.training.examples import by_split
from thesis_tf.issgd.training.folder_token import FolderToken
from thesis_tf.issgd.training.history import History
from thesis_tf.issgd.training.steps import Steps
from thesis_tf.issgd.transport import clock
from thesis_tf.persistence import checkpoint

CHECKPOINT = "checkpoint.npz"


class Trainer:
    """Takes steps on draws from a proposal, with something to do between every few of them.

    A subclass does so in `_synchronise` and `_after_steps`. The draws of a step depend on the
    proposal's seed, its weights and the step alone, and a checkpoint holds every variable and the
    weights: a run that was killed goes on as it would have, but for what others do meanwhile.

    Args:
        model: a compiled Keras model.
        data: {split: (x, y)}, "train" among them.
        proposal: a `Proposal` over the training examples; None makes one with its defaults.
        batch_size: examples a step, over all devices; the original code's is 128.
        sync_every: steps between synchronisations; the original code's is 32 for the weights.
        folder: for the checkpoint and the history, of this training alone; None keeps nothing.
        checkpoint_every: steps between checkpoints, taken at the next synchronisation.
        norms: whether steps give the examples' gradient norms.
        log: called with a sentence when something happens that people would like to know.
        on_sync: called with each record of the history.
    """

    def __init__(
        self,
        model,
        data,
        proposal=None,
        *,
        batch_size=128,
        sync_every=32,
        folder=None,
        checkpoint_every=512,
        norms=False,
        log=lambda message: None,
        on_sync=lambda record: None,
    ):
        self.model, self.data, self.step = model, by_split(data), 0
        self._train = self.data["train"]
        self._sync_every = checks.positive_integer("`sync_every`", sync_every)
        self._checkpoint_every = checks.positive_integer("`checkpoint_every`", checkpoint_every)
        self._log, self._on_sync = log, on_sync
        self._steps = Steps(model, batch_size, norms)
        proposal = Proposal(len(self._train)) if proposal is None else proposal
        if proposal.num_examples != len(self._train):
            raise checks.invalid(
                "`proposal`", f"over {len(self._train)} examples", proposal.num_examples
            )
        self.monitor = WeightMonitor(proposal, log=log)
        self._seconds, self._last_checkpoint, self._told = 0.0, 0, None
        self._stop = lambda: False
        # Whether step, weights and history belong together: not in the middle of steps.
        self._whole = True
        self._folder = None if folder is None else pathlib.Path(folder)
        # Before anything in the folder is read or cut.
        self._token = FolderToken(folder)
        try:
            self._resume()
        except BaseException:
            self._token.release()
            raise

    def _resume(self):
        """Takes over what the folder holds."""
        if self._folder is not None and (self._folder / CHECKPOINT).exists():
            state = checkpoint.restore(self._folder / CHECKPOINT, self._variables())
            self.step = self._last_checkpoint = int(state["step"])
            self._seconds = float(state["seconds"])
            self.monitor.restore(state)
        self.history = History(self._folder)
        self.history.cut(self.step)

    def train(self, steps, *, seconds=None, stop=lambda: False, progress=False):
        """Trains until `steps` steps have been taken in all, those before a kill included.

        Args:
            steps: how many.
            seconds: after which the training is over all the same, those before a kill included.
            stop: asked at every synchronisation; when it returns True training stops, to go on
                another time from there.
            progress: whether to show a bar, on a terminal.

        Returns:
            The `History`.

        Raises:
            ValueError: the loss or a weight is no longer finite.
            RunTakenError: another process trains in the folder.
        """
        self._token.take()  # an earlier `train` has let it go
        bar = tqdm.tqdm(
            total=steps, initial=self.step, unit="step", disable=None if progress else True
        )
        started, before, finished = clock.now(), self._seconds, False
        self._stop = stop
        try:
            self._begin()
            if self.step:
                what = "was over at" if self._is_over(steps, seconds) else "goes on from"
                after = "" if seconds is None else f", after {self._seconds:.0f} of {seconds:.0f} s"
                self._log(f"Training {what} step {self.step} of {steps}{after}.")
            while not self._is_over(steps, seconds):
                record = self._synchronise()
                if stop():
                    break
                self._tell_how_it_draws()
                self._whole = False
                record |= self._advance(min(self._sync_every, steps - self.step))
                self._seconds = before + clock.now() - started
                record |= {"seconds": self._seconds} | self._state_of_weights()
                self.history.add(record)
                self._whole = True
                self._on_sync(record)
                bar.update(self.step - bar.n)
                bar.set_postfix_str(_postfix(record), refresh=False)
                self._after_steps()
                if self.step - self._last_checkpoint >= self._checkpoint_every:
                    self.save()
            finished = self._is_over(steps, seconds)
        finally:
            bar.close()
            try:
                if self._whole and self.step != self._last_checkpoint:
                    self.save()
            finally:
                try:
                    self._end(finished)
                finally:
                    self._token.release()
        return self.history

    def _is_over(self, steps, seconds):
        return self.step >= steps or (seconds is not None and self._seconds >= seconds)

    def save(self):
        """Writes the checkpoint: every variable, the weights, the place in the draws."""
        if self._folder is None:
            return
        self._last_checkpoint = self.step
        state = self.monitor.state() | {"step": self.step, "seconds": self._seconds}
        checkpoint.save(self._folder / CHECKPOINT, self._variables(), state)

    def _tell_how_it_draws(self):
        """Logs when draws begin or cease to be by weights, and why they are not."""
        uniform = self.monitor.proposal.is_uniform
        if uniform != self._told:
            why = self.monitor.proposal.uniform_because
            how = f"uniform, as {why}" if uniform else "by weights, the examples' gradient norms"
            self._log(f"From step {self.step} on draws are {how}.")
            self._told = uniform

    def _begin(self):
        """Before the first step."""

    def _synchronise(self):
        """Before some steps; returns what the record of them is to have besides."""
        return {}

    def _after_steps(self):
        """After some steps, when `self.step` has grown."""

    def _end(self, finished):
        """After the last step, or after an error."""

    def _measured(self, rows, squared_norms):
        """Takes in the squared norms of the examples that were trained on, if steps give them."""

    def _version(self):
        """The version of the present parameters."""
        return self.step

    def _variables(self):
        return [*self.model.variables, *self.model.optimizer.variables]

    def _advance(self, count):
        """Takes steps; returns a record of them."""
        size = self._steps.batch_size
        steps = range(self.step, self.step + count)
        draws = [self.monitor.proposal.sample(size, step=step) for step in steps]
        rows, scales = map(np.concatenate, zip(*draws, strict=True))
        losses, squares, gradient = self._steps(*self._train.take(rows), scales)
        self.step += count
        loss = float(np.mean(losses))
        # The last update can be the one that diverges, after a loss that was finite.
        broken = [v.path for v in self.model.weights if not _is_finite(v)]
        if not math.isfinite(loss) or broken:
            what = f"{broken[0]} is no longer finite" if broken else f"The loss is {loss}"
            raise ValueError(
                f"{what} at step {self.step}: training has diverged, or an example is not finite."
                " Choose a lower learning rate, or more smoothing; the checkpoint is of an earlier"
                " step."
            )
        if squares is not None:
            self._measured(rows, squares)
        return {"step": self.step, "loss": loss, "squared_batch_gradient": gradient}

    def _state_of_weights(self):
        proposal, versions = self.monitor.proposal, self.monitor.versions
        record = {"usable": proposal.usable, "uniform": proposal.is_uniform}
        if versions is not None and (versions >= 0).any():
            record["age"] = float(np.mean(self._version() - versions[versions >= 0]))
        return record | self.monitor.record()


def _is_finite(variable):
    if not keras.backend.is_float_dtype(variable.dtype):
        return True
    return bool(tf.reduce_all(tf.math.is_finite(tf.convert_to_tensor(variable.value))))


def _postfix(record):
    shown = f"loss {record['loss']:.4g}, {'uniform' if record['uniform'] else 'by weights'}"
    return f"{shown}, {record['usable']:.0%} usable"
