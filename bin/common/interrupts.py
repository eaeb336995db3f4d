"""Ctrl-C ends a program wherever it comes.

Python raises KeyboardInterrupt inside whatever runs. In `__del__` and callbacks of the garbage
collector it is only reported, and other code may catch it: it is lost, and the program goes on.
"""

import contextlib
import signal
import sys
import threading
from collections.abc import Iterator
from types import FrameType

_AGAIN = 0.5  # seconds until an interrupt that was lost is raised again


@contextlib.contextmanager
def never_lost() -> Iterator[None]:
    """Makes SIGINT raise KeyboardInterrupt in a block, again and again until it leaves the block.

    While code handles the exception, as in `finally`, it isn't raised again. After an interrupt the
    block ends with KeyboardInterrupt, even if its work or another exception was faster. Nothing is
    changed where SIGINT is ignored or not handled by Python's own handler, or in another thread.

    Raises:
        KeyboardInterrupt: SIGINT came.
    """
    is_main = threading.current_thread() is threading.main_thread()
    if not is_main or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return
    came = False

    def interrupt(number: int, frame: FrameType | None) -> None:
        nonlocal came
        came = True
        signal.setitimer(signal.ITIMER_REAL, _AGAIN)
        if number == signal.SIGINT or not _is_handled():
            raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        if came:
            raise KeyboardInterrupt


def _is_handled() -> bool:
    """Returns whether an `except` or `finally` that now runs has caught a KeyboardInterrupt."""
    error = sys.exception()
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__context__
    return error is not None
