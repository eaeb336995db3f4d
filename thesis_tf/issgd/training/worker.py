"""A worker: keeps the gradient norms of examples fresh, block by block (section 7.4)."""

import functools
import itertools
import math
import os
import socket
import time
from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from thesis_tf._core import checks
from thesis_tf._core.types import Loss, Structure, TensorLike, Verbose
from thesis_tf._keras.objective import Objective
from thesis_tf.gradient_norms import GradientNorms
from thesis_tf.issgd.stores import RunNotFoundError, Store, StoreError, StoreUnavailableError
from thesis_tf.issgd.training.examples import Examples, by_split
from thesis_tf.issgd.training.model_parameters import spec_of, write_parameters
from thesis_tf.issgd.training.steps import classification_errors
from thesis_tf.issgd.transport import clock
from thesis_tf.reporting import progress

# How many blocks of each split a worker measures in turn, as in the original code.
TURNS = {"train": 20, "validation": 1, "test": 1}
HEARTBEAT_SECONDS = 5.0


def _never() -> bool:
    return False


def _ignore(message: str) -> None:
    pass


class Worker:
    """Measures blocks of examples with the newest parameters, until the run is finished.

        Worker(model, loss, {"train": (x, y)}, open_store("shm://run")).run()

    A worker may start before the master, join late, and be killed at any moment. It skips blocks
    that have already been measured with the newest parameters.

    Args:
        model: a Keras model like the master's; its variables are overwritten.
        loss: the loss with which the master's model was compiled; None if this model is compiled
            with the same.
        data: {split: (x, y) or (x, y, sample_weight)}, the same as the master's. For "train"
            gradient norms are measured, for other splits losses; for all of them the mean loss and
            error.
        store: a `Store` that nothing else uses.
        name: the worker's name; None makes one from host, process and a number.
        batch_size: examples that are computed at once.
        block_size: examples per block, the same as the master's.
        lease_seconds: seconds after which an unfinished block is leased to another worker. A worker
            whose blocks take longer asks for longer leases.
        turns: {split: blocks to measure in turn}; None takes 20 of "train" to one of "validation"
            and one of "test".
        error: a function (labels, outputs) -> errors (batch,), NaN for an example without one; None
            counts wrong classes, unless the model's outputs have a Keras mask.
        log: called with a sentence about notable events.

    Attributes:
        name: the worker's name.

    Raises:
        ValueError: the data are inconsistent, or `turns` has an unknown split.
    """

    def __init__(
        self,
        model: keras.Model,
        loss: Loss | None,
        data: Mapping[str, Any],
        store: Store,
        *,
        name: str | None = None,
        batch_size: int = 256,
        block_size: int = 2048,
        lease_seconds: float = 30.0,
        turns: Mapping[str, int] | None = None,
        error: Callable[[Any, Any], TensorLike] | None = None,
        log: Callable[[str], None] = _ignore,
    ) -> None:
        self._model, self._data, self._store = model, by_split(data), store
        self.name = name or f"{socket.gethostname()}-{os.getpid()}-{next(_numbers)}"
        self._batch_size = checks.positive_integer("`batch_size`", batch_size)
        train = self._data["train"]
        objective = Objective(model, loss, inputs=train.inputs_for(model))
        # By split: masks and ignored classes are counted over a whole split.
        self._divisors: dict[str, list[tf.Tensor] | None] = {}
        if objective.needs_divisors(*train.take(slice(0, 1))):
            self._divisors = {
                split: objective.divisors_of(examples.batches(self._batch_size))
                for split, examples in self._data.items()
            }
            objective.divisors = self._divisors["train"]
        # Training scales the loss without regularization.
        self._norms = GradientNorms(objective, regularization=False)
        self._objective = objective
        self._spec = spec_of(model, objective.loss_name, self._data, block_size)
        self._lease_seconds = lease_seconds
        order = _in_turn(turns or TURNS, self._data)
        self._turns, self._round = itertools.cycle(order), len(order)
        if error is None and _is_masked(objective, train):
            # The mask isn't at hand where errors are counted, and padding is no error.
            log("The outputs have a mask: without `error`, classification errors aren't measured.")
            error = _unknown
        self._error = error or functools.partial(
            classification_errors, threshold=0.5 if objective.ends_in_probabilities else 0.0
        )
        self._log = log
        self._version, self._beat = -1, -math.inf
        self._buffer: np.ndarray | None = None
        self._forward = tf.function(self._evaluate, reduce_retracing=True)

    def run(
        self,
        *,
        blocks: int | None = None,
        stop: Callable[[], bool] = _never,
        poll_seconds: float = 0.1,
        verbose: Verbose = "auto",
    ) -> int:
        """Measures blocks until the run is over.

        Args:
            blocks: the number of blocks after which it stops; None for no limit.
            stop: called between blocks; when it returns True, the worker stops.
            poll_seconds: seconds between requests to a store that has no work.
            verbose: "auto" shows a count of measured examples on a terminal, 0 nothing, 1 always,
                2 one line at the end.

        Returns:
            The number of blocks that were measured.

        Raises:
            RunMismatchError: the run has another model or other data.
            StoreRefusedError: the store refuses this client.
            ValueError: a layer has no per-example gradients.
        """
        done, joined = 0, False
        told: type[StoreError] | None = None
        with progress.bar(verbose, description=self.name, unit=" examples") as bar:
            while (blocks is None or done < blocks) and not stop():
                try:
                    if not joined:
                        self._store.join(self._spec)
                        joined, self._version, told = True, -1, None
                        self._log(f"{self.name} joined the run.")
                    if self._store.finished():
                        break
                    measured = self._one_block()
                    if told is not None:
                        self._log("The store is back.")
                        told = None
                except RunNotFoundError as problem:
                    gone = "The run was deleted, created again, or lost with the store."
                    message = gone if joined else str(problem)
                    told = self._tell_once(told, RunNotFoundError, message)
                    joined, measured = False, 0
                except StoreUnavailableError as problem:
                    told = self._tell_once(told, StoreUnavailableError, str(problem))
                    measured = 0
                if measured:
                    done += 1
                    bar.update(measured)
                else:
                    time.sleep(poll_seconds)
        return done

    def _tell_once(
        self, told: type[StoreError] | None, kind: type[StoreError], message: str
    ) -> type[StoreError]:
        if told is not kind:
            self._log(f"{message} Waiting.")
        return kind

    def _one_block(self) -> int:
        """Measures one block that isn't up to date, if any; returns its number of examples."""
        if clock.now() - self._beat > HEARTBEAT_SECONDS:
            self._store.heartbeat("worker", self.name)
            self._beat = clock.now()
        if not self._fetch_parameters():
            return 0
        # A split whose blocks are all current is skipped.
        current: set[str] = set()
        for split in itertools.islice(self._turns, self._round):
            if split not in current:
                block = self._next_block(split)
                if block is not None:
                    return self._measure(split, block)
                current.add(split)
        return 0

    def _fetch_parameters(self) -> bool:
        """Fetches the newest parameters; returns whether there are any."""
        found = self._store.fetch(newer_than=self._version, out=self._buffer)
        if found is not None:
            self._buffer, self._version = found.values, found.version
            write_parameters(self._model, found.values)
        return self._version >= 0

    def _next_block(self, split: str) -> int | None:
        """Leases a block that is not current; returns None if there is none."""
        for _ in range(self._store.num_blocks(split)):
            block = self._store.lease(split, self.name, self._lease_seconds)
            if block is None:
                return None
            version = self._store.block_version(split, block)
            if version is None or version < self._version:
                return block
            self._store.release(split, block, self.name)
        return None

    def _measure(self, split: str, block: int) -> int:
        start, stop = self._store.block_range(split, block)
        began = clock.now()
        parts, losses, errors = [], [], []
        for first in range(start, stop, self._batch_size):
            x, y = self._data[split].take(slice(first, min(first + self._batch_size, stop)))
            if split == "train":
                loss, squares, outputs = self._norms.with_outputs(x, y)
                parts.append(np.sqrt(squares.numpy()))
            else:
                batch = keras.tree.map_structure(tf.convert_to_tensor, (x, y))
                loss, outputs = self._forward(*batch, self._divisors.get(split))
                parts.append(loss.numpy())
            losses.append(loss.numpy())
            errors.append(np.asarray(self._error(y, outputs)))
        values = np.concatenate(parts).astype(np.float32)
        # NaN stands for an example that has diverged.
        values[~np.isfinite(values)] = np.nan
        mean_loss = float(np.concatenate(losses).mean())
        wrong = np.concatenate(errors)
        known = wrong[~np.isnan(wrong)]
        mean_error = float(known.mean()) if len(known) else np.nan
        self._store.push(split, block, values, self._version, self.name, mean_loss, mean_error)
        self._lease_seconds = max(self._lease_seconds, 3 * (clock.now() - began))
        return stop - start

    def _evaluate(
        self, x: Structure, y: Structure, divisors: list[tf.Tensor] | None
    ) -> tuple[tf.Tensor, Structure]:
        values, constants = self._objective.read()
        outputs = self._objective.outputs(values, constants, x)
        return self._objective.example_losses(y, outputs, divisors), outputs


_numbers = itertools.count()


def _is_masked(objective: Objective, examples: Examples) -> bool:
    """Returns whether the model's first output has a Keras mask."""
    x = keras.tree.map_structure(tf.convert_to_tensor, examples.take(slice(0, 1))[0])
    first = keras.tree.flatten(objective.outputs(*objective.read(), x))[0]
    return getattr(first, "_keras_mask", None) is not None


def _unknown(y: Structure, outputs: Structure) -> np.ndarray:
    """Returns NaN for each example."""
    return np.full(len(keras.tree.flatten(outputs)[0]), np.nan, np.float32)


def _in_turn(turns: Mapping[str, int], data: Mapping[str, Any]) -> list[str]:
    """Spreads the splits evenly over one round."""
    unknown = sorted(set(turns) - set(TURNS) - set(data))
    if unknown or any(count < 0 for count in turns.values()) or not turns.get("train"):
        raise checks.invalid("`turns`", "{split: blocks}, with 'train' above 0", turns)
    rest = [
        n
        for name, count in turns.items()
        if name in data and name != "train"
        for n in [name] * count
    ]
    order = ["train"] * turns["train"]
    for number, name in enumerate(rest):
        order.insert((number + 1) * len(order) // (len(rest) + 1), name)
    return order
