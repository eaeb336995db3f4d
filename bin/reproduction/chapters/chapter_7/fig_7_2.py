"""Figure 7.2: how fast importance sampling lowers the training loss."""

import pathlib
from typing import Any

import numpy as np

from bin.reproduction.chapters.chapter_7 import common
from bin.reproduction.engine.contract import NO_NUMBER, Claim, verdict, verdict_of_difference

TITLE = "Training loss and error by importance sampling and by uniform SGD"
CAPTION = (
    "Medians and quartiles over runs, with the thesis' learning rates, smoothing constants and"
    " momentum. Uniform SGD also draws with replacement, so the methods differ only in the"
    " distribution of draws. Instead of the thesis' workers, the training process measures all"
    " gradient norms every 50 steps (section 7.4.1). So the methods can be compared over steps, but"
    " importance sampling can't be faster over time, because training stops while norms are"
    " measured."
)
CONFIGS = common.configs(quick=72, full=900)


def run(config: common.Config) -> dict[str, Any]:
    """Returns the runs of both methods at every setting."""
    return common.result_of(config)


def draw(result: dict[str, Any], path: pathlib.Path) -> None:
    """Draws loss and error over steps, and the loss over time."""
    columns = [("loss", "steps"), ("train_error", "steps"), ("loss", "seconds")]
    common.draw_curves(result, columns, path)


def claims(result: dict[str, Any]) -> list[Claim]:
    """Claims: the loss falls faster over steps and over time."""
    settings = result["settings"]
    return [*(_over_steps(setting) for setting in settings), _over_time(settings)]


def _over_steps(setting: dict[str, Any]) -> Claim:
    uniform, importance = (setting["curves"][method]["loss"] for method in common.METHODS)
    # The logarithm of the ratio of losses weights all of the training equally.
    gain, error = common.mean_and_error(np.log(uniform / importance)[:, 1:].mean(axis=1))
    arrived, worst = _arrival(setting, setting["steps"]), setting["worst"]
    when = "never reached" if np.isinf(arrived) else f"reached after {arrived:.0%} of the steps"
    return Claim(
        "Importance sampling lowers the training loss faster than uniform SGD"
        f" ({setting['label']}).",
        NO_NUMBER,
        f"uniform SGD's loss is {np.exp(gain):.3f} ± {np.exp(gain) * error:.3f} times as large at"
        f" equal steps, on average over training; its final loss is {when};"
        f" importance sampling's median loss is at most {worst['ratio']:.3f} times uniform SGD's"
        f" (step {worst['step']})",
        verdict_of_difference(gain, error),
    )


def _over_time(settings: list[dict[str, Any]]) -> Claim:
    arrivals = []
    for setting in settings:
        seconds = setting["curves"]["importance"]["seconds"]
        whole = setting["curves"]["uniform"]["seconds"][:, -1]
        arrivals.append(_arrival(setting, seconds, whole))
    shown = ", ".join("∞" if np.isinf(part) else f"{part:.2f}" for part in arrivals)
    return Claim(
        "With workers that measure norms, it is also faster over time.",
        NO_NUMBER,
        f"without workers: {shown} times uniform SGD's time to reach uniform SGD's final loss",
        verdict(max(arrivals) < 1, told=all(setting["workers"] for setting in settings)),
    )


def _arrival(setting: dict[str, Any], places: np.ndarray, whole: np.ndarray | None = None) -> float:
    """Returns when importance sampling reaches uniform SGD's final loss, a median of fractions.

    Args:
        setting: one setting of the result.
        places: steps or seconds of importance sampling's evaluations, (n,) or (runs, n).
        whole: steps or seconds of uniform SGD (runs,); None for the last of `places`.
    """
    steps = list(setting["steps"])
    places = np.broadcast_to(places, setting["curves"]["importance"]["loss"].shape)
    whole = places[:, -1] if whole is None else whole
    there = [
        np.inf if step is None else row[steps.index(step)] / end
        for row, step, end in zip(places, setting["arrived"], whole, strict=True)
    ]
    return float(np.median(there))
