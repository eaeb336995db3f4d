"""Messages of the importance-sampling programs."""

import sys


def log(message: str) -> None:
    """Shows a line, above a progress bar if there is one."""
    import tqdm

    tqdm.tqdm.write(message, file=sys.stderr)
