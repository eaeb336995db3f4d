"""Figure 11.6: the extreme eigenvalues while a LeNet trains on CIFAR-10."""

import pathlib
from typing import Any

from bin.reproduction.chapters.chapter_11 import common
from bin.reproduction.chapters.chapter_11.studies import hessian_spectra
from bin.reproduction.engine.contract import Claim

TITLE = "The largest and the smallest eigenvalues over training, on CIFAR-10"
CAPTION = "Like figure 11.5, on CIFAR-10."
CONFIGS = common.configs(
    {
        "quick": hessian_spectra.Config(
            model="mlp",
            moments=(0, 10, 50, 253, 380, 506),
            examples=500,
            largest=10,
            smallest=3,
            tol=5e-2,
        ),
        "full": hessian_spectra.Config(
            dataset="cifar10",
            needs=("cifar10",),
            moments=(0, 10, 50, 200, 703, 1406, 2109, 2812),
            examples=500,
            largest=20,
            smallest=3,
        ),
    },
    quick=10,
    full=360,
)


def run(config: common.Config) -> dict[str, Any]:
    """Returns the eigenvalues over training."""
    result = common.history_of(config)
    if result["data"] != "cifar10":
        stand_in = "MNIST digits and a multi-layer perceptron stand in for CIFAR-10 and the LeNet."
        result["notes"] = [stand_in, *result["notes"]]
    return result


def draw(result: dict[str, Any], path: pathlib.Path) -> None:
    """Draws eigenvalues and loss over steps."""
    common.draw_history(result, path)


def claims(result: dict[str, Any]) -> list[Claim]:
    """Claims: as for figure 11.5; with stand-in data they can't be judged."""
    return common.judge_history(result, told=result["data"] == "cifar10")
