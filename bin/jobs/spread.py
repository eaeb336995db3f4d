"""The spread of samples, compared with that of the data: chains may mix and draw one point."""

import numpy as np
import numpy.typing as npt

_LEAST, _MOST = 0.3, 3.0


def ratio(samples: npt.NDArray[np.floating], data: npt.NDArray[np.floating]) -> float:
    """Returns the standard deviation of samples (n, ...) in units of that of data (m, ...)."""
    spreads = [np.sqrt(np.var(x, axis=0, dtype=np.float64).mean()) for x in (samples, data)]
    return float(spreads[0] / spreads[1]) if spreads[1] else float("inf")


def doubts(ratio: float, what: str = "Samples") -> list[str]:
    """Returns a sentence if samples are nearly equal, or far more spread than the data."""
    if _LEAST <= ratio <= _MOST:
        return []
    return [f"{what} have {ratio:.2g} of the data's standard deviation."]
