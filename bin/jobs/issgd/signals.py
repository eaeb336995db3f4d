"""Handling of Ctrl-C and SIGTERM: the first signal stops a training at the next synchronization."""

import contextlib
import signal
from collections.abc import Callable, Iterator

from thesis_tf.reporting import progress


@contextlib.contextmanager
def stopping() -> Iterator[Callable[[], bool]]:
    """Yields a function that returns whether a signal was received; a second one ends at once.

    Raises:
        KeyboardInterrupt: at the end, if a signal was received.
    """
    came: list[int] = []

    def ask(number: int, frame: object) -> None:
        came.append(number)
        restore.close()
        progress.say("Stopping and saving at the next synchronization; repeat to stop at once.")

    with contextlib.ExitStack() as restore:
        for number in (signal.SIGINT, signal.SIGTERM):
            restore.callback(signal.signal, number, signal.signal(number, ask))
        yield lambda: bool(came)
    if came:
        raise KeyboardInterrupt
