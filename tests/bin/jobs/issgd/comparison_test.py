import pytest

from bin.jobs.issgd import comparison
from thesis_tf import issgd


def history(*records):
    made = issgd.History()
    for record in records:
        made.add(issgd.Record(**record))
    return made


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
        (1, 5, 3.01, 3, False),  # within the error
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


def test_a_run_is_read_as_it_was_written(tmp_path):
    variances = {"ideal": 1.0, "stale+10": 2.0}
    made = history(
        {"step": 0, "loss": 2.0, "errors": {"test": 0.5}},
        {"step": 5, "loss": 1.0, "uniform": False, "gradient_variances": variances},
    )
    comparison.save(made, tmp_path / "run.json")
    assert comparison.load(tmp_path / "run.json").records == made.records
