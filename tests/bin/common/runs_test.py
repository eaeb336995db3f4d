import dataclasses
import json
import os
import pathlib
import stat
import subprocess
import sys

import numpy as np
import pytest

from bin.common import configs, flags, runs

ROOT = pathlib.Path(__file__).parents[3]


flags.define(__name__, configs.Data, configs.Hardware)


@dataclasses.dataclass(frozen=True)
class Part:
    size: int = 5
    data_dir: str = "here"


@dataclasses.dataclass(frozen=True)
class Config:
    seed: int
    names: tuple = ("a",)
    part: Part = Part()


def started(folder, config):
    folder = runs.claim(folder, config)
    runs.begin(folder, config)
    return folder


def test_same_run_goes_on(tmp_path):
    folder = started(tmp_path / "new" / "run", Config(1))
    (folder / "checkpoint").write_text("half")
    assert started(folder, Config(1)) == folder
    assert (folder / "checkpoint").read_text() == "half"


def test_data_may_move(tmp_path):
    folder = started(tmp_path, Config(1))
    (folder / "checkpoint").write_text("half")
    started(folder, Config(1, part=Part(data_dir="there")))
    assert (folder / "checkpoint").read_text() == "half"
    assert json.loads((folder / "config.json").read_text())["part"]["data_dir"] == "there"


def test_a_config_that_was_cut_short(tmp_path):
    folder = started(tmp_path, Config(1))
    (folder / "config.json").write_text('{"seed"')
    with pytest.raises(runs.UsageError, match=r"cut short or edited. Choose another .* delete"):
        runs.claim(folder, Config(1), overwrite=True)


def test_other_run_is_kept_unless_told_otherwise(tmp_path):
    folder = started(tmp_path, Config(1))
    (folder / "logs").mkdir()
    (folder / "logs" / "events").write_text("hours of work")
    message = "holds another run: part.size is 5 there and 6 here; seed is 1 there and 2 here"
    with pytest.raises(runs.UsageError, match=message):
        runs.claim(folder, Config(2, part=Part(6)))
    runs.claim(folder, Config(2), overwrite=True)
    assert (folder / "logs" / "events").exists()
    with pytest.raises(runs.UsageError, match="holds another run"):
        runs.begin(folder, Config(2))  # without --overwrite
    runs.begin(folder, Config(2), overwrite=True)
    assert sorted(os.listdir(folder)) == [".lock", ".lock_begin", "config.json"]
    assert json.loads((folder / "config.json").read_text())["seed"] == 2


def test_a_claim_that_came_to_nothing_leaves_the_folder_free(tmp_path):
    runs.claim(tmp_path, Config(1))
    runs.claim(tmp_path, Config(2))
    assert not os.listdir(tmp_path)


HOLDER = """
import pathlib, sys, time
from bin.common import runs
folder = pathlib.Path(sys.argv[1])
try:
    runs.lock(folder, sys.argv[2])
except runs.UsageError as error:
    sys.exit(f"error: {error}")
print("holds it", flush=True)
time.sleep(float(sys.argv[3]))
"""


def hold(folder, part="", seconds=0):
    command = [sys.executable, "-c", HOLDER, str(folder), part, str(seconds)]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT
    )


def test_two_processes_do_not_share_a_folder(tmp_path):
    first = hold(tmp_path, seconds=600)
    try:
        assert first.stdout.readline() == "holds it\n"
        for start in (runs.claim, runs.begin):
            with pytest.raises(runs.UsageError, match=r"is in use: another process runs in it\. W"):
                start(tmp_path, Config(1))
        assert sorted(os.listdir(tmp_path)) == [".lock", ".lock_begin"]
        # Nor with a process that does a part of the work.
        assert "is in use" in hold(tmp_path, part="1/2").communicate()[1]
    finally:
        first.kill()
        first.communicate()
    started(tmp_path, Config(1))
    # The same process may begin again, and still keeps other processes out.
    started(tmp_path, Config(1))
    assert "is in use" in hold(tmp_path).communicate()[1]


def test_parts_share_a_folder_which_none_of_them_empties(tmp_path):
    started(tmp_path, Config(1))
    (tmp_path / "features.npy").write_text("")
    for file in runs._LOCKS.values():  # as at the end of a process
        file.close()
    runs._LOCKS.clear()
    other = hold(tmp_path, part="2/2", seconds=600)
    try:
        assert other.stdout.readline() == "holds it\n"
        runs.claim(tmp_path, Config(2), overwrite=True)
        for part in ("1/2", ""):
            with pytest.raises(runs.UsageError, match="is in use"):
                runs.begin(tmp_path, Config(2), part=part, overwrite=True)
        assert (tmp_path / "features.npy").exists()
        runs.begin(tmp_path, Config(1), part="1/2")
        assert "is in use" in hold(tmp_path, part="1/2").communicate()[1]
        assert "is in use" in hold(tmp_path).communicate()[1]
    finally:
        other.kill()
        other.communicate()
    assert hold(tmp_path, part="2/2").communicate()[0] == "holds it\n"


def test_of_parts_that_begin_at_once_the_first_empties_the_folder(tmp_path):
    started(tmp_path, Config(1))
    for file in runs._LOCKS.values():
        file.close()
    runs._LOCKS.clear()
    runs.claim(tmp_path, Config(2), overwrite=True)
    runs.begin(tmp_path, Config(2), part="1/2", overwrite=True)
    (tmp_path / "features.npy").write_text("")
    # The other part was claimed before, too.
    runs.begin(tmp_path, Config(2), part="2/2", overwrite=True)
    assert (tmp_path / "features.npy").exists()


def test_a_run_that_began_after_the_claim_is_kept(tmp_path):
    runs.claim(tmp_path, Config(2))
    started(tmp_path, Config(1))
    (tmp_path / "result").write_text("")
    with pytest.raises(runs.UsageError, match="holds another run: seed is 1 there and 2 here"):
        runs.begin(tmp_path, Config(2))
    assert (tmp_path / "result").exists()


def test_a_kill_while_a_folder_is_emptied_leaves_it_a_run(tmp_path, monkeypatch):
    started(tmp_path, Config(1))
    for name in "abcxyz":
        (tmp_path / name).write_text("")
    unlink, left = pathlib.Path.unlink, [4]

    def killed(path):
        left[0] -= 1
        if not left[0]:
            raise KeyboardInterrupt
        unlink(path)

    monkeypatch.setattr(pathlib.Path, "unlink", killed)
    with pytest.raises(KeyboardInterrupt):
        runs.begin(tmp_path, Config(2), overwrite=True)
    monkeypatch.undo()
    runs.claim(tmp_path, Config(2), overwrite=True)
    runs.begin(tmp_path, Config(2), overwrite=True)
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"config.json", ".lock", ".lock_begin"}


@pytest.mark.parametrize("overwrite", [False, True])
def test_files_of_others_are_never_touched(tmp_path, overwrite):
    (tmp_path / "thesis.tex").write_text("chapter 1")
    with pytest.raises(runs.UsageError, match="not a run of this program"):
        runs.claim(tmp_path, Config(1), overwrite)
    assert (tmp_path / "thesis.tex").read_text() == "chapter 1"


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize(
    "config", [{"architectures": ["Bert"], "hidden": 768}, {"seed": 1, "hidden": 768}, {}, [1, 2]]
)
def test_a_config_of_others_makes_no_run(tmp_path, config, overwrite):
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / ".git").mkdir()
    with pytest.raises(runs.UsageError, match="not a run of this program"):
        runs.claim(tmp_path, Config(1), overwrite)
    assert sorted(os.listdir(tmp_path)) == [".git", "config.json"]


def test_a_run_of_an_older_version_is_another_run(tmp_path):
    (tmp_path / "config.json").write_text('{"seed": 1, "names": ["a"]}')
    with pytest.raises(runs.UsageError, match="part is null there"):
        runs.claim(tmp_path, Config(1))
    runs.claim(tmp_path, Config(1), overwrite=True)


def test_unwritable_folder(tmp_path):
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(runs.UsageError, match="can't be written to"):
        runs.claim(file / "below", Config(1))
    if os.geteuid() != 0:  # root can write anywhere
        tmp_path.chmod(stat.S_IRUSR | stat.S_IXUSR)
        with pytest.raises(runs.UsageError, match="can't be written to"):
            runs.claim(tmp_path / "run", Config(1))


@pytest.mark.parametrize("kind", ["noise", "objects", "cut short", "one array", "other names"])
def test_arrays_that_cannot_be_read(tmp_path, kind):
    path = tmp_path / "a.npz"
    array = np.array([{}]) if kind == "objects" else np.arange(1000)
    np.savez(path, **{"b" if kind == "other names" else "a": array})
    if kind == "noise":
        path.write_bytes(np.random.default_rng(0).bytes(500))
    if kind == "cut short":
        path.write_bytes(path.read_bytes()[:600])
    if kind == "one array":
        with path.open("wb") as file:
            np.save(file, array)
    with pytest.raises(ValueError, match=rf"--labels={path} must be a complete .npz file with a\."):
        runs.read_arrays("labels", path, "with a", needed="a")


def test_arrays_that_a_flag_names(tmp_path):
    np.savez(tmp_path / "a.npz", a=np.arange(3))
    found = runs.read_arrays("labels", tmp_path / "a.npz", "with a", needed="a")
    assert list(found) == ["a"]
    np.testing.assert_array_equal(found["a"], np.arange(3))
    with pytest.raises(ValueError, match=r"none.npz must be an existing .npz file"):
        runs.read_arrays("labels", tmp_path / "none.npz", "with a")
