import errno
import json
import os
import subprocess
import sys

import pytest

from bin.common import configs, ends, flags, runs
from thesis_tf import errors
from thesis_tf.persistence import files, locks

flags.define(__name__, configs.Data, configs.Hardware)

FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.fixture(autouse=True)
def fresh(monkeypatch):
    """Lets this process have begun no run."""
    monkeypatch.setattr(runs, "_BEGUN", {})


@pytest.fixture
def ended(capsys):
    """Returns a function from an error to (the status, standard error) of a program."""

    def end(error, argv=("probe",)):
        with pytest.raises(SystemExit) as found, ends.clean_errors(list(argv)):
            raise error
        return found.value.code, capsys.readouterr().err

    return end


# (the error, the status before a run begins, the status after that, what is said).
ERRORS = [
    (ValueError("`x` must be y."), 2, 1, "error: `x` must be y."),
    (errors.invalid("`examples`", "y", "z"), 2, 1, "error: --examples must be y. Received: z."),
    (errors.invalid("`name_or_path`", "y", "z"), 2, 1, "error: --dataset must be y. Received: z."),
    (errors.invalid("`tpu`", "y", "z", kind=OSError), 2, 1, "error: --tpu must be y."),
    (errors.invalid("`nosuch` of x", "y", "z"), 2, 1, "error: `nosuch` of x must be y."),
    (TypeError("a"), 2, 1, "error: a"),
    (flags.UsageError("Leave out --x."), 2, 1, "error: Leave out --x."),
    (FileNotFoundError(2, "No such file", "a.npz"), 2, 1, "a.npz"),
    (PermissionError(13, "Permission denied", "a.npz"), 2, 1, "a.npz"),
    (ConnectionError("no route"), 1, 1, "error: no route"),
    (ImportError("no ray"), 1, 1, "error: no ray"),
    (ends.RunError("The store is gone."), 1, 1, "error: The store is gone."),
    (locks.LockedError("held"), 1, 1, "error: held"),
    (KeyboardInterrupt(), 130, 130, "The same command continues"),
    (FULL, 1, 1, "No space is left on the disk of"),
    (RuntimeError(f"HDF5: {FULL.strerror}"), 1, 1, "the same command then continues the run"),
]


@pytest.mark.parametrize(("error", "before", "after", "said"), ERRORS, ids=lambda v: str(v)[:30])
def test_errors_end_the_program_with_a_line_and_a_status(
    ended, tmp_path, error, before, after, said
):
    status, message = ended(error)
    assert (status, said in message) == (before, True)
    runs._BEGUN[tmp_path] = None
    status, message = ended(error)
    assert (status, said in message) == (after, True)
    assert "Traceback" not in message


def test_errors_of_ours_keep_their_traceback():
    with pytest.raises(ZeroDivisionError), ends.clean_errors(["probe"]):
        raise ZeroDivisionError


def test_a_stray_argument_is_wrong_use(ended):
    status, message = ended(ValueError(), ("train", "epochs=3"))
    assert (status, "Unknown argument 'epochs=3'" in message) == (2, True)


@pytest.mark.parametrize("error", [flags.UsageError("no"), ConnectionError(), KeyboardInterrupt()])
@pytest.mark.parametrize("below", ["out", "a/b/out"])
def test_an_end_before_anything_is_written_leaves_no_folder(ended, tmp_path, error, below):
    kept = tmp_path / "kept"
    kept.mkdir()
    for folder in (tmp_path / below, kept):
        runs.writable("output_dir", folder)
        assert folder.is_dir()
    ended(error)
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]
    (runs.writable("output_dir", tmp_path / below) / "result").write_text("")
    ended(error)
    assert (tmp_path / below / "result").exists()


def test_a_full_disk_is_named(ended, tmp_path):
    runs._BEGUN[tmp_path] = None
    assert f"disk of {tmp_path}. Make room" in ended(FULL)[1]
    with pytest.raises(OSError, match="No space left") as found, files.atomic(tmp_path / "a.npz"):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert f"disk of {tmp_path / 'a.npz'}. Make room" in ended(found.value)[1]


def test_warnings_come_last_and_set_the_status(tmp_path, capsys):
    runs._BEGUN[tmp_path.resolve()] = None
    with pytest.raises(SystemExit) as found:
        ends.conclude(tmp_path, ["3 of 10 have not converged.", "R-hat 5."])
    assert found.value.code == 3
    said = capsys.readouterr().out.splitlines()
    assert said[-2:] == ["warning: 3 of 10 have not converged.", "warning: R-hat 5."]
    outcome = json.loads((tmp_path / runs.OUTCOME).read_text())
    assert outcome["status"] == 3
    assert outcome["warnings"] == ["3 of 10 have not converged.", "R-hat 5."]


def test_a_run_that_is_shown_again_keeps_its_date(tmp_path, capsys):
    runs._BEGUN[tmp_path.resolve()] = None
    path = tmp_path / runs.OUTCOME
    ends.conclude(tmp_path, extent={"steps": 3, "do": ("a",)})
    kept = {**json.loads(path.read_text()), "finished": "2001-02-03 04:05 +0000"}
    assert (kept["status"], kept["warnings"]) == (0, [])
    path.write_text(json.dumps(kept))
    runs._start(tmp_path)
    assert "This run was finished on 2001-02-03 04:05 +0000;" in capsys.readouterr().out
    ends.conclude(tmp_path, extent={"steps": 3, "do": ("a",)})
    assert json.loads(path.read_text()) == kept
    ends.conclude(tmp_path, extent={"steps": 4})
    assert json.loads(path.read_text())["finished"] != kept["finished"]


def test_a_process_that_did_not_begin_the_run_writes_nothing(tmp_path):
    ends.conclude(tmp_path)
    assert not list(tmp_path.iterdir())


PROGRAM = """
'''Does nothing.'''
from bin.common import configs, ends, flags
flags.define("__main__", configs.Output)
ends.start(lambda argv: None)
"""


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        ([], 0, ""),
        (["--help"], 0, "Exit status: 0 done; 1 failed; 2 wrong use"),
        (["--helpfull"], 0, "--output_dir"),
        (["--nosuch=1"], 2, "error: Unknown command line flag 'nosuch'"),
        (["--overwrite=maybe"], 2, "error: "),
        (["--output_dir="], 2, "must be a path, not empty"),
    ],
    ids=str,
)
def test_flags_and_help(arguments, status, said):
    command = [sys.executable, "-c", PROGRAM, *arguments]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == status
    assert said in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
