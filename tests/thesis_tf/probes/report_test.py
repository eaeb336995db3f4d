"""Reports: contents of tables and files, and that loading restores everything."""

import csv
import dataclasses
import io
import json
import math
import re
import xml.etree.ElementTree as ElementTree

import matplotlib.image
import numpy as np
import pytest

from thesis_tf.probes.metrics import Metrics
from thesis_tf.probes.plots.reports import draw_curves, draw_networks
from thesis_tf.probes.reductions import Reduction
from thesis_tf.probes.report import Probe, ProbeReport
from thesis_tf.probes.solver.softmax_regression import Solution
from thesis_tf.probes.taps import Tap

SPLITS = ("train", "validation", "test")
TAPS = [
    Tap("input", (None, 28, 28, 1), "float32", "Model"),
    Tap("a|b,c", (None, None, 8), "bfloat16", "Conv1D"),
    Tap("logits", (None, 10), "float32", "Dense"),
]


def metrics(splits=SPLITS, error=0.25, classes=10):
    return {
        split: Metrics(
            examples=100 * (number + 1),
            error=error + 0.01 * number,
            standard_error=0.0125,
            top5_error=0.05 if classes > 5 else None,
            cross_entropy=0.123456,
        )
        for number, split in enumerate(splits)
    }


def probe(tap, labels="class", splits=SPLITS, error=0.25, classes=10, control=False, **solution):
    rng = np.random.default_rng(len(tap.name))
    values = {
        "standardized_weights": rng.normal(size=(7, classes)).astype("float32"),
        "standardized_bias": rng.normal(size=classes).astype("float32"),
        "mean": rng.normal(size=7),
        "scale": rng.uniform(1, 2, 7),
        "l2": 10**-2.5,
        "loss": 0.4321,
        "suboptimality": 7e-4,
        "converged": True,
        "evaluations": 42,
    }
    return Probe(
        tap,
        labels,
        classes,
        Solution(**{**values, **solution}),
        metrics(splits, error, classes),
        control=metrics(splits, 0.9, classes) if control else None,
    )


def report(splits=SPLITS, labels=("class",), control=False, model_error=True, **solution):
    probes = [
        probe(tap, name, splits, 0.8 - 0.3 * depth, classes, control, **solution)
        for depth, tap in enumerate(TAPS)
        for name, classes in zip(labels, (10, 2, 3), strict=False)
    ]
    return ProbeReport(
        probes=tuple(probes),
        model_error={
            name: {"output": metrics(splits, 0.05)} if model_error else {} for name in labels
        },
        chance=dict(zip(labels, (0.9, 0.5, 0.7), strict=False)),
        edges=(("input", "a|b,c"), ("a|b,c", "logits")),
        reduction=Reduction("subset", size=500, seed=3),
        class_names=("cat", "dög"),
        model="m" * 64,
        data="d" * 64,
    )


REPORTS = {
    "plain": report(),
    "without a test split": report(("train", "validation")),
    "only training": report(("train",)),
    "several labels": report(labels=("class", "odd", "size")),
    "control": report(control=True),
    "all": report(labels=("class", "odd"), control=True),
    "no own error": report(model_error=False),
    "live": report(
        ("train", "validation"), suboptimality=math.inf, loss=math.nan, converged=False, l2=0.0
    ),
    "float64": report(
        standardized_weights=np.ones((3, 10)),
        standardized_bias=np.zeros(10),
        mean=np.zeros(3),
        scale=np.array([1, 2, np.inf]),
        left_out=1,
    ),
}


@pytest.fixture(params=REPORTS)
def any_report(request):
    return REPORTS[request.param]


def rows(text):
    return list(csv.reader(io.StringIO(text)))


def markdown_rows(text):
    lines = [re.split(r"(?<!\\)\|", line) for line in text.splitlines()]
    assert {(line[0], line[-1]) for line in lines} == {("", "")}
    return [[cell.strip().replace("\\|", "|") for cell in line[1:-1]] for line in lines]


@pytest.mark.slow
def test_saving_and_loading_loses_nothing(any_report, tmp_path):
    any_report.save(tmp_path / "new" / "folder")
    loaded = ProbeReport.load(tmp_path / "new" / "folder")
    for field in dataclasses.fields(ProbeReport):
        if field.name != "probes":
            assert getattr(loaded, field.name) == getattr(any_report, field.name)
    assert len(loaded.probes) == len(any_report.probes)
    for got, expected in zip(loaded.probes, any_report.probes, strict=True):
        for field in dataclasses.fields(Probe):
            if field.name != "solution":
                assert getattr(got, field.name) == getattr(expected, field.name)
        for field in dataclasses.fields(Solution):
            value = getattr(got.solution, field.name)
            np.testing.assert_array_equal(value, getattr(expected.solution, field.name))
            assert type(value) is type(getattr(expected.solution, field.name))
        assert got.solution.standardized_weights.dtype == (
            expected.solution.standardized_weights.dtype
        )
    assert loaded.table(format="json") == any_report.table(format="json")


def test_from_json_without_weights(any_report):
    found = ProbeReport.from_json(json.loads(any_report.table(format="json")))
    assert found.table(format="json") == any_report.table(format="json")
    assert found.probes[0].solution.weights.shape == (0, any_report.probes[0].classes)
    assert np.isnan(found.probes[0].solution.bias).all()


def test_summary_and_short_repr(any_report):
    summary = any_report.summary()
    assert list(summary) == any_report.label_names
    best = summary["class"]
    assert best["best_tap"] == "logits"
    assert best["error"] == any_report.probe("logits").error
    assert json.loads(json.dumps(summary)) == summary
    assert len(repr(any_report)) < 100
    assert repr(any_report.probes[0]).startswith("Probe('input', ")
    assert "<td" in any_report._repr_html_()


def test_json_is_what_the_standard_allows(any_report):
    def refuse(name):
        raise AssertionError(f"{name} is not JSON")

    value = json.loads(any_report.table(format="json"), parse_constant=refuse)
    assert len(value["probes"]) == len(any_report.probes)
    assert "weights" not in value["probes"][0]["solution"]


def test_an_infinite_suboptimality_is_null_in_json():
    solution = json.loads(REPORTS["live"].table(format="json"))["probes"][0]["solution"]
    assert (solution["suboptimality"], solution["loss"]) == (None, None)
    solution = json.loads(REPORTS["plain"].table(format="json"))["probes"][0]["solution"]
    assert solution["suboptimality"] == 7e-4


@pytest.mark.slow
@pytest.mark.parametrize("name", ["plain", "live"])
def test_save_writes_every_file_and_replaces_older_ones(name, tmp_path):
    any_report = REPORTS[name]
    REPORTS["several labels"].save(tmp_path)
    any_report.save(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {
        "report.json", "report.csv", "report.md", "probes.npz",
        "curve.png", "curve.svg", "network.png", "network.svg",
    }  # fmt: skip
    assert (tmp_path / "report.json").read_text("utf-8") == any_report.table(format="json")
    assert (tmp_path / "report.csv").read_text("utf-8") == any_report.table(format="csv")
    assert (tmp_path / "report.md").read_text("utf-8") == any_report.table(format="markdown")
    for kind in ("curve", "network"):
        assert matplotlib.image.imread(tmp_path / f"{kind}.png").std() > 0
        ElementTree.parse(tmp_path / f"{kind}.svg")
    with np.load(tmp_path / "probes.npz", allow_pickle=False) as arrays:
        assert len(arrays.files) == 4 * len(any_report.probes)


def test_csv_has_a_column_a_value_in_full(any_report):
    header, *lines = rows(any_report.table(format="csv"))
    assert len(set(header)) == len(header)
    assert {len(line) for line in lines} == {len(header)}
    entries = [dict(zip(header, line, strict=True)) for line in lines]
    for entry, expected in zip(entries, any_report.probes, strict=False):
        assert entry["tap"] == expected.tap.name
        assert int(entry["features"]) == len(expected.solution.weights)
        if math.isfinite(expected.solution.suboptimality):
            assert float(entry["l2"]) == pytest.approx(expected.solution.l2, rel=1e-2)
            assert float(entry["suboptimality"]) == expected.solution.suboptimality
        else:  # a live probe has neither of them
            assert not {"l2", "suboptimality"} & set(entry)
        assert int(entry["evaluations"]) == 42
        for split, m in expected.metrics.items():
            assert float(entry[f"{split} error"]) == m.error
        unseen = expected.metrics[expected.split]
        assert float(entry["±"]) == unseen.standard_error
        assert float(entry["nats"]) == unseen.cross_entropy
        top5 = entry["top-5"]
        assert (float(top5) if top5 else None) == unseen.top5_error
        if expected.control:
            assert float(entry["selectivity"]) == expected.selectivity
        assert entry.get("labels", "class") == expected.labels
    assert ("labels" in header) == (len(any_report.label_names) > 1)
    assert ("selectivity" in header) == (any_report.probes[0].control is not None)
    of_model = entries[len(any_report.probes) : -len(any_report.chance)]
    assert len(of_model) == sum(map(len, any_report.model_error.values()))
    for entry in of_model:
        assert entry["tap"] == "the model's output"
        assert float(entry["train error"]) == 0.05
        assert (entry["features"], entry["evaluations"]) == ("", "")
        assert entry.get("suboptimality", "") == ""
    unseen = any_report.probes[0].split
    commonest = entries[-len(any_report.chance) :]
    assert [float(entry[f"{unseen} error"]) for entry in commonest] == list(
        any_report.chance.values()
    )
    assert {entry["tap"] for entry in commonest} == {"always the commonest class"}
    assert ("left out" in header) == any(p.solution.left_out for p in any_report.probes)


def test_markdown_and_console_have_the_rows_of_csv(any_report):
    header, *expected = rows(any_report.table(format="csv"))
    found, rule, *lines = markdown_rows(any_report.table(format="markdown"))
    assert found == header
    assert {len(line) for line in lines} == {len(header)}
    assert [line[0] for line in lines] == [line[0] for line in expected]
    assert all(re.fullmatch("-+" if i == 0 else "-+:", cell) for i, cell in enumerate(rule))
    heading, *console = any_report.table().splitlines()
    assert heading.split() == " ".join(header).split()
    for line, cells in zip(console, lines, strict=True):
        assert line.split() == " ".join(cells).split()


def test_numbers_keep_their_digits():
    text = ProbeReport.table(REPORTS["plain"])
    assert {"0.8200", "0.0032", "7.0e-04", "0.1235", "42"} <= set(text.split())


def test_unknown_formats():
    with pytest.raises(ValueError, match="one of console, csv, json, markdown"):
        REPORTS["plain"].table(format="html")


def test_properties_of_a_probe():
    one = probe(TAPS[0], control=True)
    assert (one.split, one.error) == ("test", 0.27)
    assert one.selectivity == pytest.approx(0.92 - 0.27)
    assert probe(TAPS[0]).selectivity is None
    assert probe(TAPS[0], splits=("validation", "train")).split == "validation"
    assert probe(TAPS[0], splits=("train",)).split == "train"


def test_finding_a_probe():
    found = REPORTS["several labels"]
    assert found.label_names == ["class", "odd", "size"]
    assert found.probe("logits") is found.probes[6]
    assert found.probe("logits", labels="odd") is found.probes[7]
    assert found.of("size") == list(found.probes[2::3])
    with pytest.raises(KeyError, match=r"No probe at 'logit'.*logits"):
        found.probe("logit")
    with pytest.raises(ValueError, match="`labels` must be one of class, odd, size"):
        found.probe("logits", labels="even")


def test_a_curve_shows_all_label_sets_or_one(tmp_path, svg_texts):
    several = REPORTS["several labels"]
    draw_curves(several, tmp_path / "all.svg")
    draw_curves(several, tmp_path / "odd.svg", labels="odd")
    assert {"class", "odd", "size", "test error"} <= set(svg_texts(tmp_path / "all.svg"))
    # Chance and the model's error differ between the sets.
    assert not {"always the commonest class", "the model's error"} & set(
        svg_texts(tmp_path / "all.svg")
    )
    assert {"odd", "class"} & set(svg_texts(tmp_path / "odd.svg")) <= {"odd"}
    assert {"always the commonest class", "the model's error"} <= set(
        svg_texts(tmp_path / "odd.svg")
    )
    with pytest.raises(ValueError, match="`labels` must be one of"):
        draw_curves(several, tmp_path / "none.svg", labels="even")


@pytest.mark.parametrize("split", SPLITS)
def test_pictures_name_the_split(tmp_path, split, svg_texts):
    found = report(SPLITS[: SPLITS.index(split) + 1])
    for draw in (draw_curves, draw_networks):
        draw(found, tmp_path / "x.svg")
        assert f"{split} error" in svg_texts(tmp_path / "x.svg")


def test_a_network_has_a_tooltip_a_tap(tmp_path):
    draw_networks(REPORTS["all"], tmp_path / "n.svg", labels="odd")
    root = ElementTree.parse(tmp_path / "n.svg").getroot()
    titles = [e.text for e in root.iter("{http://www.w3.org/2000/svg}title")]
    tooltip = next(text for text in titles if text and text.startswith("a|b,c"))
    assert "Conv1D ? x 8, 7 features" in tooltip
    assert "train: error 0.5000 ± 0.0125, 0.1235 nats" in tooltip
    assert "selectivity 0.4000" in tooltip


def test_several_reports_in_one_picture(tmp_path, svg_texts):
    before, after = REPORTS["plain"], report(labels=("class", "odd"))
    draw_curves(
        {"before": before, "after": (after, "class")},
        tmp_path / "c.svg",
        ylabel="errors",
        title="both",
    )
    assert {"before", "after", "errors", "both", "always the commonest class"} <= set(
        svg_texts(tmp_path / "c.svg")
    )
    draw_curves({"class": (after, "class"), "odd": (after, "odd")}, tmp_path / "two.svg")
    assert "always the commonest class" not in svg_texts(tmp_path / "two.svg")
    draw_networks({"before": before, "after": after}, tmp_path / "n.svg", title="both")
    assert {"before", "after", "both"} <= set(svg_texts(tmp_path / "n.svg"))
    with pytest.raises(ValueError, match="`labels` must be one of class"):
        draw_networks({"before": before, "after": after}, tmp_path / "n.svg", labels="odd")


def test_unseen_examples_of_one_class_can_be_drawn(tmp_path, svg_texts):
    found = dataclasses.replace(REPORTS["plain"], chance={"class": 0.0})
    draw_networks(found, tmp_path / "n.svg")
    assert "test error" in svg_texts(tmp_path / "n.svg")


@pytest.mark.parametrize(("best", "log"), [(0.1, False), (0.05, True), (0.0, False)])
def test_errors_far_below_chance_are_drawn_on_a_logarithmic_scale(tmp_path, best, log, svg_texts):
    first, *others = REPORTS["plain"].probes
    probes = probe(first.tap, error=best - 0.02), *others  # the test error is higher by .02
    draw_networks(dataclasses.replace(REPORTS["plain"], probes=probes), tmp_path / "n.svg")
    assert ("test error, logarithmic" in svg_texts(tmp_path / "n.svg")) == log
    assert (f"{best:.3g}" in svg_texts(tmp_path / "n.svg")) == (log or best == 0)


def test_a_report_that_was_cut_short(tmp_path):
    REPORTS["plain"].save(tmp_path)
    path = tmp_path / "report.json"
    path.write_text(path.read_text("utf-8")[:-30], "utf-8")
    with pytest.raises(ValueError, match="not valid JSON"):
        ProbeReport.load(tmp_path)
