"""Ctrl-C and SIGTERM: the first stops a training at its next synchronization."""

import contextlib
import signal
from collections.abc import Callable, Iterator

from thesis_tf.reporting import progress


@contextlib.contextmanager
def stopping() -> Iterator[Callable[[], bool]]:
    """Yields a function that tells whether a signal came; a second signal ends at once.

    Raises:
        KeyboardInterrupt: at the end, if a signal came.
    """
    came: list[int] = []

    def ask(number: int, frame: object) -> None:
        came.append(number)
        restore.close()
        progress.say("Stops at the next synchronization, and saves; once more stops at once.")

    with contextlib.ExitStack() as restore:
        for number in (signal.SIGINT, signal.SIGTERM):
            restore.callback(signal.signal, number, signal.signal(number, ask))
        yield lambda: bool(came)
    if came:
        raise KeyboardInterrupt
