"""The result of in-painting: examples of which a part was known, and their completions."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from thesis_tf._core import checks
from thesis_tf._core.types import Array
from thesis_tf.reporting.results import SavedResult
from thesis_tf.reporting.tables import Cell


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Inpainting(SavedResult):
    """Completions of partly known examples, by chains that are clamped to the known values.

    Attributes:
        truth: (n, ...), the examples.
        mask: (...) or (n, ...) of bool, true where a value is known.
        completions: (runs, n, ...), the values after independent runs of the chains.
    """

    truth: Array
    mask: Array
    completions: Array

    def __post_init__(self) -> None:
        """Checks the shapes."""
        shape = self.truth.shape
        if self.completions.ndim != len(shape) + 1 or self.completions.shape[1:] != shape:
            received = f"shape {self.completions.shape}"
            raise checks.invalid("`completions`", f"of shape (runs, {str(shape)[1:]}", received)
        if self.mask.dtype != bool or self.mask.shape not in (shape, shape[1:]):
            received = f"{self.mask.dtype} of shape {self.mask.shape}"
            raise checks.invalid("`mask`", f"booleans of shape {shape[1:]} or {shape}", received)

    @property
    def known_is_bit_identical(self) -> bool:
        """Whether all completions have the known values."""
        known = np.broadcast_to(self.mask, self.truth.shape)
        return bool((self.completions[:, known] == self.truth[known]).all())

    @property
    def standard_deviation_between_runs(self) -> float:
        """The standard deviation of each unknown value over the runs, on average; 0 if none is."""
        unknown = ~np.broadcast_to(self.mask, self.truth.shape)
        return float(self.completions.std(axis=0)[unknown].mean()) if unknown.any() else 0.0

    def _table(self) -> tuple[Sequence[str], Sequence[Sequence[Cell]]]:
        return ("property", "value"), [
            (name.replace("_", " "), value) for name, value in self.summary().items()
        ]

    def summary(self) -> dict[str, Any]:
        """Returns the numbers of examples and runs, and what differs, as a plain dict."""
        return {
            "examples": len(self.truth),
            "runs": len(self.completions),
            "known_is_bit_identical": self.known_is_bit_identical,
            "standard_deviation_between_runs": self.standard_deviation_between_runs,
        }
