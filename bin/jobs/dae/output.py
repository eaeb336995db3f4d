"""The output folder of a run, and its printed lines."""

import dataclasses
import pathlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from thesis_tf.persistence import arrays, checkpoint, files

if TYPE_CHECKING:
    import keras


@dataclasses.dataclass(frozen=True)
class RunOutput:
    """The folder and the terminal of a run.

    Attributes:
        folder: the folder of the run.
        chief: whether this process writes files; of several workers, only the chief does.
        verbose: Keras' 0, 1 or 2; 0 prints nothing.
    """

    folder: pathlib.Path
    chief: bool = True
    verbose: int = 0

    def say(self, line: str) -> None:
        """Prints a line."""
        if self.verbose:
            print(line, flush=True)

    def say_numbers(self, numbers: Mapping[str, Any]) -> None:
        """Prints the numbers among the values in one line."""
        values = (
            f"{name} {value:.4g}"
            for name, value in numbers.items()
            if isinstance(value, int | float)
        )
        self.say(", ".join(values))

    def write_json(self, name: str, value: Mapping[str, Any]) -> None:
        """Writes a dict to a file in the folder."""
        if self.chief:
            files.write_json(self.folder / name, value)

    def write_arrays(self, name: str, values: Mapping[str, np.ndarray]) -> None:
        """Writes named arrays to an .npz file in the folder."""
        if self.chief:
            arrays.save(self.folder / name, values)

    def save_variables(self, path: pathlib.Path, model: "keras.Model") -> None:
        """Writes the variables of a model."""
        if self.chief:
            checkpoint.save(path, model.variables)

    def restore_variables(self, path: pathlib.Path, model: "keras.Model") -> bool:
        """Reads the variables of a model, and returns whether the file exists."""
        if not path.exists():
            return False
        checkpoint.restore(path, model.variables)
        return True
