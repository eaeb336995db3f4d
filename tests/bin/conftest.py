"""Starts programs as separate processes, with data and a model for tests of a few seconds."""

import json
import subprocess
import sys

import pytest
from programs import Program

SMALL = ("--examples=512,128,128", "--model=mlp")


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
        program.kill()


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
