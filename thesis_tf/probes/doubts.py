"""Why not to trust the errors of probes: sentences for the `warnings()` of a report."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from thesis_tf.reporting import guesses

if TYPE_CHECKING:
    from thesis_tf.probes.metrics import Metrics
    from thesis_tf.probes.report import ProbeReport

# What part of the way from the model's error to chance a live probe's lag must be: less doesn't
# change how errors fall with depth.
LAG = 0.05


def of_fits(report: ProbeReport) -> list[str]:
    """Returns a sentence if fits have not converged.

    Live probes have no certificate and are left out.
    """
    fits = [(probe.solution.suboptimality, probe) for probe in report.probes]
    open_fits = [f for f in fits if math.isfinite(f[0]) and not f[1].solution.converged]
    if not open_fits:
        return []
    worst, probe = max(open_fits, key=lambda fit: fit[0])
    return [
        f"{len(open_fits)} of {len(fits)} probes have not converged: the loss at"
        f" {probe.tap.name} may be {worst:.2g} nats above its minimum. Their errors may be too"
        " large."
    ]


def of_live_probes(report: ProbeReport) -> list[str]:
    """Returns a sentence if a live probe on the model's output is worse than the model itself.

    There a probe has only to copy what it reads, so with enough steps it is as good.
    """
    probe = next((p for p in report.probes if p.tap.name == report.output_tap), None)
    if probe is None:
        return []
    for outputs in report.model_error.get(probe.labels, {}).values():
        own, found = outputs.get(probe.split), probe.metrics[probe.split]
        if own is None or not _is_worse(found, own, report.chance[probe.labels]):
            continue
        return [
            f"After {probe.solution.evaluations} steps the live probe at {probe.tap.name}, which"
            f" reads the model's output, has an error of {found.error:.4f} and the model itself"
            f" {own.error:.4f}: the probes need more steps. Their errors are too large."
        ]
    return []


def of_models(report: ProbeReport) -> list[str]:
    """Returns a sentence for each output of the model that is far worse than a uniform guess.

    The smallest of the splits' cross-entropies counts, since a network that has learned the
    training examples by heart can be arbitrarily bad on others.
    """
    classes = {probe.labels: probe.classes for probe in report.probes}
    said = []
    for labels, outputs in report.model_error.items():
        for output, metrics in outputs.items():
            nats = min((m.cross_entropy for m in metrics.values()), default=math.nan)
            what = f"The cross-entropy of the model's {output}"
            said += guesses.worse_than_uniform(what, nats, math.log(classes.get(labels, 1)))
    return said


def _is_worse(one: Metrics, other: Metrics, chance: float) -> bool:
    spread = 2 * math.hypot(one.standard_error, other.standard_error)
    return one.error - other.error > max(spread, LAG * (chance - other.error))
