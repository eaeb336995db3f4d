"""Training with exact resumption after a kill.

The order of examples is determined by the seed and the step, and a checkpoint holds every variable
(weights, optimizer, the state of random layers). So a run that was stopped at any moment and
resumed ends with the same weights as an uninterrupted run.
"""

import pathlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import tensorflow as tf

from thesis_tf.errors import invalid
from thesis_tf.persistence import checkpoint, files
from thesis_tf.reporting.summaries import SummaryWriter

if TYPE_CHECKING:
    from bin.common.configs import Optimization, Training
    from thesis_tf.datasets import Split, Splits

CHECKPOINT = "checkpoint.npz"


def compile_for(model: keras.Model, training: "Training") -> None:
    """Compiles `model` for classification; an auxiliary head has loss weight 0.4."""
    optimizer = optimizer_for(training)
    loss = cross_entropies(model)
    heads = len(loss)
    metrics = [["accuracy"] for _ in range(heads)]
    if heads == 1:
        model.compile(optimizer, loss[0], metrics=metrics[0])
    else:
        # Szegedy et al. 2016 don't give the loss weight; 0.4 is from their published code.
        model.compile(optimizer, loss, loss_weights=[1.0] + [0.4] * (heads - 1), metrics=metrics)


def cross_entropies(model: keras.Model) -> list[keras.losses.Loss]:
    """Returns the loss of each output of a classifier that puts out logits or probabilities."""
    cross_entropy = keras.losses.SparseCategoricalCrossentropy
    outputs = getattr(model, "outputs", None)
    if not outputs:  # its inputs are unknown
        return [cross_entropy(from_logits=True)]
    if all(map(_is_linear, outputs)):
        return [cross_entropy(from_logits=True) for _ in outputs]
    rng = np.random.default_rng(0)

    def examples(given: keras.KerasTensor) -> tf.Tensor:
        shape = [3, *(size or 8 for size in given.shape[1:])]
        return tf.cast(rng.uniform(0, 255, shape), given.dtype)

    given = model.inputs[0] if isinstance(model, keras.Sequential) else model.input
    found = model(keras.tree.map_structure(examples, given), training=False)
    return [cross_entropy(from_logits=not _are_probabilities(o)) for o in keras.tree.flatten(found)]


def _is_linear(output: keras.KerasTensor) -> bool:
    layer = output._keras_history.operation
    return getattr(layer, "activation", None) is keras.activations.linear


def _are_probabilities(outputs: tf.Tensor) -> bool:
    values = np.asarray(tf.cast(outputs, tf.float64))
    # With the rounding of 16 bits. Logits sum to 1 for several examples only by design.
    sums = values.sum(axis=-1)
    return bool(values.shape[-1] > 1 and values.min() >= 0 and np.abs(sums - 1).max() < 0.02)


def optimizer_for(
    settings: "Optimization",
    learning_rate: keras.optimizers.schedules.LearningRateSchedule | float | None = None,
    *,
    momentum: float = 0.0,
) -> keras.optimizers.Optimizer:
    """Returns the Keras optimizer of a `configs.Optimization`.

    Args:
        settings: the config.
        learning_rate: another rate than the config's, or a schedule.
        momentum: Nesterov momentum of SGD.
    """
    config = {"momentum": momentum, "nesterov": True} if momentum else {}
    optimizer = keras.optimizers.get({"class_name": settings.optimizer, "config": config})
    optimizer.learning_rate = learning_rate or settings.learning_rate
    return optimizer


def batches(
    split: "Split", batch_size: int, seed: int, first_step: int, heads: int = 1
) -> tf.data.Dataset:
    """Returns an infinite `tf.data.Dataset` of batches, which can start at any step without cost.

    Epoch e has a permutation of the examples that depends on `seed` and e; `index_shuffle` computes
    it one index at a time.
    """
    x, y = tf.constant(split.x), tf.constant(split.y)
    examples = len(split.y)
    steps = examples // batch_size

    def batch(step: tf.Tensor) -> tuple[tf.Tensor, Any]:
        epoch = step // steps
        places = (step % steps) * batch_size + tf.range(batch_size, dtype=tf.int64)
        rows = tf.random.experimental.index_shuffle(
            places, tf.stack([tf.cast(seed, tf.int64), epoch]), examples - 1
        )
        labels = tf.gather(y, rows)
        return tf.gather(x, rows), labels if heads == 1 else (labels,) * heads

    dataset = tf.data.Dataset.counter(start=first_step).map(batch, tf.data.AUTOTUNE)
    return dataset.prefetch(tf.data.AUTOTUNE).with_options(_sharded_by_example())


def train(
    model: keras.Model,
    splits: "Splits",
    training: "Training",
    folder: str | pathlib.Path,
    *,
    total: int | None = None,
    seed: int = 0,
    chief: bool = True,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    verbose: int | str = 0,
) -> dict[str, float]:
    """Trains a compiled `model`, or continues from the checkpoint in `folder`.

    Args:
        model: compiled by `compile_for`.
        splits: `Splits`; the validation examples are evaluated after each epoch.
        training: a `configs.Training`.
        folder: the folder of the checkpoint, snapshots and TensorBoard summaries.
        total: the number of steps, instead of whole epochs.
        seed: seed of the order of examples.
        chief: whether this process writes files; of several workers, only the chief does.
        callbacks: additional `keras.callbacks.Callback`s.
        verbose: as for `model.fit`.

    Returns:
        The logs of the last epoch, {} if training was already finished.

    Raises:
        ValueError: there is no whole batch, or a snapshot is to be kept after the last step.
    """
    folder = pathlib.Path(folder)
    steps, heads = steps_an_epoch(splits, training), _heads(model)
    total = planned_steps(splits, training, total)
    _build(model, splits.train, heads)
    if (folder / CHECKPOINT).exists():
        restore(model, folder / CHECKPOINT)
    done = int(model.optimizer.iterations.numpy())
    keeper = Keeper(folder, training, chief)
    keeper.set_model(model)
    keeper.keep_snapshot(done)
    validation = _in_order(splits.validation, training.batch_size, heads)
    logs: dict[str, float] = {}
    while done < total:
        # A separate `fit` does the rest of an epoch that a kill interrupted, and a last epoch that
        # isn't complete.
        left_out = done % steps
        epoch = done // steps
        part = min(steps - left_out, total - done)
        history = model.fit(
            batches(splits.train, training.batch_size, seed, done, heads),
            steps_per_epoch=part,
            initial_epoch=epoch,
            epochs=epoch + 1 if part < steps else total // steps,
            validation_data=validation,
            callbacks=[keeper, Summaries(folder, chief), *callbacks],
            verbose=verbose if chief else 0,
            shuffle=False,
        )
        logs = {name: values[-1] for name, values in history.history.items()}
        done = int(model.optimizer.iterations.numpy())
        _agree(model)
    return logs


def _agree(model: keras.Model) -> None:
    """Gives the replicas of one machine the values that are saved.

    Each has moving averages of its own batches; what is measured next is then of the saved model.
    """
    strategy = model.distribute_strategy
    if isinstance(strategy, tf.distribute.MirroredStrategy) and strategy.num_replicas_in_sync > 1:
        for variable in model.non_trainable_variables:
            variable.assign(variable.numpy())


def steps_an_epoch(splits: "Splits", training: "Training") -> int:
    """Returns the number of whole batches per epoch; raises ValueError if there is none."""
    examples = len(splits.train)
    if training.batch_size > examples:
        raise invalid(
            "`batch_size`", f"at most the {examples} training examples", training.batch_size
        )
    return examples // training.batch_size


def planned_steps(splits: "Splits", training: "Training", total: int | None = None) -> int:
    """Returns the number of steps of a training.

    Args:
        splits: the data.
        training: the config.
        total: the number of steps; None for all of `training.epochs`.

    Raises:
        ValueError: there is no whole batch, or a snapshot is to be kept after the last step.
    """
    steps = steps_an_epoch(splits, training)
    total = steps * training.epochs if total is None else total
    if late := [step for step in training.snapshots if step > total]:
        raise invalid("`snapshots`", f"at most the {total} steps of the training", late[0])
    return total


def _build(model: keras.Model, split: "Split", heads: int) -> None:
    """Creates the variables of the optimizer and the metrics, which a checkpoint may hold."""
    x, y = split.x[:1], split.y[:1]
    with model.distribute_strategy.scope():
        model.optimizer.build(model.trainable_variables)
        model._symbolic_build(data_batch=(x, y if heads == 1 else (y,) * heads))
    if isinstance(model.distribute_strategy, tf.distribute.MultiWorkerMirroredStrategy):
        _mend_multi_worker(model)


def _mend_multi_worker(model: keras.Model) -> None:
    """Makes `fit` work under MultiWorkerMirroredStrategy, where Keras 3.15 fails."""
    # Keras builds the model from an extra batch, and reduces this pair as if it were one value.
    model._maybe_symbolic_build = lambda **_: None
    # Keras averages a step's logs over replicas along an axis that scalars don't have.
    for name in ("train_step", "test_step"):
        step = getattr(model, name)

        def with_axis(data: Any, step: Any = step) -> dict[str, tf.Tensor]:
            return {key: value[tf.newaxis] for key, value in step(data).items()}

        setattr(model, name, with_axis)


def evaluate(model: keras.Model, split: "Split", batch_size: int) -> dict[str, float]:
    """Returns the loss and metrics of a compiled model on a split, by name."""
    dataset = _in_order(split, batch_size, _heads(model))
    found: dict[str, float] = model.evaluate(dataset, verbose=0, return_dict=True)
    return found


def _heads(model: keras.Model) -> int:
    """Returns the number of outputs that have labels; models that wrap another model have one."""
    return len(getattr(model, "outputs", None) or [None])


def _in_order(split: "Split", batch_size: int, heads: int) -> tf.data.Dataset:
    y = split.y if heads == 1 else (split.y,) * heads
    dataset = tf.data.Dataset.from_tensor_slices((split.x, y)).batch(batch_size)
    return dataset.with_options(_sharded_by_example())


def _sharded_by_example() -> tf.data.Options:
    """Returns options that distribute examples, not files, among workers."""
    options = tf.data.Options()
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.DATA
    return options


def save(model: keras.Model, path: pathlib.Path) -> None:
    """Writes every variable of a compiled model to an .npz file, atomically.

    A `.weights.h5` file would not contain the states of random layers (Keras 3.15).
    """
    checkpoint.save(path, _variables(model))


def restore(model: keras.Model, path: pathlib.Path) -> None:
    """Reads a file of `save` into a model that was built and compiled in the same way."""
    checkpoint.restore(path, _variables(model))


def _variables(model: keras.Model) -> list[Any]:
    return [*model.variables, *model.optimizer.variables]


class Keeper(keras.callbacks.Callback):
    """Writes the checkpoint and the requested snapshots, each atomically."""

    def __init__(self, folder: pathlib.Path, training: "Training", chief: bool) -> None:
        super().__init__()
        self._folder, self._training, self._chief = folder, training, chief

    def _step(self) -> int:
        return int(self.model.optimizer.iterations.numpy())

    def keep_snapshot(self, step: int) -> None:
        """Writes the weights of this step if a snapshot of it was requested."""
        path = self._folder / snapshot_name(step)
        if self._chief and step in self._training.snapshots and not path.exists():
            with files.atomic(path) as partial:
                self.model.save_weights(partial)

    def on_train_batch_end(self, batch: int, logs: Mapping[str, Any] | None = None) -> None:
        """Checkpoints every `checkpoint_every` steps."""
        if not self._chief:
            return
        step = self._step()
        self.keep_snapshot(step)
        if step % self._training.checkpoint_every == 0:
            save(self.model, self._folder / CHECKPOINT)

    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        """Checkpoints after validation."""
        if self._chief:
            save(self.model, self._folder / CHECKPOINT)


def snapshot_name(step: int) -> str:
    """Returns the name of the file with the weights of a step."""
    return f"step_{step:07d}.weights.h5"


class Summaries(keras.callbacks.Callback):
    """Writes losses and metrics to TensorBoard by step, so a resumed run continues its curves."""

    EVERY = 20  # steps

    def __init__(self, folder: pathlib.Path, chief: bool) -> None:
        super().__init__()
        # Workers other than the chief write nothing.
        self._writer = SummaryWriter(folder / "logs" if chief else None)

    def _write(self, logs: Mapping[str, Any] | None, prefix: str) -> None:
        step = int(self.model.optimizer.iterations.numpy())
        self._writer.scalars(step, {prefix + name: v for name, v in (logs or {}).items()})

    def on_train_batch_end(self, batch: int, logs: Mapping[str, Any] | None = None) -> None:
        """Writes the running training metrics."""
        if batch % self.EVERY == 0:
            self._write(logs, "train/")

    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        """Writes the validation metrics."""
        validation = {
            name.removeprefix("val_"): value
            for name, value in (logs or {}).items()
            if name.startswith("val_")
        }
        self._write(validation, "validation/")
