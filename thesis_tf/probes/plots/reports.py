"""Figures of probes' reports: errors against depth, and the network colored by errors."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
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
    title: str | None = None,
) -> None:
    """Draws probes' errors against depth, with the model's error as a line (figure 9.4b).

    Args:
        reports: a `ProbeReport`; or several, e.g. of several checkpoints, as a dict from the
            curve's label to a report, or to (report, label set).
        path: a .png, .svg or .pdf file.
        labels: the label set; None draws all label sets of a single report, or the first label set
            of each of several reports.
        ylabel: the axis' label; None names the split.
        title: the figure's title.
    """
    title = heading(title, _warnings(reports), width=60)
    if not isinstance(reports, Mapping):
        names = reports.label_names if labels is None else [labels]
        reports = {name if len(names) > 1 else "probes": (reports, name) for name in names}
    series, reference, chances, split = {}, None, set(), "test"
    for label, entry in reports.items():
        report, name = entry if isinstance(entry, tuple) else (entry, labels)
        probes = report.of(name)
        name, split = probes[0].labels, probes[0].split
        series[label] = [
            (probe.tap.name, probe.error, probe.metrics[split].standard_error) for probe in probes
        ]
        chances.add(report.chance[name])
        outputs = list(report.model_error.get(name, {}).values())
        if len(reports) == 1 and outputs:
            reference = outputs[0][split].error
    draw_curve(
        series,
        path,
        ylabel=ylabel or f"{split} error",
        reference=reference,
        chance=max(chances) if len(chances) == 1 else None,
        log=_spread_out((error for points in series.values() for _, error, _ in points), chances),
        title=title,
    )


def draw_networks(
    reports: ProbeReport | Mapping[str, ProbeReport],
    path: Path,
    *,
    labels: str | None = None,
    title: str | None = None,
) -> None:
    """Draws a network with each tap in the color of its probe's error (figures 9.5 and 9.9).

    Red is bad, green and blue are good.

    Args:
        reports: a `ProbeReport`; or several of the same network, as a dict from the panel's title
            to a report; panels are drawn below one another.
        path: a .png, .svg or .pdf file.
        labels: the label set; None uses the first.
        title: the figure's title.
    """
    title = heading(title, _warnings(reports), width=60)
    if not isinstance(reports, Mapping):
        reports = {"": reports}
    panels: dict[str, dict[str, Mark]] = {}
    edges: tuple[tuple[str, str], ...] = ()
    chances, split = set(), "test"
    for panel, report in reports.items():
        probes = report.of(labels)
        split = probes[0].split
        panels[panel] = {probe.tap.name: Mark(probe.error, _tooltip(probe)) for probe in probes}
        edges = edges or report.edges
        chances.add(report.chance[probes[0].labels])
    errors = [probe.error for report in reports.values() for probe in report.of(labels)]
    log = _spread_out(errors, chances)
    draw_network(
        panels,
        edges,
        path,
        # If all unseen examples have the same class, `chance` is 0.
        value_range=(min(filter(None, errors)) if log else 0, max(chances) or 1),
        log=log,
        value_label=f"{split} error",
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


def _spread_out(errors: Iterable[float], chances: Iterable[float]) -> bool:
    """Whether errors are so far below chance that a linear scale wouldn't distinguish them."""
    least = max(chances) / 10
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
