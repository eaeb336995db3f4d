"""What the diagnostics of chains mean for their samples."""

from collections.abc import Mapping
from typing import Any

_R_HAT = 1.1  # Gelman et al., Bayesian Data Analysis: chains are run until it is below
_ERRORS = 2.0  # standard errors


def doubts(found: Mapping[str, Any]) -> list[str]:
    """Returns sentences that say why not to trust samples, by the numbers of their diagnostics."""
    said = []
    r_hat = found.get("r_hat")
    if r_hat is not None and r_hat > _R_HAT:
        said.append(f"The chains have not mixed: R-hat {r_hat:.4g}, where 1 is right.")
    accuracy, error = found.get("two_sample_accuracy"), found.get("two_sample_standard_error")
    if accuracy is not None and error is not None and accuracy > 0.5 + _ERRORS * error:
        said.append(
            f"The samples differ from the data: nearest neighbors tell them apart with accuracy"
            f" {accuracy:.3f} +- {error:.3f}, where 0.5 is chance."
        )
    return said
