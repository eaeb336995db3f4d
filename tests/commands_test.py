"""The commands in README, docs and `--help` have valid flags."""

import json
import pathlib
import re
import shlex
import subprocess
import sys

import pytest

OPTIMIZED_GRAPHS = True

ROOT = pathlib.Path(__file__).parents[1]
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *sorted((ROOT / "docs").rglob("*.md")),
    *sorted(ROOT.glob("bin/*.py")),
]
# Replaces `app.run`, so that the program stops before its work begins.
CHECK = """
import json, runpy, sys
from absl import app, flags
from absl.testing import flagsaver
from bin.common import ends

program, commands = sys.argv[1], json.loads(sys.argv[2])
app.run = lambda main, **_: None
flags.FLAGS.mark_as_parsed()
names = runpy.run_module(program, run_name="__main__", alter_sys=True)
for given in commands:
    with flagsaver.flagsaver():
        try:
            assert len(flags.FLAGS([names["__file__"], *given])) == 1, "a flag without --"
            ends.check_flags()
            for read in ("jobs_from_flags", "config_from_flags"):
                names.get(read, lambda: None)()
        except Exception as error:
            print(program, *given, "->", error)
"""


def commands():
    """Returns {program: [flags of each command]} of all documented commands."""
    found = {}
    for page in PAGES:
        text = page.read_text(encoding="utf-8").replace("\\\n", " ")
        for program, rest in re.findall(r"python -m (bin\.\w+)(?![\w.])([^\n`]*)", text):
            words = shlex.split(rest, comments=True)
            ends = [n for n, word in enumerate(words) if word in ("&", "|", ">", "&&", "...")]
            # In prose, other words follow a program's name.
            if rest.startswith(" -") or not rest.strip():
                found.setdefault(program, []).append(words[: min(ends, default=None)])
    return found


def refused(program, given):
    """Returns a line for each command that the program would refuse."""
    command = [sys.executable, "-c", CHECK, program, json.dumps(given)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


@pytest.mark.slow
@pytest.mark.parametrize(
    "program", ["dae", "gsn", "hessian", "issgd_master", "issgd_worker", "probe", "reproduce"]
)
def test_commands_that_are_shown_have_flags_that_fit(program):
    shown = commands()[f"bin.{program}"]
    assert len(shown) > 2
    assert refused(f"bin.{program}", shown) == []


@pytest.mark.slow
def test_commands_of_the_smaller_programs():
    shown = commands()
    for program in ("dae_theory", "gsn_theory", "issgd_compare", "issgd_peer", "train"):
        assert refused(f"bin.{program}", shown[f"bin.{program}"]) == []


def test_flags_of_other_programs_are_refused():
    wrong = [["--chains=3", "--model=lenet"], ["--learning_rate=nan"], ["--nosuch=1"], ["epochs=3"]]
    unknown, nan, missing, stray = refused("bin.train", wrong)
    assert "Unknown command line flag 'chains'" in unknown
    assert "--learning_rate must be a finite number" in nan
    assert "nosuch" in missing
    assert "without --" in stray
