"""Training on examples drawn from a proposal, resumable at every synchronization."""

import contextlib
import dataclasses
import functools
import math
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from thesis_tf._core import checks
from thesis_tf._core.types import Path, Verbose
from thesis_tf.issgd.sampling.proposal import Proposal
from thesis_tf.issgd.sampling.tracker import ProposalTracker
from thesis_tf.issgd.training.examples import Examples, by_split
from thesis_tf.issgd.training.folder_token import FolderToken
from thesis_tf.issgd.training.history import History, Record
from thesis_tf.issgd.training.model_parameters import spec_of
from thesis_tf.issgd.training.steps import Steps
from thesis_tf.issgd.training.synchronizer import Pulled, Synchronizer, TrainerParts
from thesis_tf.issgd.transport import clock
from thesis_tf.persistence import arrays, checkpoint
from thesis_tf.reporting import progress

CHECKPOINT = "checkpoint.npz"


def _never() -> bool:
    return False


def _ignore(value: object) -> None:
    pass


@dataclasses.dataclass(frozen=True)
class _StopAt:
    steps: int
    seconds: float | None


class Trainer:
    """Trains a compiled model on examples drawn from a proposal (figure 7.1).

        synchronizer = MasterSynchronizer(open_store("shm://run"))
        Trainer(model, {"train": (x, y)}, synchronizer=synchronizer).train(10_000)

    The draws of a step depend only on the proposal's seed, its gradient norms and the step, and a
    checkpoint has all variables and gradient norms. So after a kill, training continues as without
    an interruption, except for the effect of other processes.

    Args:
        model: a compiled Keras model. Under a `tf.distribute` strategy's scope its devices share
            each batch.
        data: {split: (x, y) or (x, y, sample_weight)}, with "train" among them.
        proposal: a `Proposal` over the training examples; None for one with default settings.
        synchronizer: exchanges with other processes between steps: a `MasterSynchronizer` with
            workers, a `PeerSynchronizer` with peers; None trains alone.
        batch_size: examples per step, over all devices (original code: 128).
        sync_every: steps between synchronizations (original code: 32).
        folder: the folder of the checkpoint and the history of this training; None saves nothing.
        checkpoint_every: steps between checkpoints, each written at the next synchronization.
        log: called with a sentence about notable events.
        on_sync: called with each `Record` of the history.

    Attributes:
        model: the model.
        step: steps taken so far.
        history: the `History`, with a record for each synchronization.
        tracker: the `ProposalTracker`.

    Raises:
        ValueError: the data and the proposal don't fit, the model is not compiled, or the folder's
            checkpoint belongs to another model, another loss or other training examples.
        RunTakenError: another process trains in the folder.
        StoreError: the synchronizer's store raises an error, or its run doesn't fit.
    """

    def __init__(
        self,
        model: keras.Model,
        data: Mapping[str, Any],
        *,
        proposal: Proposal | None = None,
        synchronizer: Synchronizer | None = None,
        batch_size: int = 128,
        sync_every: int = 32,
        folder: Path | None = None,
        checkpoint_every: int = 512,
        log: Callable[[str], None] = _ignore,
        on_sync: Callable[[Record], None] = _ignore,
    ) -> None:
        self.model, self.step = model, 0
        self._data = by_split(data)
        self._train: Examples = self._data["train"]
        self._sync_every = checks.positive_integer("`sync_every`", sync_every)
        self._checkpoint_every = checks.positive_integer("`checkpoint_every`", checkpoint_every)
        self._log, self._on_sync = log, on_sync
        self._synchronizer = Synchronizer() if synchronizer is None else synchronizer
        norms = self._synchronizer.needs_norms
        self._steps = Steps(model, batch_size=batch_size, norms=norms, examples=self._train)
        proposal = Proposal(len(self._train)) if proposal is None else proposal
        if proposal.num_examples != len(self._train):
            raise checks.invalid(
                "`proposal`", f"over {len(self._train)} examples", proposal.num_examples
            )
        self.tracker = ProposalTracker(proposal, log=log)
        self._seconds, self._last_checkpoint = 0.0, 0
        self._logged_uniform: bool | None = None
        # Whether step, gradient norms and history are consistent; between steps they aren't.
        self._is_consistent = True
        self._folder = None if folder is None else pathlib.Path(folder)
        self._token = FolderToken(folder)
        with contextlib.ExitStack() as stack:
            # The folder is locked before anything in it is read or truncated, until `train` ends.
            stack.enter_context(self._token)
            self.history = self._resumed_history()
            self._synchronizer.connect(
                TrainerParts(
                    model=model,
                    data=self._data,
                    tracker=self.tracker,
                    loss_name=self._steps.objective.loss_name,
                    token=self._token.text,
                    step=self.step,
                    log=log,
                )
            )
            stack.pop_all()

    def train(
        self,
        steps: int,
        *,
        seconds: float | None = None,
        stop: Callable[[], bool] = _never,
        verbose: Verbose = "auto",
    ) -> History:
        """Trains until `steps` steps have been taken in total, including those before a kill.

        Args:
            steps: the number of steps.
            seconds: the maximum training time in seconds, including the time before a kill.
            stop: called at every synchronization; when it returns True, training stops, and
                another call continues from there.
            verbose: "auto" shows a progress bar on a terminal, 0 nothing, 1 always a bar, 2 one
                line at the end.

        Returns:
            The `History`.

        Raises:
            ValueError: the loss or a variable is no longer finite.
            RunTakenError: another process trains in the folder.
        """
        limits = _StopAt(steps, seconds)
        with contextlib.ExitStack() as stack:
            # At the end these run in any case, in reverse order: first the checkpoint.
            stack.enter_context(self._token)
            stack.push(functools.partial(self._close, limits))
            stack.callback(self._save_the_end)
            bar = stack.enter_context(progress.bar(verbose, total=steps, unit="step"))
            bar.update(self.step)
            started = clock.now() - self._seconds
            self._synchronizer.begin(self.step)
            self._log_start(limits)
            while not self._is_over(limits):
                pulled = self._synchronizer.pull(self.step, stop)
                if stop():
                    break
                self._log_draws()
                self._is_consistent = False
                before = self.step
                loss, gradient = self._advance(min(self._sync_every, steps - self.step))
                self._seconds = clock.now() - started
                record = self._record(pulled, loss, gradient)
                self.history.add(record)
                self._is_consistent = True
                self._on_sync(record)
                bar.update(self.step - before)
                bar.set_postfix_str(_postfix(record), refresh=False)
                self._synchronizer.publish(self.step)
                if self.step - self._last_checkpoint >= self._checkpoint_every:
                    self.save()
        return self.history

    def save(self) -> None:
        """Writes the checkpoint: all variables, the gradient norms, the position in the draws."""
        if self._folder is None:
            return
        self._last_checkpoint = self.step
        state = self.tracker.state()
        state |= {"step": np.asarray(self.step), "seconds": np.asarray(self._seconds)}
        state |= self._run
        checkpoint.save(self._folder / CHECKPOINT, self._variables(), arrays=state)

    def _resumed_history(self) -> History:
        """Restores the checkpoint of the folder, if there is one; returns the history up to it."""
        if self._folder is not None and (self._folder / CHECKPOINT).exists():
            self._check_run(self._folder / CHECKPOINT)
            state = checkpoint.restore(self._folder / CHECKPOINT, self._variables())
            self.step = self._last_checkpoint = int(state["step"])
            self._seconds = float(state["seconds"])
            self.tracker.restore(state)
        history = History(folder=self._folder)
        history.cut(self.step)
        return history

    @functools.cached_property
    def _run(self) -> dict[str, np.ndarray]:
        """Returns the fingerprints by which a checkpoint is known."""
        loss_name = self._steps.objective.loss_name
        spec = spec_of(self.model, loss_name, {"train": self._train}, 1)
        return {"run_model": np.array(spec.model), "run_data": np.array(spec.data)}

    def _check_run(self, path: pathlib.Path) -> None:
        try:
            kept = arrays.load(path, names=self._run)
        except ValueError:
            return  # what restores it says that it was cut short, or isn't one
        for name, value in self._run.items():
            if kept[name] != value:
                other = "another model or loss" if name == "run_model" else "other examples"
                raise checks.invalid(
                    "`folder`",
                    "new, or that of a training with the same model, loss and training examples",
                    f"{path.parent}, which holds a training with {other}",
                    "Choose another folder, or delete it.",
                )

    def _save_the_end(self) -> None:
        if self._is_consistent and self.step != self._last_checkpoint:
            self.save()

    def _close(self, limits: _StopAt, kind: type[BaseException] | None, *_: object) -> None:
        finished = kind is None and self._is_over(limits)
        self._synchronizer.close(self.history, finished=finished)

    def _is_over(self, limits: _StopAt) -> bool:
        if self.step >= limits.steps:
            return True
        return limits.seconds is not None and self._seconds >= limits.seconds

    def _log_start(self, limits: _StopAt) -> None:
        if not self.step:
            return
        verb = "was over at" if self._is_over(limits) else "continues from"
        after = ""
        if limits.seconds is not None:
            after = f", after {self._seconds:.0f} of {limits.seconds:.0f} s"
        self._log(f"Training {verb} step {self.step} of {limits.steps}{after}.")

    def _log_draws(self) -> None:
        """Logs when draws begin or cease to be uniform, and why."""
        reason = self.tracker.uniform_because
        uniform = reason is not None
        if uniform != self._logged_uniform:
            how = f"uniform, because {reason}" if uniform else "by gradient norms"
            self._log(f"From step {self.step} on, draws are {how}.")
            self._logged_uniform = uniform

    def _variables(self) -> list[keras.Variable]:
        return [*self.model.variables, *self.model.optimizer.variables]

    def _advance(self, count: int) -> tuple[float, float]:
        """Takes steps; returns (mean scaled loss, squared norm of the last step's gradient)."""
        size = self._steps.batch_size
        steps = range(self.step, self.step + count)
        draws = [self.tracker.proposal.sample(size, step=step) for step in steps]
        rows, scales = map(np.concatenate, zip(*draws, strict=True))
        losses, squares, gradient = self._steps(*self._train.take(rows), scales)
        self.step += count
        loss = float(np.mean(losses))
        # The last update may diverge after a finite loss.
        broken = [v.path for v in self.model.weights if not _is_finite(v)]
        if not math.isfinite(loss) or broken:
            what = f"{broken[0]} is no longer finite" if broken else f"The loss is {loss}"
            raise ValueError(
                f"{what} at step {self.step}: training has diverged, or an example is not finite."
                " Choose a lower learning rate, or more smoothing. The checkpoint holds an earlier"
                " step."
            )
        if squares is not None:
            norms = np.sqrt(squares).astype(np.float32)
            norms[~np.isfinite(norms)] = np.nan
            self._synchronizer.add_norms(rows, norms, self.step)
        return loss, gradient

    def _record(self, pulled: Pulled, loss: float, gradient: float) -> Record:
        proposal, versions = self.tracker.proposal, self.tracker.versions
        staleness = None
        if versions is not None and (versions >= 0).any():
            present = self._synchronizer.version(self.step)
            staleness = float(np.mean(present - versions[versions >= 0]))
        return Record(
            step=self.step,
            seconds=self._seconds,
            loss=loss,
            squared_batch_gradient=gradient,
            usable=proposal.usable,
            uniform=proposal.is_uniform,
            staleness=staleness,
            waited=pulled.waited,
            exchanged_with=pulled.exchanged_with,
            losses=pulled.losses,
            errors=pulled.errors,
        ).with_variances(self.tracker.pop_variances())


def _is_finite(variable: keras.Variable) -> bool:
    if not keras.backend.is_float_dtype(variable.dtype):
        return True
    return bool(tf.reduce_all(tf.math.is_finite(tf.convert_to_tensor(variable.value))))


def _postfix(record: Record) -> str:
    draws = "uniform draws" if record.uniform else "draws by gradient norms"
    return f"loss {record.loss:.4g}, {draws}, {record.usable:.0%} usable"
