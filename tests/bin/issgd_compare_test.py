import json

import pytest

COMPARE = "issgd_compare"
RUN = ("--steps=8", "--evaluate_every=4", "--refresh_every=4", "--targets=9,.001")


@pytest.mark.slow
def test_compares_and_goes_on_with_more_seeds(start_program, tmp_path):
    said = start_program(COMPARE, *RUN, "--seeds=1", f"--output_dir={tmp_path}").finish()
    assert said.count("steps to loss") == 2
    runs = {path.name: path.read_bytes() for path in (tmp_path / "runs").iterdir()}
    assert set(runs) == {"uniform_0.json", "importance_0.json"}
    both = [json.loads(runs[name]) for name in sorted(runs)]
    assert [[record["step"] for record in records] for records in both] == [[0, 4, 8]] * 2
    # Both methods start from the same network.
    assert both[0][0]["loss"] == both[1][0]["loss"]
    assert both[0][2]["loss"] != both[1][2]["loss"]
    assert {"training.png", "gradient_variance.png", "table.txt", "summary.json"} <= {
        path.name for path in tmp_path.iterdir()
    }
    # More seeds add runs; finished runs are not computed again.
    start_program(COMPARE, *RUN, "--seeds=2", f"--output_dir={tmp_path}").finish()
    now = {path.name: path.read_bytes() for path in (tmp_path / "runs").iterdir()}
    assert len(now) == 4
    assert {name: now[name] for name in runs} == runs
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["uniform"]["steps_to"] == {"9.0": [0, 0], "0.001": [None, None]}
    message = start_program(COMPARE, "--steps=9", f"--output_dir={tmp_path}").refuse()
    assert "steps is 8 there and 9 here" in message


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--targets=low"], "must be losses above 0"),
        (["--targets=-1,0"], "must be losses above 0"),
        (["--distribution=mirrored"], "--distribution=none"),
        (["--seeds=0"], "--seeds"),
    ],
)
def test_bad_flags_are_one_line(start_program, tmp_path, arguments, message):
    program = start_program(COMPARE, f"--output_dir={tmp_path / 'x'}", *arguments)
    assert program.wait() != 0
    assert message in program.said
    assert "Traceback" not in program.said


def test_help_answers_without_tensorflow(help_of):
    shown = help_of(COMPARE)
    for flag in ("--seeds", "--refresh_every", "--targets", "--[no]stop_at_target"):
        assert f"  {flag}" in shown
