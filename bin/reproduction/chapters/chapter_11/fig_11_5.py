"""Figure 11.5: the extreme eigenvalues while a LeNet trains on MNIST."""

import pathlib
from typing import Any

from bin.reproduction.chapters.chapter_11 import common
from bin.reproduction.chapters.chapter_11.studies import hessian_spectra
from bin.reproduction.engine.contract import Claim

TITLE = "The largest and the smallest eigenvalues over training, on MNIST"
CAPTION = (
    "Eigenvalues at both ends of the Hessian's spectrum, and the loss, over training. The axis of"
    " eigenvalues is linear around zero and logarithmic elsewhere."
)
CONFIGS = common.configs(
    {
        "quick": hessian_spectra.Config(
            moments=(0, 10, 50, 127, 253, 380, 506),
            examples=150,
            largest=10,
            smallest=3,
            tol=5e-2,
        ),
        "full": hessian_spectra.Config(
            dataset="mnist",
            needs=("mnist",),
            moments=(0, 10, 50, 200, 500, 1000, 1687, 2530, 3374),
            examples=1000,
            largest=20,
            smallest=3,
        ),
    },
    quick=55,
    full=560,
)


def run(config: common.Config) -> dict[str, Any]:
    """Returns the eigenvalues over training."""
    return common.history_of(config)


def draw(result: dict[str, Any], path: pathlib.Path) -> None:
    """Draws eigenvalues and loss over steps."""
    common.draw_history(result, path)


def claims(result: dict[str, Any]) -> list[Claim]:
    """Claims: there are negative eigenvalues, of smaller magnitude; eigenvalues settle early."""
    return common.judge_history(result)
