"""Table 7.1: errors at the end of training."""

import pathlib
from typing import Any

import numpy as np

from bin.reproduction.chapters.chapter_7 import common
from bin.reproduction.engine.contract import NOT_AT_HAND, Claim, verdict_of_difference

TITLE = "Training and test errors at the end of training"
CAPTION = (
    "Errors of the runs of figure 7.2 after their last step: means over runs and their standard"
    " errors; faint markers are single runs. Runs of both methods begin with the same network, so"
    " differences are computed run by run. The standard error of a difference of test errors"
    " includes the variation between runs and between test examples."
)
AFTER = ("7.2",)
CONFIGS = common.configs(quick=5, full=10)
_ERRORS = ("train_error", "test_error")


def run(config: common.Config) -> dict[str, Any]:
    """Returns the runs of both methods at every setting, and the table."""
    result = common.result_of(config)
    rows = []
    for setting in result["settings"]:
        for method, label in common.METHODS.items():
            curves = setting["curves"][method]
            means = {name: common.mean_and_error(curves[name][:, -1]) for name in _ERRORS}
            rows.append({"setting": setting["label"], "method": label, **means})
    return result | {"rows": rows}


def draw(result: dict[str, Any], path: pathlib.Path) -> None:
    """Draws means with error bars, and single runs, one panel for each setting and error."""
    from matplotlib import ticker

    from thesis_tf.issgd.plots import COLORS
    from thesis_tf.plotting import style

    settings, rows = result["settings"], iter(result["rows"])
    figure, panels = common.new_rows(settings, len(_ERRORS), 1.8)
    for setting, row in zip(settings, panels, strict=True):
        for axes, name in zip(row, _ERRORS, strict=True):
            style.style_axes(axes, common.LABELS[name], "")
            axes.set_ylim(1.5, -0.7)
            axes.set_yticks([0, 1], common.METHODS.values() if axes is row[0] else ["", ""])
            axes.margins(x=0.2)
            axes.xaxis.set_major_locator(ticker.MaxNLocator(5))
        for place, (method, color) in enumerate(zip(common.METHODS, COLORS, strict=False)):
            means = next(rows)
            for axes, name in zip(row, _ERRORS, strict=True):
                runs, (mean, error) = setting["curves"][method][name][:, -1], means[name]
                axes.plot(runs, np.full(len(runs), place), "|", color=color, alpha=0.4)
                axes.errorbar(mean, place, xerr=error, fmt="o", color=color, capsize=3)
                style.draw_text(axes, mean, place - 0.3, f"{mean:.4f} ± {error:.4f}", 8)
    style.save(figure, path)


def claims(result: dict[str, Any]) -> list[Claim]:
    """Claims: the final errors of importance sampling are not above those of uniform SGD."""
    return [_claim(setting, name) for setting in result["settings"] for name in reversed(_ERRORS)]


def _claim(setting: dict[str, Any], name: str) -> Claim:
    lower, error = common.lower(setting, name, "at_the_end")
    ends = [setting["curves"][method][name][:, -1].mean() for method in common.METHODS]
    kind = common.LABELS[name]
    return Claim(
        f"Importance sampling ends at a {kind} at or below uniform SGD's ({setting['label']}).",
        NOT_AT_HAND,
        f"{ends[1]:.4f}, uniform SGD at {ends[0]:.4f}: {common.in_words(lower, error)}",
        verdict_of_difference(lower, error),
    )
