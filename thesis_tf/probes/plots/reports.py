"""Figures of probes' reports: errors against depth, and the network colored by errors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from thesis_tf._core.types import Path
from thesis_tf.plotting.style import heading
from thesis_tf.probes.plots.curves import draw_curve
from thesis_tf.probes.plots.network import Mark, draw_network

if TYPE_CHECKING:
    from thesis_tf.probes.report import Probe, ProbeReport


def draw_curves(
    reports: ProbeReport | Mapping[str, ProbeReport | tuple[ProbeReport, str]],
    path: Path,
    *,
    labels: str | None = None,
    ylabel: str | None = None,
    log: bool | None = None,
    title: str | None = None,
) -> None:
    """Draws probes' errors against depth, with the model's error as a line (figure 9.4b).

    Points of successive taps are joined if data flow from one to the other: at parallel branches
    the curve has a gap. Dotted lines are the errors of always predicting the commonest class.

    Args:
        reports: a `ProbeReport`; or several, e.g. of several checkpoints, as a dict from the
            curve's label to a report, or to (report, label set).
        path: a .png, .svg or .pdf file.
        labels: the label set; None draws all label sets of a single report, or the first label set
            of each of several reports.
        ylabel: the axis' label; None names the split.
        log: whether the axis is logarithmic, as it says; None decides by the errors, so figures of
            two reports may differ.
        title: the figure's title.
    """
    title = heading(title, _warnings(reports), width=60)
    if not isinstance(reports, Mapping):
        names = reports.label_names if labels is None else [labels]
        reports = {name if len(names) > 1 else "probes": (reports, name) for name in names}
    series, reference, chances, split = {}, None, {}, "test"
    links: set[tuple[str, str]] = set()
    for label, entry in reports.items():
        report, name = entry if isinstance(entry, tuple) else (entry, labels)
        probes = report.of(name)
        name, split = probes[0].labels, probes[0].split
        series[label] = [
            (probe.tap.name, probe.error, probe.metrics[split].standard_error) for probe in probes
        ]
        chances[label] = report.chance[name]
        links |= set(report.edges)
        outputs = list(report.model_error.get(name, {}).values())
        if len(reports) == 1 and outputs:
            reference = outputs[0][split].error
    draw_curve(
        series,
        path,
        ylabel=ylabel or f"{split} error",
        reference=reference,
        chance=chances if len(set(chances.values())) > 1 else next(iter(chances.values())),
        links=links or None,
        log=_spread_out([error for points in series.values() for _, error, _ in points], chances)
        if log is None
        else log,
        title=title,
    )


def draw_networks(
    reports: ProbeReport | Mapping[str, ProbeReport],
    path: Path,
    *,
    labels: str | None = None,
    log: bool | None = None,
    title: str | None = None,
) -> None:
    """Draws a network with each tap in the color of its probe's error (figures 9.5 and 9.9).

    Red is bad, green and blue are good.

    Args:
        reports: a `ProbeReport`; or several of the same network, as a dict from the panel's title
            to a report; panels are drawn below one another.
        path: a .png, .svg or .pdf file.
        labels: the label set; None draws a panel for each label set of a single report, or the
            first label set of each of several reports.
        log: whether colors are logarithmic, as the scale says; None decides by the errors, so
            figures of two reports may differ.
        title: the figure's title.
    """
    title = heading(title, _warnings(reports), width=60)
    if isinstance(reports, Mapping):
        shown = [(panel, report.of(labels), report) for panel, report in reports.items()]
        several = any(len(report.label_names) > 1 for report in reports.values())
    else:
        names = reports.label_names if labels is None else [labels]
        shown = [(n if len(names) > 1 else "", reports.of(n), reports) for n in names]
        several = len(names) == 1 < len(reports.label_names)
    panels: dict[str, dict[str, Mark]] = {}
    edges: tuple[tuple[str, str], ...] = ()
    chances, errors, split, name = {}, [], "test", ""
    for panel, probes, report in shown:
        split, name = probes[0].split, probes[0].labels
        panels[panel] = {probe.tap.name: Mark(probe.error, _tooltip(probe)) for probe in probes}
        edges = edges or report.edges
        chances[panel] = report.chance[name]
        errors += [probe.error for probe in probes]
    if log is None:
        log = _spread_out(errors, chances)
    worst = max(chances.values()) or 1  # it is 0 if all unseen examples have the same class
    draw_network(
        panels,
        edges,
        path,
        value_range=(min(filter(None, errors), default=worst / 10) if log else 0, worst),
        log=log,
        value_label=f"{split} error{f' ({name})' if several else ''}",
        title=title,
    )


def _warnings(
    reports: ProbeReport | Mapping[str, ProbeReport | tuple[ProbeReport, str]],
) -> list[str]:
    """Returns the sentences of reports, after the labels of several."""
    if not isinstance(reports, Mapping):
        return reports.warnings()
    named = {k: v[0] if isinstance(v, tuple) else v for k, v in reports.items()}
    return [f"{name}: {said}" for name, report in named.items() for said in report.warnings()]


def _spread_out(errors: Sequence[float], chances: Mapping[str, float]) -> bool:
    """Whether errors are so far below chance that a linear scale wouldn't distinguish them."""
    least = max(chances.values()) / 10
    return any(0 < error < least for error in errors)


def _tooltip(probe: Probe) -> str:
    lines = [f"{probe.tap.kind} {_shape(probe.tap.shape)}, {len(probe.solution.mean)} features"]
    if probe.solution.left_out:
        lines[0] += f" ({probe.solution.left_out} left out, constant)"
    for split, m in probe.metrics.items():
        lines.append(
            f"{split}: error {m.error:.4f} ± {m.standard_error:.4f}, {m.cross_entropy:.4f} nats"
        )
    if probe.selectivity is not None:
        lines.append(f"selectivity {probe.selectivity:.4f}")
    return "\n".join(lines)


def _shape(shape: tuple[int | None, ...]) -> str:
    return " x ".join("?" if n is None else str(n) for n in shape[1:])
