"""Fits a probe to every tap of a feature store, each to certified optimality."""

from __future__ import annotations

import dataclasses
import itertools
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from thesis_tf._core import checks, seeds
from thesis_tf._core.types import Array, ArrayLike, Verbose
from thesis_tf.probes.features.store import FeatureStore
from thesis_tf.probes.metrics import Metrics, measure
from thesis_tf.probes.report import Probe, ProbeReport
from thesis_tf.probes.solver.softmax_regression import SoftmaxRegression, Solution
from thesis_tf.probes.solver.standardized import Standardized
from thesis_tf.reporting import progress

SPLITS = ("train", "validation", "test")
# In the order of the path: solutions for strong regularization are fast to compute and initialize
# those for weaker regularization.
L2 = tuple(float(value) for value in 10.0 ** np.arange(1, -5.5, -0.5))
RISES = 2  # the path ends after this many consecutive rises of the validation cross-entropy
MEMORY_LIMIT = 1 << 28  # bytes of one tap's training features in memory; more are streamed
MOST_CLASSES = 100_000  # more are taken for other numbers, such as timestamps
BLOCK = 1 << 26  # bytes of features, or of logits, that are read or computed at once

Rows = slice | Array


def fit_probes(
    store: FeatureStore,
    labels: ArrayLike | Mapping[str, ArrayLike] | None,
    splits: Mapping[str, slice | ArrayLike] | Sequence[int],
    *,
    class_names: Sequence[str] | None = None,
    l2: float | Sequence[float] = L2,
    tol: float = 1e-3,
    control: bool = False,
    seed: int = 0,
    memory_limit: int = MEMORY_LIMIT,
    verbose: Verbose = "auto",
) -> ProbeReport:
    """Fits a linear classifier to the features of every tap (thesis, section 9.3.2).

    For each tap and each set of labels, softmax regressions are solved from the largest `l2` to the
    smallest, each initialized with the previous solution. The path ends when the validation
    cross-entropy is above its minimum twice in a row, and the result is the solution at this
    minimum. (Selection by validation error would fit the noise of this error: on CIFAR-10 with
    1,000 validation examples it was worse at 4 of 18 taps of a ResNet-50, by up to 0.019.)

    Args:
        store: a `FeatureStore` of N examples.
        labels: (N,) integers in [0, K), in the order of the store; or a dict from name to such
            labels, to predict several factors from the same features (section 9.3.6). Booleans
            are two classes. None takes `store.labels`, those of the data set of pairs from which
            the features were extracted.
        splits: a dict with "train", "validation" and optionally "test", whose values are slices,
            index arrays or masks over the store; or a tuple of the numbers of consecutive examples
            of each, in the order of the store, which isn't shuffled: a warning says if a class is
            in another split but not in training. With a single `l2`, "validation" is optional.
        class_names: the names of the K classes, for the report. Without them K is the largest label
            plus one. With several sets of labels they are passed on unchecked.
        l2: values to try for the coefficient of the squared norm of the weights of standardized
            features.
        tol: the largest suboptimality of each solution, in nats.
        control: whether to also fit labels that are shuffled among the examples, with the chosen
            `l2`: this shows how much a probe of this size can memorize. Selectivity is the
            difference in test error.
        seed: the seed of this shuffling.
        memory_limit: bytes of one tap's training features that may be kept in memory; more features
            are read from disk in blocks, twice per evaluation.
        verbose: as in Keras: "auto" shows a progress bar on a terminal.

    Returns:
        A `ProbeReport`.

    Raises:
        ValueError: labels have another length, are out of range, or have only one class; splits
            overlap, repeat examples or are empty; `l2` or `tol` isn't positive.
        TypeError: labels or indices aren't integers.
    """
    seed = seeds.checked_seed(seed)
    labels = _labels_of(store) if labels is None else labels
    if store.shuffled and labels is not store.labels:
        raise checks.invalid(
            "`labels`",
            "None or `store.labels`, as the features are those of a shuffled data set",
            "other labels, whose order can't be that of the store",
        )
    named = labels if isinstance(labels, Mapping) else {"class": labels}
    path = sorted({float(value) for value in np.atleast_1d(l2)}, reverse=True)
    if not path or not 0 < path[-1] <= path[0] < np.inf:
        raise checks.invalid("`l2`", "positive numbers", path)
    tol = checks.positive_number("`tol`", tol)
    rows = _rows(splits, store.examples, needs_validation=len(path) > 1)
    single = len(named) == 1
    targets = [
        _target(
            name,
            "`labels`" if single else f"`labels` {name!r}",
            values,
            store.examples,
            rows,
            class_names if single else None,
        )
        for name, values in named.items()
    ]
    if not targets:
        raise checks.invalid("`labels`", "labels, or a dict of them", labels)
    order = np.random.default_rng(seed).permutation(store.examples)
    probes, total = [], len(store.taps) * len(targets)
    with progress.bar(verbose, total=total, description="probes", unit="probe") as bar:
        for tap in store.taps:
            bar.set_postfix_str(tap.name, refresh=False)
            fit = _TapFit(store, tap.name, rows, tol, memory_limit)
            for target in targets:
                solution, metrics = fit(target, path)
                on_shuffled = None
                if control:
                    shuffled = target._replace(labels=target.labels[order])
                    _, on_shuffled = fit(shuffled, [solution.l2])
                probes.append(
                    Probe(tap, target.name, target.classes, solution, metrics, control=on_shuffled)
                )
                bar.update()
            del fit  # frees this tap's features before the next tap's are read
    return ProbeReport(
        probes=tuple(probes),
        model_error={target.name: _model_error(store, rows, target) for target in targets},
        chance={target.name: _chance(target.labels, rows) for target in targets},
        edges=tuple(store.edges),
        reduction=store.reduction,
        class_names=tuple(class_names or ()),
        model=store.model,
        data=store.data,
    )


def _labels_of(store: FeatureStore) -> Array | Mapping[str, Array]:
    """Returns the labels that a store keeps; raises if it keeps none."""
    if store.labels is None:
        raise checks.invalid(
            "`labels`",
            "given for a store that keeps none",
            None,
            "A store keeps the integer labels of a tf.data.Dataset of (inputs, labels).",
        )
    return store.labels


class _Target(NamedTuple):
    """The target of probes: labels (N,) in [0, classes)."""

    name: str
    labels: Array
    classes: int


class _TapFit:
    """Fits probes at one tap; computations that don't depend on the labels are done once."""

    def __init__(
        self,
        store: FeatureStore,
        name: str,
        rows: dict[str, Rows],
        tol: float,
        memory_limit: int,
    ) -> None:
        self._store, self._name, self._rows, self._tol = store, name, rows, tol
        dtype = store.dtype(name)
        size = _count(rows["train"]) * store.features(name) * dtype.itemsize
        try:
            self._features = Standardized(
                lambda: _blocks(store, name, rows["train"]), keep=size <= memory_limit, dtype=dtype
            )
        except ValueError as error:
            raise ValueError(f"Tap {name!r}: {error}") from error

    def __call__(
        self, target: _Target, path: Sequence[float]
    ) -> tuple[Solution, dict[str, Metrics]]:
        """Solves for each l2 of the path; returns the best `Solution` and its metrics."""
        labels = target.labels[self._rows["train"]]
        problem = SoftmaxRegression(self._features, labels, target.classes)
        solution = problem.solve(path[0], tol=self._tol)
        best, least, rises, evaluations = solution, np.inf, 0, solution.evaluations
        for number, l2 in enumerate(path):
            if number > 0:
                solution = problem.solve(l2, tol=self._tol, initial_solution=solution)
                evaluations += solution.evaluations
            nats = 0.0
            if len(path) > 1:
                nats = self._measure("validation", target, solution).cross_entropy
            if nats < least:
                best, least = solution, nats
            # If features hardly distinguish the classes, strong regularization gives the same
            # solution again, which doesn't count as a rise.
            rises = rises + 1 if nats > least else 0
            if rises == RISES:
                break
        metrics = {split: self._measure(split, target, best) for split in self._rows}
        return dataclasses.replace(best, evaluations=evaluations), metrics

    def _measure(self, split: str, target: _Target, solution: Solution) -> Metrics:
        def logits(features: Array) -> Array:
            return solution.logits(features).numpy()

        return _measured(self._store, self._name, self._rows[split], target, logits)


def _model_error(
    store: FeatureStore, rows: dict[str, Rows], target: _Target
) -> dict[str, dict[str, Metrics]]:
    """Returns metrics of the model's outputs that have the same number of classes as the labels."""

    def logits(values: Array) -> Array:
        if values.min() >= 0 and np.allclose(values.sum(1), 1, atol=1e-2):  # probabilities
            return np.log(np.maximum(values.astype(np.float64), 1e-30))
        return values

    return {
        name.removeprefix("prediction:"): {
            split: _measured(store, name, part, target, logits) for split, part in rows.items()
        }
        for name in store.predictions
        if store.features(name) == target.classes
    }


def _measured(
    store: FeatureStore,
    name: str,
    rows: Rows,
    target: _Target,
    logits: Callable[[Array], Array],
) -> Metrics:
    """Measures `logits`, a function of features (n, D), on some rows of the store."""
    labels = target.labels[rows]

    def blocks() -> Iterator[tuple[Array, Array]]:
        for first, block in _blocks(store, name, rows, width=target.classes):
            if not np.isfinite(block).all():
                raise checks.invalid(f"Tap {name!r}", "finite", "a feature that isn't")
            yield logits(block), labels[first : first + len(block)]

    return measure(blocks())


def _blocks(
    store: FeatureStore, name: str, rows: Rows, width: int = 0
) -> Iterator[tuple[int, Array]]:
    """Yields (first, features) over the rows of a split, in order.

    The size of a block also limits an array (rows, `width`) of the same dtype.
    """
    row_bytes = store.features(name) * store.dtype(name).itemsize
    size = max(1, BLOCK // max(row_bytes, width * store.dtype(name).itemsize))
    if isinstance(rows, slice):
        for first, block in store.blocks([name], rows, block_bytes=size * row_bytes):
            yield first - rows.start, block[name]
        return
    for first in range(0, len(rows), size):
        yield first, store.read(name, rows[first : first + size])


def _count(rows: Rows) -> int:
    return rows.stop - rows.start if isinstance(rows, slice) else len(rows)


def _rows(
    splits: Mapping[str, slice | ArrayLike] | Sequence[int],
    examples: int,
    needs_validation: bool,
) -> dict[str, Rows]:
    """Checks `splits` and returns a dict of index arrays, or slices with both ends."""
    if not isinstance(splits, Mapping):
        if len(splits) > len(SPLITS):
            raise checks.invalid("`splits`", f"numbers of examples of {', '.join(SPLITS)}", splits)
        counts = [checks.positive_integer("`splits`", count) for count in splits]
        ends = np.cumsum([0, *counts]).tolist()
        splits = dict(zip(SPLITS, itertools.starmap(slice, itertools.pairwise(ends)), strict=False))
    needed = {"train", "validation"} if needs_validation else {"train"}
    if not needed <= set(splits):
        raise checks.invalid(
            "`splits`",
            f"a dict with {' and '.join(sorted(needed))}",
            sorted(splits),
            "`l2` is chosen on the validation examples.",
        )
    rows: dict[str, Rows] = {}
    taken = np.full(examples, -1)
    for number, (name, part) in enumerate(splits.items()):
        shown = f"`splits` {name!r}"
        if isinstance(part, slice) and (part.stop or 0) > examples:
            raise checks.invalid(shown, f"within {examples} examples", part)
        indices = np.arange(examples)[part] if isinstance(part, slice) else np.asarray(part)
        if indices.dtype == bool:
            if indices.shape != (examples,):
                raise checks.invalid(shown, f"a mask ({examples},)", indices.shape)
            indices = np.flatnonzero(indices)
        if not indices.size:
            raise checks.invalid(shown, "at least one example", "none")
        if indices.ndim != 1 or not np.issubdtype(indices.dtype, np.integer):
            received = f"{indices.dtype} {indices.shape}"
            raise checks.invalid(shown, "a slice, indices or a mask", received, kind=TypeError)
        if indices.min() < 0 or indices.max() >= examples:
            received = f"{indices.min()} to {indices.max()}"
            raise checks.invalid(shown, f"indices in [0, {examples})", received)
        indices = indices.astype(np.int64)  # differences of unsigned ones wrap around
        repeated = indices.size - len(np.unique(indices))
        if repeated:
            advice = "Pass booleans for a mask: mask == 1."
            raise checks.invalid(shown, "different indices", f"{repeated} repeated ones", advice)
        if (taken[indices] >= 0).any():
            other = list(splits)[taken[indices].max()]
            raise checks.invalid("`splits`", "disjoint", f"{name!r} overlaps {other!r}")
        taken[indices] = number
        # Consecutive examples are read as one slice.
        consecutive = (np.diff(indices) == 1).all()
        rows[name] = slice(int(indices[0]), int(indices[-1]) + 1) if consecutive else indices
    return rows


def _target(
    name: str,
    shown: str,
    labels: ArrayLike,
    examples: int,
    rows: Mapping[str, Rows],
    class_names: Sequence[str] | None,
) -> _Target:
    """Checks labels and counts their classes; `shown` is their name in errors."""
    labels, train = np.asarray(labels), rows["train"]
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.shape != (examples,):
        raise checks.invalid(
            shown, f"({examples},), one for each example of the store", labels.shape
        )
    if labels.dtype == bool:
        labels = labels.astype(np.int64)
    if not np.issubdtype(labels.dtype, np.integer):
        raise checks.invalid(shown, "integers", labels.dtype, kind=TypeError)
    if labels.min() < 0:
        raise checks.invalid(shown, "in [0, K)", f"a smallest value of {labels.min()}")
    classes = int(labels.max()) + 1
    if classes > MOST_CLASSES and not class_names:
        raise checks.invalid(
            shown,
            f"in [0, K), with K up to {MOST_CLASSES:,}",
            f"{len(np.unique(labels))} different values, the largest {classes - 1}",
            "Number them from 0: np.unique(labels, return_inverse=True)[1].",
        )
    if class_names and classes > len(class_names):
        raise checks.invalid(
            "`class_names`", f"{classes} names, given the largest label", len(class_names)
        )
    if len(np.unique(labels[train])) < 2:
        raise checks.invalid(
            shown,
            "of at least two classes in the training examples",
            f"class {labels[train][0]} only",
        )
    for split, part in rows.items():
        unknown = np.setdiff1d(labels[part], labels[train])
        if len(unknown):
            found = ", ".join(map(str, unknown[:5])) + (", ..." if len(unknown) > 5 else "")
            warnings.warn(
                f"No training example has the {shown} {found}, but"
                f" {np.isin(labels[part], unknown).sum()} of {len(labels[part])} {split} examples"
                " have: probes are wrong there. Shuffle the examples, or stratify"
                " the splits.",
                stacklevel=3,
            )
    return _Target(name, labels.astype(np.int64), len(class_names or ()) or classes)


def _chance(labels: Array, rows: dict[str, Rows]) -> float:
    """Returns the error of always predicting the most frequent class of the training examples."""
    counts = np.bincount(labels[rows["train"]])
    unseen = next(rows[split] for split in reversed(SPLITS) if split in rows)
    return float((labels[unseen] != counts.argmax()).mean())
