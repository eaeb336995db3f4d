"""Shared by figures 7.2 to 7.4 and Table 7.1: settings, and comparisons of runs."""

import dataclasses
import pathlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from bin.reproduction.chapters.chapter_7.studies import importance_sampling
from bin.reproduction.engine.contract import Settings

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

METHODS = {"uniform": "uniform draws", "importance": "importance sampling"}
LABELS = {
    "loss": "training loss",
    "train_error": "training error",
    "test_error": "test error",
    "steps": "steps",
    "seconds": "seconds",
}
# The thesis' learning rates, each with the constant that it adds to all gradient norms.
_RATES = {0.01: "10", 0.001: "1"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(Settings):
    """The compared settings.

    Attributes:
        settings: one `importance_sampling.Config` per setting.
    """

    settings: tuple[importance_sampling.Config, ...]


def configs(quick: float, full: float) -> dict[str, Config]:
    """Returns the configs of a figure, which takes `quick` or `full` seconds."""
    network: dict[str, Any] = {
        "units": (512,) * 4,
        "examples": (10_000, 500, 10_000),
        "steps": 1500,
        "runs": 4,
    }
    needs: dict[str, Any] = {
        "needs": ("cifar10",),
        "takes": ("svhn",),
        "datasets": ("svhn", "cifar10"),
    }
    # The setting in which importance sampling saved the most steps (docs/issgd.md).
    mnist = importance_sampling.Config(
        needs=("mnist",),
        datasets=("mnist",),
        units=(512, 512),
        batch_size=16,
        learning_rate=0.2,
        momentum=0.0,
        smoothing="relative:0.3",
        steps=3000,
        evaluate_every=100,
        runs=4,
    )
    return {
        "quick": Config(settings=_at_both_rates(), expected_seconds=quick),
        "full": Config(
            needs=("cifar10", "mnist"),
            takes=("svhn",),
            settings=(*_at_both_rates(**network, **needs, evaluate_every=100), mnist),
            expected_seconds=full,
        ),
    }


def _at_both_rates(**rest: Any) -> tuple[importance_sampling.Config, ...]:
    return tuple(
        importance_sampling.Config(learning_rate=rate, smoothing=added, **rest)
        for rate, added in _RATES.items()
    )


def result_of(config: Config) -> dict[str, Any]:
    """Returns the runs of every setting, with notes that describe them."""
    found = [importance_sampling.compared(setting) for setting in config.settings]
    notes = []
    if found[0]["dataset"] != "svhn":
        stand_in = importance_sampling.NAMES[found[0]["dataset"]]
        notes.append(f"{stand_in} stand in for SVHN, which the thesis trains on.")
    for setting, runs in zip(config.settings, found, strict=True):
        notes.append(
            f"{runs['label']}: {runs['examples']['train']:,} training and"
            f" {runs['examples']['test']:,} test examples, {len(setting.units)} layers of"
            f" {setting.units[0]} units (in the thesis 4 of 2,048), {setting.runs} runs of"
            f" {setting.steps:,} steps of {setting.batch_size} examples each."
        )
    return {"settings": found, "notes": notes}


def mean_and_error(differences: np.ndarray) -> tuple[float, float]:
    """Returns the mean of one difference per run, and its standard error (infinite for one run).

    Runs of both methods begin with the same network, so they are compared in pairs.
    """
    count = len(differences)
    error = np.std(differences, ddof=1) / count**0.5 if count > 1 else np.inf
    return float(np.mean(differences)), float(error)


def lower(setting: dict[str, Any], name: str, when: str) -> tuple[float, float]:
    """Returns how much lower errors are by importance sampling, and its standard error.

    Args:
        setting: one setting of the result.
        name: "train_error" or "test_error".
        when: "while_training", the mean after step 0, or "at_the_end".
    """
    uniform, importance = (setting["curves"][method][name] for method in METHODS)
    fewer = uniform - importance
    fewer = fewer[:, 1:].mean(axis=1) if when == "while_training" else fewer[:, -1]
    mean, error = mean_and_error(fewer)
    if name == "test_error":
        error = float(np.hypot(error, setting["errors_of_examples"][when]))
    return mean, error


def in_words(lower: float, error: float) -> str:
    """Formats a difference and its standard error."""
    return f"{'lower' if lower >= 0 else 'higher'} by {abs(lower):.4f} ± {error:.4f}"


def draw_curves(
    result: dict[str, Any], columns: Sequence[tuple[str, str]], path: pathlib.Path
) -> None:
    """Draws medians and quartiles over runs, one row of panels for each setting.

    Over time, a step is drawn at the median of the times at which runs evaluated it.

    Args:
        result: the result of `result_of`.
        columns: (name of y, name of x), each a key of `LABELS`.
        path: the file to write.
    """
    from thesis_tf.issgd.plots import COLORS
    from thesis_tf.plotting import style as figures

    figure, rows = new_rows(result["settings"], len(columns), 2.5)
    for setting, panels in zip(result["settings"], rows, strict=True):
        for axes, (name, over) in zip(panels, columns, strict=True):
            figures.style_axes(axes, LABELS[over], LABELS[name])
            for color, (method, label) in zip(COLORS, METHODS.items(), strict=False):
                curves = setting["curves"][method]
                x = np.median(curves["seconds"], axis=0) if over == "seconds" else setting["steps"]
                # One legend is enough.
                shown = label if axes is rows[0][0] else None
                draw_quartiles(axes, x, curves[name], color=color, label=shown)
            make_logarithmic(axes)
    figures.add_legend(figure, loc="outside lower center", ncols=len(METHODS))
    figures.save(figure, path)


def new_rows(
    settings: Sequence[dict[str, Any]], columns: int, height: float
) -> "tuple[Figure, list[list[Axes]]]":
    """Returns a figure, and its axes (settings, columns), with a heading for each setting."""
    from thesis_tf.plotting import style as figures

    figure = figures.new_figure(7.2, height * len(settings) + 0.3)
    parts = figure.subfigures(len(settings), squeeze=False)[:, 0]
    for part, setting in zip(parts, settings, strict=True):
        heading = figures.clean(setting["label"])
        style: dict[str, Any] = {"family": figures.FONT, "color": figures.INK, "fontsize": 10}
        part.suptitle(heading, x=0.02, ha="left", parse_math=False, **style)
    return figure, [list(part.subplots(1, columns, squeeze=False)[0]) for part in parts]


def draw_quartiles(axes: "Axes", x: np.ndarray, values: np.ndarray, **style: Any) -> None:
    """Draws the median of values (runs, n) over x (n,), and a band from quartile to quartile."""
    low, middle, high = np.percentile(values, [25, 50, 75], axis=0)
    axes.fill_between(x, low, high, color=style["color"], alpha=0.2, linewidth=0)
    axes.plot(x, middle, **{"linewidth": 1.5, **style})


def make_logarithmic(axes: "Axes") -> None:
    """Makes the y axis logarithmic, with numbers at 1, 2 and 5."""
    from matplotlib import ticker

    axes.set_yscale("log")
    axes.yaxis.set_major_locator(ticker.LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.yaxis.set_major_formatter(ticker.StrMethodFormatter("{x:g}"))
    axes.yaxis.set_minor_formatter(ticker.NullFormatter())
