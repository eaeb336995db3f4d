"""Shared by figures 11.1 to 11.8: settings, and the judgment of eigenvalues and steps."""

import dataclasses
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from bin.reproduction.chapters.chapter_11.studies import hessian_spectra
from bin.reproduction.engine.contract import (
    NO_NUMBER,
    Claim,
    Settings,
    Verdict,
    verdict,
    verdict_of_difference,
)

# The factor for "settles", "well below" and "follows": eigenvalues can change by this factor from
# one step of training to the next (docs/hessian.md).
FACTOR = 2.0
FAR = 10.0  # the factor for "far": an order of magnitude
TENTH = 0.1  # the fraction of a decrease of the loss for "close" and "holds"
ROUNDING = 1e-5  # the relative rounding error of the loss, whose terms are in float32


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(Settings):
    """The settings of a figure.

    Attributes:
        study: the settings of the study that it shows.
    """

    study: hessian_spectra.Config


_ON_MNIST = hessian_spectra.Config(
    dataset="mnist", needs=("mnist",), examples=1000, largest=10, smallest=10
)
EARLY = {"quick": hessian_spectra.Config(), "full": _ON_MNIST}
LATE = {
    "quick": hessian_spectra.Config(moments=(253,)),
    "full": dataclasses.replace(_ON_MNIST, moments=(1687,)),
}


def configs(
    study: Mapping[str, hessian_spectra.Config], quick: float, full: float
) -> dict[str, Config]:
    """Returns a figure's configs.

    Args:
        study: the settings of the study, by budget.
        quick, full: the seconds that the figure takes, without results computed for other figures.
    """
    return {
        "quick": Config(study=study["quick"], expected_seconds=quick),
        "full": Config(study=study["full"], needs=study["full"].needs, expected_seconds=full),
    }


def steps_of(config: Config) -> dict[str, Any]:
    """Returns the eigenvalues and best steps of a study."""
    found = hessian_spectra.best_steps(config.study)
    notes = [*found["notes"], f"After {found['step']:,} steps of training."]
    return {name: found[name] for name in ("values", "steps", "warnings")} | {"notes": notes}


def draw_steps(result: dict[str, Any], path: pathlib.Path, panel: str) -> None:
    """Draws one panel of the library's figure of best steps."""
    from thesis_tf import hessian

    steps = [hessian.BestStep(**step) for step in result["steps"]]
    hessian.draw_best_steps(steps, path, panels=[panel])


def draw_search(search: dict[str, Any], path: pathlib.Path, label: str) -> None:
    """Draws the loss along a direction, from the fields of a `LineSearch`."""
    from thesis_tf import hessian

    hessian.draw_line_searches({label: hessian.LineSearch(**search)}, path)


def judge_decreases(result: dict[str, Any]) -> list[Claim]:
    """Claims of figures 11.3 and 11.7: which directions lower the loss more."""
    values = result["values"]
    decreases = np.array([step["decrease"] for step in result["steps"]])
    negative, positive = decreases[values < 0], decreases[values > 0]
    n, m = len(negative), len(positive)
    if not n * m:
        told = f"{n} directions of negative curvature and {m} of positive"
        return [Claim(_DECREASES, NO_NUMBER, told, verdict(False, told=False))]
    # The Mann-Whitney statistic as a fraction of all pairs, with its standard error by chance.
    pairs = negative[:, None] - positive
    more = (np.sum(pairs > 0) + np.sum(pairs == 0) / 2) / (n * m)
    error = ((n + m + 1) / (12 * n * m)) ** 0.5
    measured = (
        f"median decrease {np.median(negative):.3g} along {n} eigenvectors of negative curvature"
        f" ({values.min():.3g} to {values[values < 0].max():.3g}), {np.median(positive):.3g} along"
        f" {m} of positive curvature ({values[values > 0].min():.3g} to {values.max():.3g}); in"
        f" {more:.0%} of all pairs of one of each, the one of negative curvature lowers the loss"
        f" more (by chance 50 ± {100 * error:.0f} %)"
    )
    return [Claim(_DECREASES, NO_NUMBER, measured, verdict_of_difference(more - 0.5, error))]


_DECREASES = (
    "Steps along directions of negative curvature lower the loss more than those along directions"
    " of positive curvature."
)


def judge_sizes(result: dict[str, Any]) -> list[Claim]:
    """Claims of figures 11.4 and 11.8: the lengths of the best steps."""
    values = result["values"]
    alphas = np.array([step["alpha"] for step in result["steps"]])
    with np.errstate(divide="ignore"):
        ratios = 1 / (alphas * values)  # inf where no step lowers the loss
    positive, negative = ratios[values > 0], abs(ratios[values < 0])
    up = int(np.sum(alphas[values < 0] < 0))
    follows = (positive > 1 / FACTOR) & (positive < FACTOR)
    return [
        Claim(
            "Along positive curvature the best step is 1 / lambda: 1 / alpha* follows lambda.",
            NO_NUMBER,
            f"1 / alpha* is {_range(positive)} times lambda; they agree up to a factor of"
            f" {FACTOR:g} along {follows.sum()} of {len(follows)} eigenvectors",
            _of_most(follows),
        ),
        Claim(
            "Along negative curvature the best step is far longer than 1 / |lambda|.",
            NO_NUMBER,
            f"1 / |alpha*| is {_range(negative)} times |lambda|; the step is more than {FAR:g}"
            f" times as long along {np.sum(negative < 1 / FAR)} of {len(negative)} eigenvectors;"
            f" along {up} the step ascends the gradient",
            _of_most(negative < 1 / FAR),
        ),
    ]


def _range(ratios: np.ndarray) -> str:
    if not len(ratios):
        return "(no eigenvector)"
    return f"{ratios.min():.2g} to {ratios.max():.2g} (median {np.median(ratios):.2g})"


def _of_most(true: np.ndarray) -> Verdict:
    """Returns the verdict on a statement about eigenvectors: whether most of them satisfy it."""
    count = max(1, len(true))
    return verdict_of_difference(np.sum(true) / count - 0.5, 0.5 / count**0.5)


def history_of(config: Config) -> dict[str, Any]:
    """Returns the eigenvalues over training from a study."""
    return hessian_spectra.over_training(config.study)


def draw_history(result: dict[str, Any], path: pathlib.Path) -> None:
    """Draws eigenvalues and loss over training."""
    from thesis_tf import hessian

    history = hessian.SpectrumHistory.from_json(result["entries"])
    hessian.draw_history(history, path, marks={"one epoch": result["epoch"]})


def judge_history(result: dict[str, Any], *, told: bool = True) -> list[Claim]:
    """Claims of figures 11.5 and 11.6.

    Args:
        result: the result of `history_of`.
        told: whether it was computed with the data to which the claims refer.
    """
    entries, epoch = result["entries"], result["epoch"]
    steps = np.array([entry["step"] for entry in entries])
    loss = np.array([entry["loss"] for entry in entries])
    largest, smallest = (
        np.array([entry[end][0] for entry in entries]) for end in ("largest", "smallest")
    )
    told = told and all(entry["converged"] for entry in entries)
    parts = abs(smallest) / largest
    start, end = abs(smallest[[0, -1]])
    peak = abs(smallest).argmax()
    return [
        Claim(
            "There are negative eigenvalues all through training.",
            NO_NUMBER,
            f"the smallest is {smallest.min():.3g} to {smallest.max():.3g} at {len(steps)} moments",
            verdict(smallest.max() < 0, told=told),
        ),
        Claim(
            "Once training has begun, their magnitude is well below that of the largest.",
            NO_NUMBER,
            f"the magnitude of the smallest eigenvalue is {parts[1:].min():.0%} to"
            f" {parts[1:].max():.0%} of the largest after step {steps[0]}, and {parts[0]:.0%} at"
            f" this step; well below means smaller by a factor of {FACTOR:g}",
            verdict(parts[1:].max() < 1 / FACTOR, told=told),
        ),
        Claim(
            "Negative eigenvalues shrink over training.",
            NO_NUMBER,
            f"the smallest is {-start:.3g} at step {steps[0]} and {-end:.3g} at the end,"
            f" {start / end:.2g} times smaller; a factor of {FACTOR:g} may be chance (minimum:"
            f" {smallest[peak]:.3g} at step {steps[peak]:,})",
            verdict(start > end, told=told and abs(np.log(start / end)) > np.log(FACTOR)),
        ),
        *(
            _settling(name, values, steps, loss, epoch, told)
            for name, values in (("largest", largest), ("smallest", smallest))
        ),
    ]


def settled_from(values: np.ndarray) -> int:
    """Returns the first index from which all values are within `FACTOR` of the last, same sign."""
    ratios = np.asarray(values) / values[-1]
    outside = np.flatnonzero((ratios < 1 / FACTOR) | (ratios > FACTOR))
    return int(outside[-1]) + 1 if len(outside) else 0


def _settling(
    name: str,
    values: np.ndarray,
    steps: np.ndarray,
    loss: np.ndarray,
    epoch: int,
    told: bool,
) -> Claim:
    """The claim that eigenvalues settle before the loss does."""
    first = settled_from(values)
    # A decrease of the loss is significant only if it is larger than the rises in between.
    changes = np.diff(np.log(loss[first:]))
    falls = -changes.sum() > changes.max(initial=0.0)
    # Whether eigenvalues have settled after an epoch can only be judged from later steps.
    told = told and bool(steps[-1] >= 2 * epoch and np.sum(steps > epoch) > 1)
    return Claim(
        f"The {name} eigenvalue settles within about an epoch, while the loss still falls.",
        NO_NUMBER,
        f"it is within a factor of {FACTOR:g} of its final value ({values[-1]:.3g}) from step"
        f" {steps[first]:,} on ({epoch:,} steps per epoch, {steps[-1]:,} in all); from there the"
        f" loss goes from {loss[first]:.3g} to {loss[-1]:.3g}",
        verdict(steps[first] <= epoch and falls, told=told),
    )
