"""Programs in processes of their own, forked from one that has loaded TensorFlow already.

Loading it takes seconds, and there are a hundred such processes. Those that a program starts, and
those of docs_test.py, commands_test.py and wheel_test.py, start as for a user.
"""

import multiprocessing
import os
import runpy
import signal
import sys
import time
import uuid

DONE, DOUBTFUL = 0, 3  # as in bin.common.ends
PATIENCE = 900  # seconds; only a program that hangs takes so long, even on a busy machine

_forks = multiprocessing.get_context("forkserver")
_forks.set_forkserver_preload(["tensorflow", "keras", "tensorflow_probability", "matplotlib"])


class Program:
    """A running `bin.MODULE`, in a session of its own; its output is written to a file.

    Args:
        folder: where the file lies.
        module: the program's name.
        arguments: its command line.
        environment: variables of its environment besides those of this process.
    """

    def __init__(self, folder, module, arguments, environment):
        self._said = folder / f"{uuid.uuid4().hex}.txt"
        self._said.touch()
        environment = {**os.environ, **environment}
        self._process = _forks.Process(
            target=_run, args=(str(self._said), module, arguments, environment, os.getcwd())
        )
        self._process.start()

    @property
    def pid(self):
        return self._process.pid

    @property
    def said(self):
        return self._said.read_text()

    @property
    def status(self):
        """The exit status, None while it runs; -N if signal N has ended it."""
        return self._process.exitcode

    def send(self, which):
        if self.status is None:
            os.kill(self.pid, which)

    def kill(self):
        """Ends it with SIGKILL, and waits for its end."""
        self.send(signal.SIGKILL)
        self.wait()

    def wait(self):
        """Waits until it ends; returns its exit status."""
        self._process.join(PATIENCE)
        assert self.status is not None, self.said
        return self.status

    def until(self, condition):
        """Waits until a condition holds; fails if the program ends before."""
        end = time.monotonic() + PATIENCE
        while not condition():
            assert self.status is None, self.said
            assert time.monotonic() < end, self.said
            time.sleep(0.02)

    def finish(self):
        """Waits until the program has done its work; returns its output.

        Short chains and fits of a test may be such that a diagnostic says not to trust them.
        """
        assert self.wait() in (DONE, DOUBTFUL), self.said
        assert "Traceback" not in self.said, self.said
        return self.said

    def refuse(self):
        """Waits until the program ends with an error of one line; returns this line."""
        assert self.wait() != 0, self.said
        assert "Traceback" not in self.said, self.said
        lines = [line for line in self.said.splitlines() if line.startswith("error: ")]
        assert len(lines) == 1, self.said
        return lines[0]


def _run(said, module, arguments, environment, folder):
    # A separate process group, so that a signal also reaches the program's children.
    os.setsid()
    output = os.open(said, os.O_WRONLY | os.O_APPEND)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    sys.argv = [module, *arguments]
    runpy.run_module(f"bin.{module}", run_name="__main__", alter_sys=True)
