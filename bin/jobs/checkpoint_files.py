"""Files of weights from a training, whose names have numbers: steps or epochs."""

import pathlib
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

from thesis_tf import hessian

if TYPE_CHECKING:
    import keras


def by_step(paths: Iterable[str], model: "keras.Model") -> dict[int, str]:
    """Returns {step: path} of files with weights that fit the model; their names have the step."""
    found: dict[int, str] = {}
    for path in paths:
        numbers = re.findall(r"\d+", pathlib.Path(path).name.split(".")[0])
        if not pathlib.Path(path).is_file():
            raise ValueError(f"--checkpoints must be existing files. Received: {path}.")
        if not numbers:
            raise ValueError(
                f"--checkpoints must have their steps in their names. Received: {path}."
            )
        if int(numbers[-1]) in found:
            raise ValueError(f"--checkpoints names step {int(numbers[-1])} twice.")
        hessian.load_weights(model, path)
        found[int(numbers[-1])] = path
    return found


def unit(paths: Iterable[str]) -> str:
    """Returns what the numbers of `by_step` are, for an axis: epochs as well as steps."""
    if all("step" in pathlib.Path(path).name for path in paths):
        return "training step"
    return "number in the checkpoint's name"
