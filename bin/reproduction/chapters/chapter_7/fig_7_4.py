"""Figure 7.4: the variance of single-draw gradient estimates under several proposals."""

import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from bin.reproduction.chapters.chapter_7 import common
from bin.reproduction.engine.contract import NO_NUMBER, Claim, verdict

TITLE = "Square roots of the gradient variance under several proposals"
CAPTION = (
    "Medians and quartiles over the importance sampling runs of figure 7.2. Draws are in"
    " proportion to current gradient norms (ideal), to norms that are 50 steps old (stale), to"
    " stale norms plus a constant (stale+1, stale+10), to the proposal of the runs (actual), or"
    " uniform. The variance is the trace of the covariance of the gradient's estimate. It is"
    " computed exactly, over all training examples, with the true gradient's squared norm"
    " subtracted. The thesis' code took one square root too many of its stale norms, so its curve"
    " for them is not comparable."
)
AFTER = ("7.2",)
CONFIGS = common.configs(quick=5, full=10)
# Styles of two curves that may coincide with others.
_STYLES: dict[str, dict[str, Any]] = {
    "ideal": {"linestyle": "--"},
    "actual": {"linestyle": ":", "zorder": 3},
}
_ROUNDING = 1e-9  # relative; with equal norms, all draws are uniform up to rounding


def run(config: common.Config) -> dict[str, Any]:
    """Returns the runs of both methods at every setting, with gradient variances."""
    return common.result_of(config)


def draw(result: dict[str, Any], path: pathlib.Path) -> None:
    """Draws the roots of all gradient variances, one panel for each setting."""
    from thesis_tf.issgd.plots import COLORS
    from thesis_tf.plotting import style as figures

    figure, panels = common.new_rows(result["settings"], 1, 2.8)
    for (axes,), setting in zip(panels, result["settings"], strict=True):
        figures.style_axes(axes, "steps", "√ Tr Σ(q)")
        for color, (name, roots) in zip(COLORS, _roots(setting).items(), strict=True):
            style = {"color": color, "label": name, **_STYLES.get(name, {})}
            common.draw_quartiles(axes, setting["gradient_variances"]["steps"], roots, **style)
        common.make_logarithmic(axes)
        # Beside the curves, which can be anywhere.
        figures.add_legend(axes, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    figures.save(figure, path)


def claims(result: dict[str, Any]) -> list[Claim]:
    """Claims: the order of the curves, at every step of every setting."""
    settings = result["settings"]
    counts = {n: sum(s["order"][n] for s in settings) for n in settings[0]["order"]}
    curves = [
        {name: np.median(roots, axis=0) for name, roots in _roots(setting).items()}
        for setting in settings
    ]
    ratios = np.concatenate([c["uniform"] / c["ideal"] for c in curves])
    found = [
        Claim(
            "Ideal draws vary less than uniform draws.",
            NO_NUMBER,
            f"uniform over ideal: {ratios.min():.2f} to {ratios.max():.2f}",
            verdict(ratios.min() >= 1 - _ROUNDING),
        )
    ]
    for name, sentence in {
        "stale": "Draws by stale norms vary more than ideal draws and less than uniform draws.",
        "actual": "So do draws by stale norms with the constant that the runs add.",
    }.items():
        good = [_ascending(c["ideal"], c[name], c["uniform"]) for c in curves]
        shown = f"{counts[f'{name}_between']} of {counts['evaluations']} evaluations of single runs"
        found.append(_claim(sentence, settings, good, f"so in {shown}"))
    away = [
        [abs(c["uniform"] - c[name]) for name in ("stale+10", "stale+1", "stale")] for c in curves
    ]
    shown = ", ".join(
        f"{np.median(np.concatenate(far)):.3g} ({name})"
        for name, far in zip(("+10", "+1", "as they are"), zip(*away, strict=True), strict=True)
    )
    good = [_ascending(*far) for far in away]
    sentence = (
        "Smoothing moves the curve of stale norms toward that of uniform draws, +10 more than +1."
    )
    return [*found, _claim(sentence, settings, good, f"median distance from it: {shown}")]


def _roots(setting: dict[str, Any]) -> dict[str, np.ndarray]:
    """Returns {draws: roots (runs, k)}; rounding can leave a variance just below 0."""
    variances = setting["gradient_variances"].items()
    return {name: np.sqrt(np.maximum(v, 0)) for name, v in variances if name != "steps"}


def _ascending(*curves: np.ndarray) -> np.ndarray:
    return np.all(np.diff(curves, axis=0) >= -_ROUNDING * np.abs(curves[-1]), axis=0)


def _claim(
    sentence: str, settings: list[dict[str, Any]], good: Sequence[np.ndarray], more: str
) -> Claim:
    """Returns a claim that holds if `good`, (k,) per setting, is true at every step."""
    count, there = sum(map(len, good)), int(sum(map(np.sum, good)))
    measured = f"the curves at {there} of {count} steps"
    for setting, right in zip(settings, good, strict=True):
        wrong = setting["gradient_variances"]["steps"][~right]
        if len(wrong):
            measured += f", not at {', '.join(map(str, wrong))} ({setting['label']})"
    return Claim(sentence, NO_NUMBER, f"{measured}; {more}", verdict(there == count))
