"""One pass of a model over a data set, writing the features of all taps to a store."""

from __future__ import annotations

import pathlib
import shutil
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from thesis_tf._core import checks, seeds
from thesis_tf._core.types import Array, Path, Structure, Verbose
from thesis_tf._keras.batches import Stream
from thesis_tf._keras.inputs import fixed_batch, input_spec
from thesis_tf._keras.sharding import Replicas
from thesis_tf._keras.tracing import state_changes
from thesis_tf.persistence import fingerprint
from thesis_tf.probes import masks
from thesis_tf.probes.features.labels import is_shuffled, paired
from thesis_tf.probes.features.shards import (
    MANIFEST,
    Column,
    ShardWriter,
    difference,
    label_columns,
    make_header,
    read_manifest,
    shard_name,
)
from thesis_tf.probes.features.store import FeatureStore
from thesis_tf.probes.reductions import Reduction
from thesis_tf.probes.taps import Selection, Tap, TapGraph, features, record_taps
from thesis_tf.reporting import progress

FLUSH_EVERY = 512  # examples; an interruption loses at most this many


def extract(
    model: keras.Model,
    x: Structure | tf.data.Dataset,
    folder: Path,
    *,
    taps: Selection = "*",
    reduction: str | Reduction = "mean",
    batch_size: int = 32,
    inputs: Structure | None = None,
    mask: str | None = masks.AUTO,
    seed: int = 0,
    shard: tuple[int, int] = (1, 1),
    overwrite: bool = False,
    verbose: Verbose = "auto",
) -> FeatureStore | None:
    """Runs `model` once over `x` and stores the features of all taps.

    The model runs in inference mode and statelessly: it does not change. Under a
    `tf.distribute.Strategy` each batch is divided among its replicas. If a call was interrupted,
    repeating it resumes after the last example on disk. If it was complete, repeating it only
    verifies checksums. A shuffled or augmented data set is another one in each pass, so neither is
    possible with it.

    Args:
        model: a Keras model.
        x: an array (N, ...), a structure of arrays, or a finite batched `tf.data.Dataset` of
            inputs or (inputs, labels) pairs. Integer labels of shape (n,) or (n, 1), or a dict of
            such labels, are kept in the store; without them the order must be fixed.
        folder: the folder for the store.
        taps: the selection of taps, as for `thesis_tf.probes.taps`; "*" is every tap.
        reduction: "mean", "subset:1000", "projection:1000", "flatten", "last", "time_mean", or a
            `Reduction`.
        batch_size: examples per forward pass.
        inputs: an example of the inputs, or `tf.TensorSpec`s with the batch axis, for a model that
            is not built yet; None uses those of `x`.
        mask: which steps of padded sequences count: "auto", "keras", "none", or the name of an
            input, as for `thesis_tf.probes.taps`. Reductions other than "mean", "last",
            "time_mean" and registered ones take all steps.
        seed: the seed of random subsets and projections.
        shard: (i, n) with 1 <= i <= n, to extract only the i-th of n parts of arrays; several
            machines may write the shards of one store to one shared folder.
        overwrite: whether to replace the contents of `folder`.
        verbose: as in Keras: "auto" shows a progress bar on a terminal.

    Returns:
        The `FeatureStore`; None while other shards of it are missing.

    Raises:
        ValueError: no tap matches, a feature is not finite (with its tap and example), the
            inputs don't fit the model, `mask` isn't the name of a mask, the folder holds another
            store, a data set changes from pass to pass and has no labels that can be kept, or a
            stateful layer has a state.
        RuntimeError: the strategy's devices are not all of this machine.
    """
    seed, (index, shards) = seeds.checked_seed(seed), shard
    progress.checked_verbose(verbose)
    if not 1 <= index <= shards:
        raise checks.invalid("`shard`", "(i, n) with 1 <= i <= n", shard)
    state_changes.check_reset(model)
    stream = _stream(model, x, batch_size)
    first, stop = 0, stream.examples
    if shards > 1:
        if stop is None:
            raise checks.invalid("`x`", "arrays when `shard` is given", "a tf.data.Dataset")
        first, stop = stop * (index - 1) // shards, stop * index // shards
    spec, label_spec = stream.spec
    _check_inputs(model, spec)
    reduction = Reduction.parse(reduction, seed=seed)
    graph = record_taps(
        model,
        inputs=spec if inputs is None else inputs,
        mask=mask if reduction.uses_masks else masks.NONE,
    )
    selected = graph.select(taps)
    graph.warn_of_masks(selected, stacklevel=2)
    columns = _columns(graph, selected, reduction)
    names = [column.tap.name for column in columns if not column.prediction]
    shuffled = is_shuffled(stream)
    header = make_header(
        [*columns, *label_columns(label_spec)],
        reduction,
        model=fingerprint.of_model(model),
        data=stream.fingerprint(),
        examples=None if stop is None else stop - first,
        edges=graph.edges(names),
        shuffled=shuffled,
    )
    folder = pathlib.Path(folder)
    part = folder / shard_name(index - 1, shards)
    if shuffled and (part / MANIFEST).exists() and not overwrite:
        raise ValueError(
            f"{part} holds features of another pass over a shuffled data set, which can't be"
            " continued. Open them as FeatureStore, use another folder, or pass overwrite=True."
        )
    _make_room(part, header, overwrite)
    writer = ShardWriter(part, header)
    if not writer.complete:
        step = _step(model, columns, reduction)
        bar = progress.bar(
            verbose, total=header["examples"], description="features", unit=" examples"
        )
        with writer, bar:
            bar.update(writer.done)
            _run(step, stream, first, stop, writer, columns, bar)
    if shards > 1 and not FeatureStore.is_complete(folder):
        return None
    return FeatureStore(folder, verify=shards > 1)


def _stream(model: keras.Model, x: Any, batch_size: int) -> Stream:
    """Streams `x` in batches that fit the model and can be divided among the replicas."""
    if isinstance(tf.distribute.get_strategy(), tf.distribute.MultiWorkerMirroredStrategy):
        raise RuntimeError(
            "Each machine extracts one shard: call `extract` outside the strategy, with"
            " shard=(i, n) on machine i of n."
        )
    replicas = Replicas()
    batch_size = replicas.round_up(checks.positive_integer("`batch_size`", batch_size))
    fixed = fixed_batch(model)
    if fixed and fixed * replicas.count != batch_size:
        raise checks.invalid(
            "`batch_size`", f"{fixed * replicas.count}, the fixed size of the model", batch_size
        )
    x = paired(x)
    stream = Stream(x, batch_size)
    if not fixed and stream.examples and stream.examples < batch_size:
        # A single batch would be padded to a size that may not fit in memory.
        stream = Stream(x, replicas.round_up(stream.examples))
    return stream


def _check_inputs(model: keras.Model, spec: Any) -> None:
    """Raises unless data of `spec` suit the inputs that a functional model declares."""
    if not getattr(model, "inputs", None):
        return
    expected, found = (
        [tuple(leaf.shape[1:]) for leaf in keras.tree.flatten(s)] for s in (input_spec(model), spec)
    )
    suits = len(expected) == len(found)
    if suits and len(expected) == 1:  # several may come in another order, by name
        # Keras itself adds or drops a last axis of one.
        shapes = [s[:-1] if s and s[-1] == 1 else s for s in (*expected, *found)]
        suits = tf.TensorShape(shapes[0]).is_compatible_with(shapes[1])
    if not suits:
        raise checks.invalid(
            "`x`",
            f"examples of shape {', '.join(map(str, expected))}, the inputs of {model.name}",
            ", ".join(map(str, found)),
            "A tf.data.Dataset must be batched.",
        )


def _columns(graph: TapGraph, taps: Sequence[Tap], reduction: Reduction) -> list[Column]:
    """Returns the store's columns: the taps' features, then the model's predictions."""
    # The predictions give the model's error, with which the probes' errors are compared.
    outputs = [tap for tap in graph.outputs if len(tap.shape) == 2]
    return [
        Column(
            tap=tap,
            features=int(tap.shape[1] or 0) if prediction else reduction.features(tap),
            dtype="float64" if tap.dtype == "float64" else "float32",
            file=f"{number:03d}.npy",
            prediction=prediction,
        )
        for number, (tap, prediction) in enumerate(
            [(tap, False) for tap in taps] + [(tap, True) for tap in outputs]
        )
    ]


def _make_room(folder: pathlib.Path, header: dict[str, Any], overwrite: bool) -> None:
    """Removes shards of another store if `overwrite`, else raises if there are any."""
    if overwrite and folder.exists():
        shutil.rmtree(folder)
    for other in FeatureStore.shards(folder.parent):
        if other == folder:
            continue
        if other.name[6:] != folder.name[6:]:
            reason = f"belongs to another number of shards than {folder.name}"
        elif (other / MANIFEST).exists() and (what := difference(read_manifest(other), header)):
            reason = f"was made from another {what}"
        else:
            continue
        if not overwrite:
            raise ValueError(f"{other} {reason}. Use another folder, or pass overwrite=True.")
        # Processes that write other shards may remove it at the same time.
        shutil.rmtree(other, ignore_errors=True)


def _step(
    model: keras.Model, columns: Sequence[Column], reduction: Reduction
) -> Callable[[Any], list[Any]]:
    """Returns a function from a batch of NumPy arrays to a list of arrays.

    There is one array per column and, last, one of bool for the examples without steps.
    """
    replicas = Replicas()
    taps = [column.tap for column in columns if not column.prediction]
    predictions = [column for column in columns if column.prediction]
    run_model = features(model, taps, reduction, whole=[c.tap.name for c in predictions])

    @tf.function(autograph=False)
    def on_replica(x: Any) -> list[tf.Tensor]:
        found = run_model(x)
        outputs = [tf.cast(found.tensors[c.tap.name], c.dtype) for c in predictions]
        batch = tf.shape(keras.tree.flatten(x)[0])[:1]
        empty = tf.zeros(batch, tf.bool) if found.empty is None else found.empty
        return [*found.features.values(), *outputs, empty]

    run = replicas.on_each(on_replica)

    def step(batch: Any) -> list[Any]:
        masks.check_values(model, taps, batch)
        size = len(keras.tree.flatten(batch)[0]) // replicas.count
        found = [replicas.local(value) for value in run(replicas.divide(batch))]
        for column, pieces in zip(columns, found, strict=False):
            if any(len(piece) != size for piece in pieces):
                raise checks.invalid(
                    f"Tap {column.tap.name!r}",
                    f"one row for each of {size} examples",
                    f"{len(pieces[0])} rows",
                    "Its layer mixes examples on the first axis.",
                )
        return found

    return step


def _run(
    step: Callable[[Any], list[Any]],
    stream: Stream,
    first: int,
    stop: int | None,
    writer: ShardWriter,
    columns: Sequence[Column],
    bar: Any,
) -> None:
    """Feeds the stream through `step` into the writer."""
    durable = writer.done
    waiting: tuple[list[Any], list[Any], int] | None = None
    empty: list[int] = []  # examples without steps

    def write(parts: list[Any], labels: list[Any], count: int) -> None:
        nonlocal durable
        *rows, without_steps = [
            np.concatenate([piece.numpy() for piece in part])[:count] for part in parts
        ]
        empty.extend(first + writer.done + np.flatnonzero(without_steps))
        for column, values in zip(columns, rows, strict=True):
            _check_finite(column.tap.name, values, first + writer.done)
        writer.append([*rows, *(values[:count, np.newaxis] for values in labels)])
        bar.update(count)
        if writer.done - durable >= FLUSH_EVERY:
            writer.flush()
            durable = writer.done

    # A batch is written while the device computes the next one.
    for (batch, labels), count in stream.batches(first + writer.done, stop):
        launched = step(batch)
        if waiting:
            write(*waiting)
        waiting = (launched, [labels[name] for name in sorted(labels)], count)
    if waiting:
        write(*waiting)
    writer.finish()
    if empty:
        warnings.warn(
            f"All steps of {len(empty)} examples are masked, the first of which is {empty[0]}:"
            " their features at taps with a mask are 0.",
            stacklevel=3,
        )


def _check_finite(name: str, values: Array, first: int) -> None:
    bad = np.flatnonzero(~np.isfinite(values).all(axis=1))
    if len(bad):
        raise ValueError(
            f"Tap {name!r} is not finite for example {first + bad[0]}"
            f" ({len(bad)} of {len(values)} in its batch). Look for NaN in the inputs first, then"
            " for overflow in the layers above this tap."
        )
