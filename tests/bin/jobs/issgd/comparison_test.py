import json

import numpy as np
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


NAMES = ("ideal", "stale", "actual", "uniform")


def ended(error, *draws):
    """Returns the history of a run that ends with a test error; draws are uniform or not."""
    rows = [{"step": 0, "loss": 2.0, "errors": {"train": 0.5, "test": 0.9}}]
    for number, uniform in enumerate(draws, 1):
        variances = {} if uniform is None else dict.fromkeys(NAMES, 1.0)
        row = {"step": 50 * number, "loss": 1.0, "seconds": 1.0, "uniform": uniform}
        errors = {"train": error, "test": error}
        rows.append({**row, "errors": errors, "gradient_variances": variances})
    return history(*rows)


@pytest.mark.parametrize(
    ("uniform", "importance", "expected"),
    [
        (ended(0.1, None), ended(0.1, False), []),
        (ended(0.1, None, None), ended(0.1, True, False), []),
        (ended(0.1, None), ended(0.1, True), ["All draws were uniform"]),
        (
            ended(0.1, None),
            ended(0.1, None),
            ["Gradient norms were measured only at the beginning"],
        ),
        (ended(0.5, None), ended(0.1, False), ["uniform: The network is no better than a guess"]),
        (ended(0.1, None), ended(0.5, False), ["importance: The network is no better than a"]),
    ],
)
def test_a_comparison_that_compares_nothing(
    uniform, importance, expected, tmp_path, said_in_pictures
):
    said, labels = [], np.arange(100) % 2
    done = {"uniform": [uniform], "importance": [importance]}
    comparison.report(done, [0.5], tmp_path, labels=labels, warn=said.append)
    assert len(said) == len(expected)
    assert all(a.startswith(b) for a, b in zip(said, expected, strict=True))
    assert json.loads((tmp_path / "summary.json").read_text())["warnings"] == said
    lines = (tmp_path / "table.txt").read_text().splitlines()
    assert lines[len(lines) - len(said) :] == said
    assert all(start in said_in_pictures["training.png"] for start in expected)
