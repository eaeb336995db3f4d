"""What probes found: tables, pictures, and the probes themselves."""

import csv
import dataclasses
import io
import math
import pathlib

import numpy as np

from thesis_tf._core import checks
from thesis_tf.persistence import files
from thesis_tf.probes.metrics import Measures
from thesis_tf.probes.plots.curves import draw_curve
from thesis_tf.probes.plots.network import Mark, draw_network
from thesis_tf.probes.reductions import Reduction
from thesis_tf.probes.solver.softmax_regression import Solution
from thesis_tf.probes.taps import Tap

FORMATS = ("console", "csv", "json", "markdown")
KINDS = ("curve", "network")
_UNCERTIFIED = {"loss": math.nan, "gap": math.inf}


@dataclasses.dataclass(frozen=True, eq=False)  # arrays have no truth value
class Probe:
    """One fitted probe.

    Attributes:
        tap: where it is attached.
        labels: the name of the labels that it predicts.
        classes: the number of classes.
        solution: its weights, penalty and certificate. A probe that was trained live has no
            certificate: its gap is infinite.
        measures: a dict from split to `Measures`.
        control: the same for a probe on shuffled labels, or None.
    """

    tap: Tap
    labels: str
    classes: int
    solution: Solution
    measures: dict
    control: dict | None = None

    @property
    def split(self):
        """The split that stands for unseen examples: test, or else validation, or else train."""
        return next(name for name in ("test", "validation", "train") if name in self.measures)

    @property
    def error(self):
        """The error on unseen examples."""
        return self.measures[self.split].error

    @property
    def selectivity(self):
        """How much larger the error on shuffled labels is; None without a control."""
        return None if self.control is None else self.control[self.split].error - self.error


@dataclasses.dataclass(frozen=True, eq=False)  # arrays have no truth value
class ProbeReport:
    """All probes of one model on one data set.

    Attributes:
        probes: `Probe`s in the order of computation.
        own: a dict from label name to a dict from the model's outputs with as many classes to
            their `Measures` by split: the model's own error.
        chance: a dict from label name to the error of always naming the commonest class.
        edges: the data flow among the taps.
        reduction: the `Reduction`.
        class_names: names of the classes, or ().
        model: the hash of the model.
        data: the hash of the data.
    """

    probes: tuple
    own: dict
    chance: dict
    edges: tuple
    reduction: Reduction
    class_names: tuple = ()
    model: str = ""
    data: str = ""

    @property
    def label_names(self):
        """The names of the label sets, in order."""
        return list(dict.fromkeys(probe.labels for probe in self.probes))

    def probe(self, tap, labels=None):
        """Returns the probe at the tap of that name (for the first label set by default)."""
        probes = {probe.tap.name: probe for probe in self.of(labels)}
        if tap not in probes:
            raise KeyError(f"No probe at {tap!r}. {checks.nearest(tap, probes)}")
        return probes[tap]

    def of(self, labels=None):
        """Returns the probes of one label set (the first by default), in order."""
        labels = self.label_names[0] if labels is None else labels
        checks.one_of("`labels`", labels, self.label_names)
        return [probe for probe in self.probes if probe.labels == labels]

    def table(self, format="console"):
        """Returns the results as text: "console", "csv", "json" or "markdown"."""
        checks.one_of("`format`", format, FORMATS)
        if format == "json":
            return files.to_json(self.to_json())
        rows = _table(self)
        if format == "csv":
            text = io.StringIO()
            csv.writer(text, lineterminator="\n").writerows(rows)
            return text.getvalue()
        cells = [[_cell(value) for value in row] for row in rows]
        if format == "markdown":
            cells = [[cell.replace("|", r"\|") for cell in row] for row in cells]
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        head, *body = (
            [row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])] for row in cells
        )
        if format == "console":
            lines = ["  ".join(row).rstrip() for row in (head, *body)]
            lines.insert(1, "-" * max(map(len, lines)))
        else:
            rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
            lines = [f"| {' | '.join(row)} |" for row in (head, rule, *body)]
        return "\n".join(lines) + "\n"

    def draw(self, path, kind="curve", labels=None):
        """Draws the probes' errors to a .png, .svg or .pdf file.

        Args:
            path: the file.
            kind: "curve", the error against depth with the model's own as a line (figure 9.4b),
                or "network", each tap coloured by its error, red for bad and green or blue for
                good (figure 9.5).
            labels: the label set; None draws all in a curve and the first in a network.
        """
        checks.one_of("`kind`", kind, KINDS)
        if kind == "network":
            draw_networks({"": self}, path, labels)
            return
        names = self.label_names if labels is None else [labels]
        draw_curves({name if len(names) > 1 else "probes": (self, name) for name in names}, path)

    def save(self, folder):
        """Writes report.json, .csv and .md, the probes' weights, and both pictures.

        `load` reads the folder again.

        Args:
            folder: made if it is not there; files of an older report are replaced.
        """
        folder = pathlib.Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        arrays = {}
        for number, probe in enumerate(self.probes):
            arrays[f"weights_{number}"] = probe.solution.weights
            arrays[f"bias_{number}"] = probe.solution.bias
        with files.atomic(folder / "probes.npz") as partial:
            np.savez(partial, **arrays)
        files.write_text(folder / "report.csv", self.table("csv"))
        files.write_text(folder / "report.md", self.table("markdown"))
        for kind in KINDS:
            for suffix in ("png", "svg"):
                self.draw(folder / f"{kind}.{suffix}", kind)
        files.write_json(folder / "report.json", self.to_json())

    def to_json(self):
        """Everything but the probes' weights, as plain values."""
        value = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        value["reduction"] = dataclasses.asdict(self.reduction)
        value["own"] = {
            labels: {
                output: {split: dataclasses.asdict(m) for split, m in measures.items()}
                for output, measures in outputs.items()
            }
            for labels, outputs in self.own.items()
        }
        value["probes"] = []
        for probe in self.probes:
            entry = dataclasses.asdict(dataclasses.replace(probe, solution=None))
            solution = {
                field.name: getattr(probe.solution, field.name)
                for field in dataclasses.fields(Solution)
                if field.name not in ("weights", "bias")
            }
            # JSON has no infinity: the loss and gap of a probe without a certificate are null.
            for key in _UNCERTIFIED:
                if not math.isfinite(solution[key]):
                    solution[key] = None
            value["probes"].append({**entry, "solution": solution})
        return value

    @classmethod
    def load(cls, folder):
        """Reads what `save` wrote."""
        folder = pathlib.Path(folder)
        value = files.read_json(folder / "report.json")
        probes = []
        with np.load(folder / "probes.npz", allow_pickle=False) as arrays:
            for number, entry in enumerate(value["probes"]):
                found = entry["solution"]
                missing = {key: nan for key, nan in _UNCERTIFIED.items() if found[key] is None}
                solution = Solution(
                    arrays[f"weights_{number}"], arrays[f"bias_{number}"], **{**found, **missing}
                )
                tap = Tap(**{**entry["tap"], "shape": tuple(entry["tap"]["shape"])})
                control = entry["control"] and _measures(entry["control"])
                probes.append(
                    Probe(
                        tap,
                        entry["labels"],
                        entry["classes"],
                        solution,
                        _measures(entry["measures"]),
                        control,
                    )
                )
        own = {
            labels: {output: _measures(measures) for output, measures in outputs.items()}
            for labels, outputs in value["own"].items()
        }
        return cls(
            **{
                **value,
                "probes": tuple(probes),
                "own": own,
                "edges": tuple(tuple(pair) for pair in value["edges"]),
                "reduction": Reduction(**value["reduction"]),
                "class_names": tuple(value["class_names"]),
            }
        )


def draw_curves(reports, path, ylabel=None, title=None):
    """Draws the curves of several reports into one picture, e.g. of several checkpoints.

    Args:
        reports: a dict from the curve's label to a `ProbeReport`, or to (report, label set).
        path: a .png, .svg or .pdf file.
        ylabel: the axis' label; None names the split.
        title: the picture's title.
    """
    series, reference, chances, split = {}, None, set(), "test"
    for label, entry in reports.items():
        report, labels = entry if isinstance(entry, tuple) else (entry, entry.label_names[0])
        probes = report.of(labels)
        split = probes[0].split
        series[label] = [
            (probe.tap.name, probe.error, probe.measures[split].standard_error) for probe in probes
        ]
        chances.add(report.chance[labels])
        for measures in report.own.get(labels, {}).values():
            if len(reports) == 1:
                reference = measures[split].error if reference is None else reference
    draw_curve(
        series,
        path,
        ylabel=ylabel or f"{split} error",
        reference=reference,
        chance=max(chances) if len(chances) == 1 else None,
        log=_spread_out([error for points in series.values() for _, error, _ in points], chances),
        title=title,
    )


def draw_networks(reports, path, labels=None, title=None):
    """Draws the coloured networks of several reports under one another (figure 9.9).

    Args:
        reports: a dict from the panel's title to a `ProbeReport` of the same network.
        path: a .png, .svg or .pdf file.
        labels: the label set; None takes the first.
        title: the picture's title.
    """
    panels, edges, chances, split = {}, (), set(), "test"
    for panel, report in reports.items():
        probes = report.of(labels)
        split = probes[0].split
        panels[panel] = {probe.tap.name: Mark(probe.error, _tooltip(probe)) for probe in probes}
        edges = edges or report.edges
        chances.add(report.chance[probes[0].labels])
    errors = [mark.value for panel in panels.values() for mark in panel.values()]
    log = _spread_out(errors, chances)
    draw_network(
        panels,
        edges,
        path,
        # Where all unseen examples are of one class chance makes no error either.
        value_range=(min(filter(None, errors)) if log else 0, max(chances) or 1),
        log=log,
        value_label=f"{split} error",
        title=title,
    )


def _spread_out(errors, chances):
    """Whether errors are so far below chance that a linear scale would show them as one."""
    return any(0 < error < max(chances) / 10 for error in errors)


def _tooltip(probe):
    lines = [f"{probe.tap.kind} {_shape(probe.tap.shape)}, {len(probe.solution.weights)} features"]
    for split, m in probe.measures.items():
        lines.append(
            f"{split}: error {m.error:.4f} ± {m.standard_error:.4f}, {m.cross_entropy:.4f} nats"
        )
    if probe.selectivity is not None:
        lines.append(f"selectivity {probe.selectivity:.4f}")
    return "\n".join(lines)


def _shape(shape):
    return " x ".join("?" if n is None else str(n) for n in shape[1:])


def _table(report):
    """The table's header and its rows: one a probe, then one for each of the model's outputs."""
    several = len(report.label_names) > 1
    rows = []
    for probe in report.probes:
        solution = probe.solution
        fitted = {
            "features": len(solution.weights),
            "penalty": float(f"{solution.penalty:.3g}") or None,  # a live probe has none
            "gap": solution.gap if math.isfinite(solution.gap) else None,
            "steps": solution.steps,
            "selectivity": probe.selectivity,
        }
        rows.append((probe.tap.name, probe.labels, probe.measures, fitted))
    for labels, outputs in report.own.items():
        for output, measures in outputs.items():
            rows.append((f"the model's own {output}", labels, measures, {}))
    splits, unseen = list(report.probes[0].measures), report.probes[0].split
    table = [
        {
            "tap": name,
            "labels": labels if several else None,
            "features": fitted.get("features"),
            "penalty": fitted.get("penalty"),
            **{f"{split} error": measures[split].error for split in splits},
            "±": measures[unseen].standard_error,
            "top-5": measures[unseen].top5_error,
            "nats": measures[unseen].cross_entropy,
            **{column: fitted.get(column) for column in ("gap", "steps", "selectivity")},
        }
        for name, labels, measures, fitted in rows
    ]
    header = [key for key in table[0] if any(row[key] is not None for row in table)]
    return [header, *([row[key] for key in header] for row in table)]


def _cell(value):
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.4f}" if abs(value) >= 1e-3 or value == 0 else f"{value:.1e}"
    return str(value)


def _measures(splits):
    return {split: Measures(**values) for split, values in splits.items()}
