"""Fits a probe to every tap of a feature store, each to certified optimality."""

import dataclasses
import functools

import numpy as np
import tqdm

from thesis_tf import _checks
from thesis_tf.probes.measures import measure
from thesis_tf.probes.report import Probe, ProbeReport
from thesis_tf.probes.softmax_regression import SoftmaxRegression

# In the order of the path: strong penalties are quick to solve and start the weaker ones.
PENALTIES = tuple(float(p) for p in 10.0 ** np.arange(0, -5.5, -0.5))
PATH_GAP = 10  # times the gap that is asked for: enough to choose a penalty by
MEMORY_LIMIT = 1 << 28  # bytes of training features of one tap that are kept; more are streamed


def fit_probes(
    store,
    labels,
    splits,
    *,
    class_names=None,
    penalties=PENALTIES,
    gap=1e-3,
    control=False,
    seed=0,
    memory_limit=MEMORY_LIMIT,
    progress=True,
):
    """Fits a linear classifier to the features of every tap (thesis, section 9.3.2).

    For each tap and each set of labels, softmax regressions are solved from the strongest penalty
    to the weakest, each started from the one before and to ten times the gap; the path ends where
    the validation cross-entropy stops falling, and the penalty with the least is solved to the gap
    itself. (Choosing by validation error follows the noise of that error: on CIFAR-10 with 1,000
    validation examples it was worse in 4 of 18 places of a ResNet-50, by up to .019.)

    Args:
        store: a `FeatureStore` of N examples.
        labels: (N,) integers in [0, K), in the order of the store; or a dict from name to such
            labels, to ask what else can be read off the same features (section 9.3.6).
        splits: a dict with "train" and "valid", and "test" if there is one, of slices, index
            arrays or masks over the store; or a tuple of the numbers of examples of each, end to
            end. With a single penalty "valid" may be left out.
        class_names: names for the report.
        penalties: lambdas to try, on weights of standardised features.
        gap: how far the loss may be above its minimum, in nats.
        control: also fits labels shuffled among the examples, at the chosen penalty: what a probe
            of this size learns by heart. Selectivity is the difference in test error.
        seed: of that shuffling.
        memory_limit: bytes of one tap's training features that may be kept in memory; above it
            they are read from disk in blocks, twice an evaluation.
        progress: whether to show a progress bar on a terminal.

    Returns:
        A `ProbeReport`.

    Raises:
        ValueError: labels of another length or out of range, one class only, overlapping splits.
    """
    named = labels if isinstance(labels, dict) else {"class": labels}
    rows = _rows(splits, store.examples, needs_valid=len(penalties) > 1)
    named = {
        name: _checked_labels(
            f"`labels` {name!r}" if len(named) > 1 else "`labels`", y, store, rows
        )
        for name, y in named.items()
    }
    penalties = sorted({float(penalty) for penalty in penalties}, reverse=True)
    if not penalties or penalties[-1] <= 0:
        raise _checks.invalid("`penalties`", "positive numbers", penalties)
    fit = functools.partial(_fit, store, rows, penalties, gap, memory_limit)
    jobs = [(tap, name) for tap in store.taps for name in named]
    probes, own = [], {}
    with tqdm.tqdm(jobs, desc="probes", unit=" probes", disable=None if progress else True) as bar:
        for tap, name in bar:
            bar.set_postfix_str(tap.name, refresh=False)
            y = named[name]
            probe = dataclasses.replace(fit(tap, y, int(y.max()) + 1), labels=name)
            if control:
                shuffled = np.random.default_rng(seed).permutation(y)
                penalty = [probe.solution.penalty]
                chance = _fit(store, rows, penalty, gap, memory_limit, tap, shuffled, probe.classes)
                probe = dataclasses.replace(probe, control=chance.measures)
            probes.append(probe)
    for name, y in named.items():
        own[name] = _own_measures(store, rows, y)
    return ProbeReport(
        probes=tuple(probes),
        own=own,
        chance={name: _chance(y, rows) for name, y in named.items()},
        edges=tuple(store.edges),
        reduction=store.reduction,
        class_names=tuple(class_names or ()),
        model=store.model,
        data=store.data,
    )


def _fit(store, rows, penalties, gap, memory_limit, tap, labels, classes):
    """Fits one tap over the path of penalties and measures the best."""
    train, name = rows["train"], tap.name
    size = _count(train) * store.features(name) * store.dtype(name).itemsize
    problem = SoftmaxRegression(
        lambda: _blocks(store, name, train),
        labels[train],
        classes,
        keep=size <= memory_limit,
        dtype=store.dtype(name).name,
    )
    best = least = solution = None
    steps = 0
    for penalty in penalties if len(penalties) > 1 else ():
        solution = problem.solve(penalty, PATH_GAP * gap, start=solution)
        steps += solution.steps
        valid = _measured(store, name, rows["valid"], labels, solution)
        if best is not None and valid.cross_entropy >= least:
            break
        best, least = solution, valid.cross_entropy
    solution = problem.solve(best.penalty if best else penalties[0], gap, start=best)
    return Probe(
        tap=tap,
        labels="",
        classes=classes,
        solution=dataclasses.replace(solution, steps=steps + solution.steps),
        measures={
            split: _measured(store, name, part, labels, solution) for split, part in rows.items()
        },
    )


def _measured(store, name, rows, labels, solution):
    def logits():
        labels_, first = labels[rows], 0
        for _, block in _blocks(store, name, rows):
            yield block @ solution.weights + solution.bias, labels_[first : first + len(block)]
            first += len(block)

    return measure(logits())


def _own_measures(store, rows, labels):
    """The model's own measures, for each output that has as many classes as the labels."""
    classes, own = int(labels.max()) + 1, {}
    for name in store.predictions:
        if store.features(name) != classes:
            continue

        def logits(part, name=name):
            y, first = labels[part], 0
            for _, block in _blocks(store, name, part):
                values = block.astype(np.float64)
                if block.min() >= 0 and np.allclose(block.sum(1), 1, atol=1e-2):
                    values = np.log(np.maximum(values, 1e-30))  # probabilities
                yield values, y[first : first + len(block)]
                first += len(block)

        output = name.removeprefix("prediction:")
        own[output] = {split: measure(logits(part)) for split, part in rows.items()}
    return own


def _blocks(store, name, rows):
    """Yields (first, features) over the rows of a split, in order."""
    if isinstance(rows, slice):
        for first, block in store.blocks([name], rows):
            yield first - rows.start, block[name]
        return
    size = max(1, (1 << 26) // (store.features(name) * store.dtype(name).itemsize))
    for first in range(0, len(rows), size):
        yield first, store.read(name, rows[first : first + size])


def _count(rows):
    return rows.stop - rows.start if isinstance(rows, slice) else len(rows)


def _rows(splits, examples, needs_valid):
    """Turns `splits` into a dict of slices with both ends or index arrays; checks them."""
    if isinstance(splits, (tuple, list)):
        ends = np.cumsum([0, *splits]).tolist()
        names = ("train", "valid", "test")
        splits = {n: slice(a, b) for n, a, b in zip(names, ends, ends[1:], strict=False)}
    needed = {"train", "valid"} if needs_valid else {"train"}
    if not needed <= set(splits):
        raise _checks.invalid(
            "`splits`",
            f"a dict with {' and '.join(sorted(needed))}",
            sorted(splits),
            "The penalty is chosen on the validation examples.",
        )
    rows, taken = {}, np.full(examples, -1)
    for number, (name, part) in enumerate(splits.items()):
        indices = np.arange(examples)[part] if isinstance(part, slice) else np.asarray(part)
        if indices.dtype == bool:
            if len(indices) != examples:
                raise _checks.invalid(f"`splits` {name!r}", f"a mask of {examples}", len(indices))
            indices = np.flatnonzero(indices)
        if isinstance(part, slice) and (part.stop or 0) > examples:
            raise _checks.invalid(f"`splits` {name!r}", f"within {examples} examples", part)
        if not len(indices):
            raise _checks.invalid(f"`splits` {name!r}", "at least one example", "none")
        if indices.min() < 0 or indices.max() >= examples:
            raise _checks.invalid(
                f"`splits` {name!r}",
                f"indices in [0, {examples})",
                f"{indices.min()} to {indices.max()}",
            )
        if (taken[indices] >= 0).any():
            other = list(splits)[taken[indices].max()]
            raise _checks.invalid("`splits`", "disjoint", f"{name!r} overlaps {other!r}")
        taken[indices] = number
        contiguous = isinstance(part, slice) and (part.step or 1) == 1
        rows[name] = slice(int(indices[0]), int(indices[-1]) + 1) if contiguous else indices
    return rows


def _checked_labels(name, labels, store, rows):
    labels = np.asarray(labels)
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.shape != (store.examples,):
        raise _checks.invalid(
            name, f"({store.examples},), one for each example of the store", labels.shape
        )
    if not np.issubdtype(labels.dtype, np.integer):
        raise _checks.invalid(name, "integers", labels.dtype, kind=TypeError)
    if labels.min() < 0:
        raise _checks.invalid(name, "in [0, K)", f"a least value of {labels.min()}")
    if len(np.unique(labels[rows["train"]])) < 2:
        raise _checks.invalid(
            name,
            "of two classes at least among the training examples",
            f"class {labels[rows['train']][0]} only",
        )
    return labels.astype(np.int64)


def _chance(labels, rows):
    """The error of always naming the commonest class of the training examples."""
    counts = np.bincount(labels[rows["train"]])
    part = rows.get("test", rows["train"])
    return float((labels[part] != counts.argmax()).mean())
