"""The report of probes: errors as tables, and the fitted probes."""

from __future__ import annotations

import csv
import dataclasses
import io
import math
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from thesis_tf._core import checks
from thesis_tf._core.types import Array, Path
from thesis_tf.persistence import arrays, files
from thesis_tf.probes.metrics import Metrics
from thesis_tf.probes.plots.curves import COMMONEST
from thesis_tf.probes.plots.reports import draw_curves, draw_networks
from thesis_tf.probes.reductions import Reduction
from thesis_tf.probes.solver.softmax_regression import Solution
from thesis_tf.probes.taps import Tap
from thesis_tf.reporting import tables
from thesis_tf.reporting.results import TabularResult

FORMATS = ("console", "csv", "json", "markdown")
# JSON has no infinity: the loss and the suboptimality of a probe without certificate are null.
_UNCERTIFIED = {"loss": math.nan, "suboptimality": math.inf}
_ARRAYS = ("standardized_weights", "standardized_bias", "mean", "scale")  # of a `Solution`


@dataclasses.dataclass(frozen=True, eq=False, repr=False)  # arrays have no truth value
class Probe:
    """One fitted probe.

    Attributes:
        tap: the tap of the probe.
        labels: the name of the label set that it predicts.
        classes: the number of classes.
        solution: its weights, l2 and certificate. A probe that was trained live has no
            certificate: its suboptimality is infinite.
        metrics: a dict from split to `Metrics`.
        control: the same dict for a probe on shuffled labels, or None.
    """

    tap: Tap
    labels: str
    classes: int
    solution: Solution
    metrics: dict[str, Metrics]
    _: dataclasses.KW_ONLY
    control: dict[str, Metrics] | None = None

    def __repr__(self) -> str:
        """Returns the tap and the error."""
        found = self.metrics[self.split]
        spread = f"{found.error:.4f} ± {found.standard_error:.4f}"
        return f"Probe({self.tap.name!r}, {self.split} error {spread})"

    @property
    def split(self) -> str:
        """The split of unseen examples: test, or validation without a test split, or train."""
        for name in ("test", "validation", "train"):
            if name in self.metrics:
                return name
        raise ValueError(f"The probe at {self.tap.name!r} has not been measured on any split.")

    @property
    def error(self) -> float:
        """The error on unseen examples."""
        return self.metrics[self.split].error

    @property
    def selectivity(self) -> float | None:
        """The error on shuffled labels minus `error`; None without a control."""
        return None if self.control is None else self.control[self.split].error - self.error


@dataclasses.dataclass(frozen=True, eq=False, repr=False)  # arrays have no truth value
class ProbeReport(TabularResult):
    """All probes of one model on one data set.

    Attributes:
        probes: `Probe`s in the order of computation.
        model_error: a dict from label set to a dict from the model's outputs that have the same
            number of classes to a dict from split to `Metrics` of this output.
        chance: a dict from label set to the error, on unseen examples, of always predicting the
            most frequent class of the training examples.
        edges: the data flow among the taps.
        reduction: the `Reduction`.
        class_names: names of the classes, or ().
        model: the fingerprint of the model.
        data: the fingerprint of the data.
        unlabeled: a dict from split to the number of examples that live probes left out, as their
            labels aren't in [0, K).
    """

    probes: tuple[Probe, ...]
    model_error: dict[str, dict[str, dict[str, Metrics]]]
    chance: dict[str, float]
    edges: tuple[tuple[str, str], ...]
    reduction: Reduction
    _: dataclasses.KW_ONLY
    class_names: tuple[str, ...] = ()
    model: str = ""
    data: str = ""
    unlabeled: dict[str, int] = dataclasses.field(default_factory=dict)

    def __repr__(self) -> str:
        """Returns the number of probes and the range of their errors."""
        parts = [f"{len(self.probes)} probes"]
        if len(self.label_names) > 1:
            parts.append(f"labels {', '.join(self.label_names)}")
        if self.probes:
            found = [probe.error for probe in self.probes]
            parts.append(f"{self.probes[0].split} errors {min(found):.4f} to {max(found):.4f}")
        return f"ProbeReport({'; '.join(parts)})"

    @property
    def label_names(self) -> list[str]:
        """The names of the label sets, in order."""
        return list(dict.fromkeys(probe.labels for probe in self.probes))

    def probe(self, tap: str, *, labels: str | None = None) -> Probe:
        """Returns the probe at a tap (for the first label set by default)."""
        probes = {probe.tap.name: probe for probe in self.of(labels)}
        if tap not in probes:
            raise KeyError(f"No probe at {tap!r}. {checks.nearest(tap, probes)}")
        return probes[tap]

    def of(self, labels: str | None = None) -> list[Probe]:
        """Returns the probes of one label set (the first by default), in order."""
        labels = self.label_names[0] if labels is None else labels
        checks.one_of("`labels`", labels, self.label_names)
        return [probe for probe in self.probes if probe.labels == labels]

    def warnings(self) -> list[str]:
        """Returns a sentence if fits have not converged; an empty list otherwise.

        Live probes have no certificate and are left out. Errors at chance and features that are
        left out since they are constant are results: the table has them.
        """
        fits = [(probe.solution.suboptimality, probe) for probe in self.probes]
        open_fits = [f for f in fits if math.isfinite(f[0]) and not f[1].solution.converged]
        if not open_fits:
            return []
        worst, probe = max(open_fits, key=lambda fit: fit[0])
        return [
            f"{len(open_fits)} of {len(fits)} probes have not converged: the loss at"
            f" {probe.tap.name} may be {worst:.2g} nats above its minimum. Their errors may be too"
            " large."
        ]

    def table(self, *, format: str = "console") -> str:
        """Returns the results as text: "console", "csv", "json" or "markdown".

        `warnings` are below the text and the Markdown, and an item of the JSON.
        """
        checks.one_of("`format`", format, FORMATS)
        if format == "json":
            return files.to_json(self.to_json())
        if format == "csv":
            text = io.StringIO()
            csv.writer(text, lineterminator="\n").writerows(_rows(self))
            return text.getvalue()
        headings, rows = self._table()
        as_text = tables.text if format == "console" else tables.markdown
        gap = "" if format == "console" else "\n"  # or Markdown would add the sentence to the table
        return "\n".join([as_text(headings, rows), *(gap + s for s in self.warnings())]) + "\n"

    def _table(self) -> tuple[list[str], list[list[tables.Cell]]]:
        headings, *rows = _rows(self)
        return [str(h) for h in headings], [[_cell(value) for value in row] for row in rows]

    def summary(self) -> dict[str, Any]:
        """Returns, by label set, the smallest error, its tap, and errors to compare it with.

        "always_commonest_class" is `chance`, "left_out" the numbers of constant features by tap,
        and "unlabeled" the numbers of examples without a valid label by split.
        """
        found = {}
        for labels in self.label_names:
            best = min(self.of(labels), key=lambda probe: probe.error)
            found[labels] = {
                "probes": len(self.of(labels)),
                "split": best.split,
                "best_tap": best.tap.name,
                "error": best.error,
                "always_commonest_class": self.chance[labels],
                "model_error": {
                    output: metrics[best.split].error
                    for output, metrics in self.model_error.get(labels, {}).items()
                },
                "left_out": {
                    probe.tap.name: probe.solution.left_out
                    for probe in self.of(labels)
                    if probe.solution.left_out
                },
                "unlabeled": self.unlabeled,
            }
        return found

    def save(self, folder: Path) -> None:
        """Writes report.json, .csv and .md, the probes' weights, and two figures.

        `load` reads the folder. The figures are curve and network, each as .png and .svg.

        Args:
            folder: the folder to write; it is created if necessary, and files of an older report
                are replaced.
        """
        folder = pathlib.Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        weights = {}
        for number, probe in enumerate(self.probes):
            for name in _ARRAYS:
                weights[f"{name}_{number}"] = getattr(probe.solution, name)
        arrays.save(folder / "probes.npz", weights)
        files.write_text(folder / "report.csv", self.table(format="csv"))
        files.write_text(folder / "report.md", self.table(format="markdown"))
        for suffix in ("png", "svg"):
            draw_curves(self, folder / f"curve.{suffix}")
            draw_networks(self, folder / f"network.{suffix}")
        files.write_json(folder / "report.json", self.to_json())

    @classmethod
    def load(cls, folder: Path) -> ProbeReport:
        """Reads a report that `save` wrote.

        Raises:
            FileNotFoundError: the folder holds no report.
            ValueError: a file is incomplete.
        """
        folder = pathlib.Path(folder)
        weights = arrays.load(folder / "probes.npz")
        return cls.from_json(files.read_json(folder / "report.json"), weights=weights)

    def to_json(self) -> dict[str, Any]:
        """Returns a JSON-serializable dict of everything except the probes' weights."""
        value = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        value["reduction"] = dataclasses.asdict(self.reduction)
        value["warnings"] = self.warnings()
        value["model_error"] = {
            labels: {
                output: {split: dataclasses.asdict(m) for split, m in metrics.items()}
                for output, metrics in outputs.items()
            }
            for labels, outputs in self.model_error.items()
        }
        value["probes"] = []
        for probe in self.probes:
            entry = dataclasses.asdict(dataclasses.replace(probe, solution=None))  # type: ignore[arg-type]  # weights are not for JSON
            solution = {
                field.name: getattr(probe.solution, field.name)
                for field in dataclasses.fields(Solution)
                if field.name not in _ARRAYS
            }
            for key in _UNCERTIFIED:
                if not math.isfinite(solution[key]):
                    solution[key] = None
            value["probes"].append({**entry, "solution": solution})
        return value

    @classmethod
    def from_json(
        cls, value: Mapping[str, Any], *, weights: Mapping[str, Array] | None = None
    ) -> ProbeReport:
        """Returns the report from a result of `to_json`, also after conversion to JSON and back.

        Args:
            value: the result of `to_json`.
            weights: standardized_weights_0 (D, K), standardized_bias_0 (K,), mean_0 (D,), scale_0
                (D,), standardized_weights_1, ... of the probes, which `value` doesn't contain.
                Without them, probes have weights (0, K) and a bias of NaN.
        """
        probes = []
        for number, entry in enumerate(value["probes"]):
            found = dict(entry["solution"])
            if weights is None:
                classes = entry["classes"]
                none = np.zeros(0)
                parts = [np.zeros((0, classes)), np.full(classes, np.nan), none, none]
            else:
                parts = [weights[f"{name}_{number}"] for name in _ARRAYS]
            found |= dict(zip(_ARRAYS, parts, strict=True))
            missing = {key: nan for key, nan in _UNCERTIFIED.items() if found[key] is None}
            probes.append(
                Probe(
                    tap=Tap(**{**entry["tap"], "shape": tuple(entry["tap"]["shape"])}),
                    labels=entry["labels"],
                    classes=entry["classes"],
                    solution=Solution(**{**found, **missing}),
                    metrics=_metrics(entry["metrics"]),
                    control=None if entry["control"] is None else _metrics(entry["control"]),
                )
            )
        model_error = {
            labels: {output: _metrics(metrics) for output, metrics in outputs.items()}
            for labels, outputs in value["model_error"].items()
        }
        return cls(
            probes=tuple(probes),
            model_error=model_error,
            chance=dict(value["chance"]),
            edges=tuple((parent, child) for parent, child in value["edges"]),
            reduction=Reduction(**value["reduction"]),
            class_names=tuple(value["class_names"]),
            model=value["model"],
            data=value["data"],
            unlabeled=dict(value.get("unlabeled", {})),
        )


def _rows(report: ProbeReport) -> list[list[tables.Cell]]:
    """Returns the table's header and rows: probes, the model's outputs, and the commonest class."""
    several = len(report.label_names) > 1
    splits, unseen = list(report.probes[0].metrics), report.probes[0].split
    rows: list[dict[str, tables.Cell]] = []

    def add(
        name: str, labels: str, metrics: Mapping[str, Metrics], fitted: dict[str, tables.Cell]
    ) -> None:
        rows.append(
            {
                "tap": name,
                "labels": labels if several else None,
                "mask": fitted.get("mask"),
                "features": fitted.get("features"),
                "left out": fitted.get("left out"),
                "l2": fitted.get("l2"),
                **{f"{split} error": metrics[split].error for split in splits if split in metrics},
                **{f"{split} unlabeled": report.unlabeled.get(split) or None for split in splits},
            }
        )
        if unseen in metrics:
            found = metrics[unseen]
            rows[-1] |= {"±": found.standard_error, "top-5": found.top5_error}
            rows[-1]["nats"] = found.cross_entropy
        rows[-1] |= {
            key: fitted.get(key) for key in ("suboptimality", "evaluations", "selectivity")
        }

    for probe in report.probes:
        solution = probe.solution
        certified = math.isfinite(solution.suboptimality)
        fitted: dict[str, tables.Cell] = {
            "mask": probe.tap.mask or None,
            "features": len(solution.mean),
            "left out": solution.left_out or None,
            "l2": float(f"{solution.l2:.3g}") or None,  # None for a live probe
            "suboptimality": solution.suboptimality if certified else None,
            "evaluations": solution.evaluations,
            "selectivity": probe.selectivity,
        }
        add(probe.tap.name, probe.labels, probe.metrics, fitted)
    for labels, outputs in report.model_error.items():
        for output, metrics in outputs.items():
            add(f"the model's {output}", labels, metrics, {})
    for labels, error in report.chance.items():
        add(COMMONEST, labels, {}, {})
        rows[-1][f"{unseen} error"] = error
    columns = list(dict.fromkeys(key for row in rows for key in row))
    header = [key for key in columns if any(row.get(key) is not None for row in rows)]
    return [list(header), *([row.get(key) for key in header] for row in rows)]


def _cell(value: tables.Cell) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.4f}" if abs(value) >= 1e-3 or value == 0 else f"{value:.1e}"
    return str(value)


def _metrics(splits: Mapping[str, Mapping[str, Any]]) -> dict[str, Metrics]:
    return {split: Metrics(**values) for split, values in splits.items()}
