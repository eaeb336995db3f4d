"""The one place of the library that reads a clock: leases, ages and time-outs are measured by it.

Only differences of its values mean anything, and only between values of one machine. What several
machines compare is the store's clock (`Store.time`).
"""

import time


def now():
    """Seconds since some moment in the past, the same one for all processes of a machine."""
    return time.monotonic()
