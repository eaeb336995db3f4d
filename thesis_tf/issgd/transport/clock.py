"""The only module of the library that reads a clock, for leases, staleness and time-outs.

Only differences between values of one machine mean anything. Several machines compare times of the
store's clock (`Store.time`).
"""

import time


def now() -> float:
    """Returns seconds since a moment in the past that all processes of a machine share."""
    return time.monotonic()
