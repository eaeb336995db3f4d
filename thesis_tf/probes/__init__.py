"""Linear classifier probes (thesis, chapter 9): how separable are the classes at each layer?"""

from thesis_tf.probes.callback import ProbeMonitor
from thesis_tf.probes.export import export, export_probes
from thesis_tf.probes.features.extract import extract
from thesis_tf.probes.features.store import FeatureStore
from thesis_tf.probes.fit import fit_probes
from thesis_tf.probes.metrics import Metrics
from thesis_tf.probes.plots.reports import draw_curves, draw_networks
from thesis_tf.probes.reductions import Reduction
from thesis_tf.probes.report import Probe, ProbeReport
from thesis_tf.probes.solver.softmax_regression import Solution
from thesis_tf.probes.taps import Tap, taps

__all__ = [
    "FeatureStore",
    "Metrics",
    "Probe",
    "ProbeMonitor",
    "ProbeReport",
    "Reduction",
    "Solution",
    "Tap",
    "draw_curves",
    "draw_networks",
    "export",
    "export_probes",
    "extract",
    "fit_probes",
    "taps",
]
