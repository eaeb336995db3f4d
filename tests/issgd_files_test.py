"""The files in docs/issgd that start workers on other machines have valid programs and flags."""

import pathlib
import re
import subprocess
import sys

import pytest

OPTIMIZED_GRAPHS = True

ROOT = pathlib.Path(__file__).parents[1]
FILES = sorted((ROOT / "docs" / "issgd").iterdir())


@pytest.fixture(scope="module")
def flags_of():
    known = {}

    def find(program):
        if program not in known:
            shown = subprocess.run(
                [sys.executable, "-m", program, "--help"], capture_output=True, text=True, cwd=ROOT
            ).stdout
            known[program] = set(re.findall(r"^ +--(?:\[no\])?(\w+)", shown, re.MULTILINE))
        return known[program]

    return find


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_programs_and_flags_are_there(path, flags_of):
    text = path.read_text(encoding="utf-8")
    programs = set(re.findall(r"bin\.issgd_\w+", text))
    assert programs
    # A file passes the flags of its run to all programs that it starts.
    shared = re.findall(r"--(run_id|dataset|data_dir|model)=", text)
    assert set(shared) == {"run_id", "dataset", "data_dir", "model"}
    for program in programs:
        assert set(shared) <= flags_of(program)
    assert "output_dir" in flags_of("bin.issgd_master")


def test_shell_and_python_are_well_formed():
    for path in FILES:
        if path.suffix == ".sbatch":
            assert subprocess.run(["bash", "-n", path]).returncode == 0
        if path.suffix == ".py":
            compile(path.read_text(encoding="utf-8"), path, "exec")
