"""Separate processes for tests that can't restore the state of a process, and texts of figures."""

import json
import os
import subprocess
import sys
import textwrap
import xml.etree.ElementTree as ElementTree

import pytest


@pytest.fixture
def start_python():
    """Returns a function that starts a script with arguments, and returns the `Popen`."""
    running = []

    def start(script, *arguments):
        process = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(script), *map(str, arguments)],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        running.append(process)
        return process

    yield start
    for process in running:
        process.kill()
        process.wait()
        process.stdout.close()
        process.stderr.close()


@pytest.fixture
def run_python(start_python):
    """Returns a function that runs a script, and returns the last line that it prints."""

    def run(script, *arguments):
        process = start_python(script, *arguments)
        output, errors = process.communicate()
        assert process.returncode == 0, errors
        return json.loads(output.splitlines()[-1])

    return run


@pytest.fixture
def svg_texts():
    """Returns a function from an SVG file to the list of texts in it."""

    def texts(path):
        root = ElementTree.parse(path).getroot()
        return ["".join(e.itertext()) for e in root.iter("{http://www.w3.org/2000/svg}text")]

    return texts
