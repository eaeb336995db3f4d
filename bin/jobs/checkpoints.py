"""Files with the weights of one network at several steps of training."""

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
