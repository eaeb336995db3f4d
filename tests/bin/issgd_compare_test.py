import json

import pytest

from bin.jobs.issgd import comparison
from thesis_tf import issgd


def history(*records):
    made = issgd.History()
    for record in records:
        made.add(issgd.Record(**record))
    return made


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
    # One and the same network to begin with.
    assert both[0][0]["loss"] == both[1][0]["loss"]
    assert both[0][2]["loss"] != both[1][2]["loss"]
    assert {"training.png", "gradient_variance.png", "table.txt", "summary.json"} <= {
        path.name for path in tmp_path.iterdir()
    }
    # More seeds add theirs; what is done is not done again.
    start_program(COMPARE, *RUN, "--seeds=2", f"--output_dir={tmp_path}").finish()
    now = {path.name: path.read_bytes() for path in (tmp_path / "runs").iterdir()}
    assert len(now) == 4
    assert {name: now[name] for name in runs} == runs
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["uniform"]["steps_to"] == {"9.0": [0, 0], "0.001": [None, None]}
    message = start_program(COMPARE, "--steps=9", f"--output_dir={tmp_path}").refuse()
    assert "steps is 8 there and 9 here" in message


def test_the_worst_that_importance_does():
    def runs(*losses):
        return [
            history(*({"step": 5 * n, "loss": loss} for n, loss in enumerate(run)))
            for run in losses
        ]

    uniform = runs([2.0, 1.0, 0.5, 0.1], [2.0, 1.2, 0.7])
    importance = runs([2.0, 1.1, 0.3], [2.0, 1.5, 0.3, 0.2])
    assert comparison.worst_ratio(uniform, importance) == (pytest.approx(1.3 / 1.1), 5)


def test_variances_in_order():
    names = ("ideal", "stale", "actual", "uniform")
    rows = [
        (1, 2, 2, 3, False),
        (1, 4, 2, 3, False),
        (1, 5, 4, 3, True),
        (1, 5, 3.01, 3, False),  # by no more than chance
    ]
    records = [{"step": 0}]
    for step, (*values, uniform) in enumerate(rows, 1):
        variances = dict(zip(names, values, strict=True))
        records.append({"step": step, "uniform": uniform, "gradient_variances": variances})
    assert comparison.variance_order([history(*records)]) == comparison.VarianceOrder(
        evaluations=4, stale_between=1, actual_between=2, taken_over=1
    )


def test_steps_to_a_loss():
    losses = ((0, 2.0), (5, 0.4), (10, 0.5))
    records = history(*({"step": step, "loss": loss} for step, loss in losses))
    assert comparison.steps_to(records, 0.5) == 5
    assert comparison.steps_to(records, 2.0) == 0
    assert comparison.steps_to(records, 0.3) is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--targets=low"], "--targets must be losses"),
        (["--targets=-1,0"], "--targets must be losses above 0"),
        (["--distribution=mirrored"], "--distribution=none"),
        (["--seeds=0"], "--seeds"),
    ],
)
def test_bad_flags_are_one_line(start_program, tmp_path, arguments, message):
    program = start_program(COMPARE, f"--output_dir={tmp_path / 'x'}", *arguments)
    program.process.wait(120)
    assert program.process.returncode not in (0, None)
    assert message in program.said
    assert "Traceback" not in program.said


def test_help_answers_without_tensorflow(help_of):
    shown = help_of(COMPARE)
    for flag in ("--seeds", "--refresh_every", "--targets", "--[no]stop_at_target"):
        assert f"  {flag}" in shown
