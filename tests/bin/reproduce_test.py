"""The program as users run it: processes, kills, missing files, and the page in a browser."""

import json
import re
import signal

import psutil
import pytest

from bin import reproduce
from bin.reproduction.engine import catalogue

QUICK = "--figures=3.3,3.4"


def report_of(folder):
    return json.loads((folder / "report.json").read_text())


@pytest.fixture(scope="module")
def made(start_any_program, tmp_path_factory):
    """Returns the folder of a report of two figures, and the output of the program."""
    folder = tmp_path_factory.mktemp("reproduce") / "report"
    said = start_any_program("reproduce", QUICK, f"--output_dir={folder}").finish()
    return folder, said


@pytest.mark.slow
def test_two_figures_side_by_side(made):
    folder, said = made
    written = {path.name for path in folder.iterdir() if not path.name.startswith(".")}
    assert written == {
        "index.html", "README.md", "report.json", "figures", "cache", "config.json",
        "outcome.json",
    }  # fmt: skip
    whole = report_of(folder)
    assert [item["name"] for item in whole["figures"]] == ["3.3", "3.4"]
    assert whole["counts"]["figures"] == {"done": 2, "failed": 0, "without": 0}
    assert "reproduce --figures=3.3,3.4" in whole["command"]
    # A log has one line per figure, and no bars.
    assert len([line for line in said.splitlines() if line.startswith("Figure 3.")]) == 2
    assert "\r" not in said
    assert "2 of 2 figures and tables" in said


@pytest.mark.slow
def test_the_second_call_computes_nothing(made, start_any_program):
    folder, _ = made
    before = {p: p.stat().st_mtime_ns for p in (folder / "cache").rglob("*") if p.is_file()}
    said = start_any_program("reproduce", QUICK, f"--output_dir={folder}").finish()
    assert "Computing" not in said
    assert {p: p.stat().st_mtime_ns for p in before} == before


@pytest.mark.slow
def test_another_budget_in_its_folder_is_refused_and_nothing_is_lost(made, start_any_program):
    folder, _ = made
    error = start_any_program(
        "reproduce", QUICK, "--budget=full", f"--output_dir={folder}"
    ).refuse()
    assert 'budget is "quick" there and "full" here' in error
    assert len(report_of(folder)["figures"]) == 2


def children(program):
    return psutil.Process(program.pid).children(recursive=True)


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_kill_loses_the_figure_under_way_alone(how, start_any_program, tmp_path):
    folder = tmp_path / "report"
    arguments = ("reproduce", "--figures=3.4,3.5", "--jobs=1", f"--output_dir={folder}")
    program = start_any_program(*arguments)
    # 3.5 takes longer and is started first; the kill comes before it has a result.
    program.until(lambda: (folder / "cache" / "logs" / "fig_3_5.log").exists())
    ours = children(program)
    assert ours
    program.send(how)
    program.wait()
    # None of its processes survives it.
    _, alive = psutil.wait_procs(ours, timeout=300)
    assert alive == []
    if how == signal.SIGINT:
        assert "Interrupted. The same command continues" in program.said
    assert not (folder / "index.html").exists()


@pytest.mark.slow
def test_a_process_that_dies_is_shown_and_stops_nobody(start_any_program, tmp_path):
    folder = tmp_path / "report"
    program = start_any_program("reproduce", QUICK, "--jobs=1", f"--output_dir={folder}")
    logs = folder / "cache" / "logs"
    program.until(lambda: logs.exists() and list(logs.iterdir()))
    (first,) = logs.iterdir()
    for child in children(program):
        if "spawn_main" in " ".join(child.cmdline()):
            child.send_signal(signal.SIGKILL)
    assert program.wait() == 1
    whole = report_of(folder)
    assert whole["counts"]["figures"] == {"done": 1, "failed": 1, "without": 0}
    (failed,) = (item for item in whole["figures"] if item["status"] == "failed")
    assert failed["slug"] == first.stem
    assert failed["error"].startswith("The process was ended by SIGKILL.")
    assert failed["error"] in (folder / "index.html").read_text()
    # The second call computes the missing figure.
    again = start_any_program("reproduce", QUICK, f"--output_dir={folder}").finish()
    assert "Computing one figure" in again


@pytest.mark.slow
def test_missing_data_are_named_with_the_figures(start_any_program, tmp_path):
    folder = tmp_path / "report"
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "mnist.npz").touch()
    program = start_any_program(
        "reproduce",
        "--figures=3.3,7.2,7.3",
        "--budget=full",
        f"--data_dir={tmp_path / 'data'}",
        f"--output_dir={folder}",
    )
    assert program.wait() == 1
    missing = f"{tmp_path / 'data' / 'cifar10.npz'} (missing)"
    assert f"Figure 7.2, Figure 7.3: not computed; missing: {missing}." in program.said
    assert report_of(folder)["counts"]["figures"] == {"done": 1, "failed": 0, "without": 2}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["--figures=7.1"], r"--figures=7.1 matches no .* Nearest: table_7.1, "),
        (["--figures="], r"--figures must name"),
        (["--data_dir=/tmp"], r"Leave out --data_dir: --budget=quick uses bundled data"),
        (["--budget=full", "--data_dir=absent"], r"--data_dir=absent must be an existing folder"),
        (["--faces=absent.npz"], r"--faces=absent.npz must be an existing file"),
        (["--ray_address=127.0.0.1:1"], r"--ray_address=127.0.0.1:1"),
        (["--cache_dir=/dev/null"], r"--cache_dir=/dev/null can't be written to"),
    ],
)
def test_bad_flags_are_a_line(start_any_program, tmp_path, arguments, error):
    said = start_any_program("reproduce", *arguments, f"--output_dir={tmp_path / 'r'}").refuse()
    assert re.search(error, said), said
    assert not (tmp_path / "r" / "index.html").exists()


def test_the_list_has_a_figure_that_cannot_be_read(monkeypatch):
    figures = catalogue.select(["3.4", "5.8"])
    said = reproduce.table(figures)
    assert "faces or cifar10" in said

    def fails(figure):
        raise SyntaxError("invalid syntax (fig_3_4.py, line 3)")

    monkeypatch.setattr(catalogue.Figure, "load", fails)
    assert "3.4" in (said := reproduce.table(figures)).splitlines()[1]
    assert said.count("SyntaxError: invalid syntax (fig_3_4.py, line 3)") == 2


def test_cores_are_shared():
    jobs, threads = reproduce.jobs_and_threads(1, None)
    assert jobs == 1
    assert threads >= 1
    cores = threads
    assert reproduce.jobs_and_threads(cores, None) == (cores, 1)
    assert reproduce.jobs_and_threads(2 * cores, None) == (2 * cores, 1)
    assert 1 <= reproduce.jobs_and_threads(None, None)[0] <= cores


def test_help_teaches_at_once(help_of):
    said = help_of("reproduce")
    for flag in (
        "--figures",
        "--list",
        "--budget",
        "--jobs",
        "--ray_address",
        "--cache_dir",
        "--resnet50_weights",
        "--inception_weights",
        "--faces",
        "--data_dir",
        "--seed",
    ):
        assert flag in said  # fmt: skip
