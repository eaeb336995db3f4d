"""A worker: keeps the gradient norms of examples fresh, block by block (thesis, 7.4)."""

import itertools
import os
import socket
import time

import keras
import numpy as np
import tensorflow as tf
import tqdm

from thesis_tf._core import checks
from thesis_tf._keras.objective import Objective
from thesis_tf.gradient_norms import GradientNorms
from thesis_tf.issgd.stores import RunNotFoundError, StoreUnavailableError
from thesis_tf.issgd.training.examples import by_split
from thesis_tf.issgd.training.model_parameters import spec_of, write_parameters
from thesis_tf.issgd.training.steps import classification_errors
from thesis_tf.issgd.transport import clock

# How many blocks of each split a worker takes in turn, as the original code did.
TURNS = {"train": 20, "validation": 1, "test": 1}
HEARTBEAT_SECONDS = 5.0


class Worker:
    """Measures blocks of examples at the newest parameters, until the run is over.

        Worker(model, loss, {"train": (x, y)}, open_store("shm://run")).run()

    It may start before the master, be killed at any moment, and join late. A block whose weights
    are of the newest parameters already is left alone.

    Args:
        model: a built Keras model like the master's; its weights are overwritten.
        loss: what the master's model was compiled with.
        data: {split: (x, y)}, the same as the master's. Of "train" gradient norms are measured, of
            the others the losses; of all, the mean loss and error.
        store: a `Store` of its own.
        name: by which it is known; None makes one of host, process and a number.
        batch_size: examples that are computed at once.
        block_size: examples a block, as the master has it.
        lease_seconds: after which a block that was not finished is another worker's. A worker that
            finds its blocks take longer asks for longer.
        turns: {split: blocks to take in turn}.
        error: a function of (labels, outputs) with one error an example; None counts wrong classes.
        log: called with a sentence when something happens.

    Raises:
        ValueError: the data don't fit one another.
    """

    def __init__(
        self,
        model,
        loss,
        data,
        store,
        *,
        name=None,
        batch_size=256,
        block_size=2048,
        lease_seconds=30.0,
        turns=None,
        error=None,
        log=lambda message: None,
    ):
        self.model, self.data, self.store = model, by_split(data), store
        self.name = name or f"{socket.gethostname()}-{os.getpid()}-{next(_numbers)}"
        self._batch_size = checks.positive_integer("`batch_size`", batch_size)
        objective = Objective(model, loss)
        # What is scaled in training is the loss without regularisers.
        self._norms = GradientNorms(objective, False, False, False, True, None)
        self._objective = objective
        self._spec = spec_of(model, objective.loss_name, self.data, block_size)
        self._lease_seconds = lease_seconds
        order = _in_turn(turns or TURNS, self.data)
        self._turns, self._round = itertools.cycle(order), len(order)
        self._error = error or classification_errors
        self._log = log
        self._version, self._buffer, self._beat = -1, None, -np.inf
        self._forward = tf.function(self._evaluate, reduce_retracing=True)

    def run(self, *, blocks=None, stop=lambda: False, poll_seconds=0.1, progress=False):
        """Works until the run is over.

        Args:
            blocks: how many to measure at most; None for no end.
            stop: called between blocks; ends the work when it returns True.
            poll_seconds: between looks at a store that has nothing to do.
            progress: whether to show how many examples were measured, on a terminal.

        Returns:
            The number of blocks that were measured.

        Raises:
            RunMismatchError: the run is of another model or other data.
            StoreRefusedError: the store refuses this client.
            ValueError: a layer has no gradients of single examples.
        """
        done, joined, told = 0, False, None
        bar = tqdm.tqdm(desc=self.name, unit=" examples", disable=None if progress else True)
        with bar:
            while (blocks is None or done < blocks) and not stop():
                try:
                    if not joined:
                        self.store.join(self._spec)
                        joined, self._version, told = True, -1, None
                        self._log(f"{self.name} joined the run.")
                    if self.store.finished():
                        break
                    measured = self._one_block()
                    if told is not None:
                        self._log("The store is back.")
                        told = None
                except RunNotFoundError as problem:
                    gone = "The run was deleted, made anew, or lost with the store."
                    told = self._tell_once(told, RunNotFoundError, gone if joined else problem)
                    joined, measured = False, 0
                except StoreUnavailableError as problem:
                    told = self._tell_once(told, StoreUnavailableError, problem)
                    measured = 0
                if measured:
                    done += 1
                    bar.update(measured)
                else:
                    time.sleep(poll_seconds)
        return done

    def _tell_once(self, told, kind, problem):
        if told is not kind:
            self._log(f"{problem} Waiting.")
        return kind

    def _one_block(self):
        """Measures one block, if there is one to do; returns how many examples it has."""
        if clock.now() - self._beat > HEARTBEAT_SECONDS:
            self.store.heartbeat("worker", self.name)
            self._beat = clock.now()
        if not self._take_parameters():
            return 0
        # A split whose blocks are all current gives way to the next.
        current = set()
        for split in itertools.islice(self._turns, self._round):
            if split not in current:
                block = self._next_block(split)
                if block is not None:
                    return self._measure(split, block)
                current.add(split)
        return 0

    def _take_parameters(self):
        """Takes the newest parameters; returns whether there are any."""
        found = self.store.fetch(newer_than=self._version, out=self._buffer)
        if found is not None:
            self._buffer, self._version = found.values, found.version
            write_parameters(self.model, found.values)
        return self._version >= 0

    def _next_block(self, split):
        """Leases a block that is not current, or None."""
        for _ in range(self.store.num_blocks(split)):
            block = self.store.lease(split, self.name, self._lease_seconds)
            if block is None:
                return None
            version = self.store.block_version(split, block)
            if version is None or version < self._version:
                return block
            self.store.release(split, block, self.name)
        return None

    def _measure(self, split, block):
        start, stop = self.store.block_range(split, block)
        began = clock.now()
        values, losses, errors = [], [], []
        for first in range(start, stop, self._batch_size):
            x, y = self.data[split].take(slice(first, min(first + self._batch_size, stop)))
            if split == "train":
                loss, squares, outputs = self._norms.with_outputs(x, y)
                values.append(np.sqrt(squares.numpy()))
            else:
                batch = keras.tree.map_structure(tf.convert_to_tensor, (x, y))
                loss, outputs = self._forward(*batch)
                values.append(loss.numpy())
            losses.append(loss.numpy())
            errors.append(np.asarray(self._error(y, outputs)))
        values = np.concatenate(values).astype(np.float32)
        # An example that has diverged has no weight; NaN says so.
        values[~np.isfinite(values)] = np.nan
        loss, error = (float(np.concatenate(v).mean()) for v in (losses, errors))
        self.store.push(split, block, values, self._version, self.name, loss, error)
        self._lease_seconds = max(self._lease_seconds, 3 * (clock.now() - began))
        return stop - start

    def _evaluate(self, x, y):
        outputs = self._objective.outputs(*self._objective.read(), x)
        return self._objective.example_losses(y, outputs), outputs


_numbers = itertools.count()


def _in_turn(turns, data):
    """Spreads the splits over one round: 20 train, 1 validation, 1 test."""
    unknown = sorted(set(turns) - set(TURNS) - set(data))
    if unknown or any(count < 0 for count in turns.values()) or not turns.get("train"):
        raise checks.invalid("`turns`", "{split: blocks}, some of them of train", turns)
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
