"""Starts programs as separate processes, with data and a model for tests of a few seconds."""

import json
import os
import subprocess
import sys
import time
import uuid

import pytest

SMALL = ("--examples=512,128,128", "--model=mlp")
PATIENCE = 900  # seconds; only a program that hangs takes so long, even on a busy machine


class Program:
    """A running program; its stdout and stderr are written to a file."""

    def __init__(self, folder, module, arguments, environment):
        self._said = folder / f"{uuid.uuid4().hex}.txt"
        with self._said.open("w") as file:
            self.process = subprocess.Popen(
                [sys.executable, "-m", f"bin.{module}", *arguments],
                stdout=file,
                stderr=subprocess.STDOUT,
                # A separate process group, so that a signal also reaches the program's children.
                start_new_session=True,
                env={**os.environ, **environment},
            )

    @property
    def said(self):
        return self._said.read_text()

    @property
    def running(self):
        return self.process.poll() is None

    def until(self, condition):
        """Waits until a condition holds; fails if the program ends before."""
        end = time.monotonic() + PATIENCE
        while not condition():
            assert self.running, self.said
            assert time.monotonic() < end, self.said
            time.sleep(0.02)

    def finish(self):
        """Waits until the program ends successfully; returns its output."""
        self.process.wait(PATIENCE)
        assert self.process.returncode == 0, self.said
        return self.said

    def refuse(self):
        """Waits until the program ends with an error of one line; returns this line."""
        self.process.wait(PATIENCE)
        assert self.process.returncode not in (0, None), self.said
        assert "Traceback" not in self.said
        lines = [line for line in self.said.splitlines() if line.startswith("error: ")]
        assert len(lines) == 1, self.said
        return lines[0]


@pytest.fixture(scope="module")
def start_any_program(tmp_path_factory):
    """Returns a function that starts `bin.MODULE` with arguments and environment variables.

    Programs that still run after the last test of a module are killed.
    """
    programs, folder = [], tmp_path_factory.mktemp("said")

    def start(module, *arguments, **environment):
        programs.append(Program(folder, module, arguments, environment))
        return programs[-1]

    yield start
    for program in programs:
        program.process.kill()
        program.process.wait()


@pytest.fixture(scope="module")
def start_program(start_any_program):
    """Returns such a function for the programs of chapter 7, with few examples."""

    def start(module, *arguments, **environment):
        blocks = () if module == "issgd_compare" else ("--block_size=64",)
        return start_any_program(module, *SMALL, *blocks, *arguments, **environment)

    return start


@pytest.fixture(scope="session")
def records():
    """Returns a function from an output folder to the current records of its history."""

    def read(folder):
        path = folder / "history.jsonl"
        lines = path.read_text().split("\n")[:-1] if path.exists() else []
        return [json.loads(line) for line in lines]

    return read


@pytest.fixture
def help_of():
    """Returns a function from a program's name to its --help, which must not load TensorFlow."""

    def read(module):
        code = (
            f"import runpy, sys\nsys.argv = ['{module}', '--help']\n"
            "try:\n    runpy.run_module('bin.' + sys.argv[0], run_name='__main__')\n"
            "finally:\n"
            "    heavy = {'tensorflow', 'keras', 'matplotlib', 'redis'} & set(sys.modules)\n"
            "    assert not heavy, heavy\n"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert "Traceback" not in done.stderr, done.stderr
        return done.stdout

    return read
