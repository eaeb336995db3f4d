"""The parts of reports that figures show; the tests of `curves` and `network` test the drawing."""

import dataclasses

import pytest

from thesis_tf.probes import ProbeReport
from thesis_tf.probes.plots import reports


def metrics(error):
    return {
        "examples": 100,
        "error": error,
        "standard_error": 0.01,
        "top5_error": None,
        "cross_entropy": 1.0,
    }


def report(*errors, labels=("class",), model_error=0.2):
    probes = [
        {
            "tap": {"name": f"layer{i}", "shape": [None, 4], "dtype": "float32", "kind": "Dense"},
            "labels": name,
            "classes": 3,
            "solution": {
                "l2": 0.1, "loss": 1.0, "suboptimality": 1e-4, "converged": True, "evaluations": 5,
            },
            "metrics": {"train": metrics(error / 2), "test": metrics(error)},
            "control": None,
        }
        for i, error in enumerate(errors)
        for name in labels
    ]  # fmt: skip
    return ProbeReport.from_json(
        {
            "probes": probes,
            "model_error": {name: {"output": {"test": metrics(model_error)}} for name in labels},
            "chance": dict.fromkeys(labels, 0.6),
            "edges": [["layer0", "layer1"]],
            "reduction": {"kind": "mean", "size": 1000, "seed": 0},
            "class_names": [],
            "model": "",
            "data": "",
        }
    )


@pytest.fixture
def drawn(monkeypatch):
    """Returns a list of the arguments of each call of a function that draws."""
    calls = []
    for name in ("draw_curve", "draw_network"):
        monkeypatch.setattr(reports, name, lambda *args, **kwargs: calls.append((args, kwargs)))
    return calls


def test_one_report_is_a_curve_with_the_models_error_as_a_line(drawn):
    reports.draw_curves(report(0.5, 0.4), "a.png", title="t")
    (((series, path), options),) = drawn
    assert series == {"probes": [("layer0", 0.5, 0.01), ("layer1", 0.4, 0.01)]}
    assert path == "a.png"
    assert options == {
        "ylabel": "test error", "reference": 0.2, "chance": 0.6, "log": False, "title": "t",
        "links": {("layer0", "layer1")},
    }  # fmt: skip


def test_a_curve_for_each_label_set_of_one_report(drawn):
    both = report(0.5, 0.4, labels=("class", "odd"))
    reports.draw_curves(both, "a.png")
    reports.draw_curves(both, "a.png", labels="odd")
    assert [list(series) for (series, _), _ in drawn] == [["class", "odd"], ["probes"]]
    assert [options["reference"] for _, options in drawn] == [None, 0.2]
    differing = dataclasses.replace(both, chance={"class": 0.6, "odd": 0.4})
    reports.draw_curves(differing, "a.png")
    reports.draw_curves(differing, "a.png", labels="odd")
    assert [options["chance"] for _, options in drawn[2:]] == [{"class": 0.6, "odd": 0.4}, 0.4]


@pytest.mark.parametrize("draw", [reports.draw_curves, reports.draw_networks])
def test_the_scale_can_be_fixed_so_that_figures_can_be_compared(drawn, draw):
    for errors, log in (((0.5, 0.01), None), ((0.5, 0.4), None), ((0.5, 0.4), True)):
        draw(report(*errors), "a.png", log=log)
    draw(report(0.5, 0.01), "a.png", log=False)
    assert [options["log"] for _, options in drawn] == [True, False, True, False]


def test_a_curve_for_each_of_several_reports(drawn):
    early, late = report(0.5, 0.4), report(0.4, 0.01, labels=("odd",))
    reports.draw_curves({"early": early, "late": (late, "odd")}, "a.png", ylabel="errors")
    (((series, _), options),) = drawn
    assert {name: [error for _, error, _ in points] for name, points in series.items()} == {
        "early": [0.5, 0.4],
        "late": [0.4, 0.01],
    }
    assert (options["ylabel"], options["reference"], options["log"]) == ("errors", None, True)


def test_networks(drawn):
    reports.draw_networks(report(0.5, 0.4), "a.svg")
    reports.draw_networks({"early": report(0.5, 0.4), "late": report(0.3, 0.02)}, "a.svg")
    (one, several) = drawn
    (panels, edges, _), options = one
    assert {tap: mark.value for tap, mark in panels[""].items()} == {"layer0": 0.5, "layer1": 0.4}
    assert "test: error 0.5000 ± 0.0100, 1.0000 nats" in panels[""]["layer0"].tooltip
    assert edges == (("layer0", "layer1"),)
    assert (options["value_range"], options["log"]) == ((0, 0.6), False)
    (panels, _, _), options = several
    assert list(panels) == ["early", "late"]
    assert (options["value_range"], options["log"]) == ((0.02, 0.6), True)


def test_a_network_for_each_label_set_and_the_name_of_a_single_one(drawn):
    both = dataclasses.replace(
        report(0.5, 0.4, labels=("class", "odd")), chance={"class": 0.9, "odd": 0.4}
    )
    reports.draw_networks(both, "a.svg")
    reports.draw_networks(both, "a.svg", labels="odd")
    reports.draw_networks({"one": both}, "a.svg")
    assert [list(panels) for (panels, _, _), _ in drawn] == [["class", "odd"], [""], ["one"]]
    assert [options["value_label"] for _, options in drawn] == [
        *("test error", "test error (odd)", "test error (class)")
    ]
    assert [options["value_range"] for _, options in drawn] == [(0, 0.9), (0, 0.4), (0, 0.9)]
