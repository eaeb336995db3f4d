"""Workers that a master starts on the same machine."""

import os
import pathlib
import subprocess
import sys
from typing import IO, Self

from absl import flags as absl_flags

from bin.common import flags, roots
from bin.jobs.issgd.config import RunSettings
from thesis_tf.reporting import progress

FLAGS = absl_flags.FLAGS
PATIENCE = 10.0  # seconds within which workers must end


class LocalWorkers:
    """Runs workers on this machine, with this program's flags, during a `with` statement.

    Each worker writes to `folder/worker_N.log`. It ends when this process ends for any reason.

    Args:
        count: the number of workers.
        folder: the folder of the logs.
        url: the URL of the store where they meet the master.
    """

    def __init__(self, count: int, folder: pathlib.Path, url: str) -> None:
        self._url = url
        self._logs = [folder / f"worker_{n + 1}.log" for n in range(count)]
        self._workers: list[subprocess.Popen[bytes]] = []
        self._told: set[int] = set()

    def __enter__(self) -> Self:
        """Starts the workers."""
        for number, path in enumerate(self._logs, 1):
            with path.open("ab") as file:
                self._workers.append(self._start(number, file))
        return self

    def __exit__(self, *_: object) -> None:
        """Ends the workers."""
        for worker in self._workers:
            worker.terminate()
        for worker in self._workers:
            try:
                worker.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                worker.kill()
                worker.wait()

    def any_left(self) -> bool:
        """Returns whether a worker is still running; logs each worker that ended, once."""
        for number, worker in enumerate(self._workers):
            if worker.poll() is not None and number not in self._told:
                self._told.add(number)
                lines = self._logs[number].read_text(errors="replace").strip().splitlines()
                last = lines[-1] if lines else "its log is empty."
                progress.say(
                    f"Local worker {number + 1} ended (status {worker.returncode}; its log is"
                    f" {self._logs[number]}): {last}"
                )
        return len(self._told) < len(self._workers)

    def _start(self, number: int, file: IO[bytes]) -> subprocess.Popen[bytes]:
        names = (*flags.names(RunSettings), "precision")
        given = [FLAGS[name].serialize() for name in names if flags.given(name)]
        own = [f"--worker_name=local-{number}", f"--parent={os.getpid()}"]
        paths = [str(roots.programs()), *filter(None, [os.environ.get("PYTHONPATH")])]
        return subprocess.Popen(
            # -P: a folder called bin in the working directory is not searched.
            [sys.executable, "-P", "-m", "bin.issgd_worker", *given, *own],
            # Not on the command line, where other users could read a password.
            env={**os.environ, "ISSGD_STORE": self._url, "PYTHONPATH": os.pathsep.join(paths)},
            stdout=file,
            stderr=file,
        )
