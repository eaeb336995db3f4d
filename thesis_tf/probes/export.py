"""Export of a probed model, or of probes only, as a SavedModel for TensorFlow and its Serving."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import keras
import tensorflow as tf

from thesis_tf._core import checks, saved_model
from thesis_tf._core.types import Path, Structure
from thesis_tf.probes.report import ProbeReport
from thesis_tf.probes.solver.standardized import logits
from thesis_tf.probes.taps import features, forward, record_taps


def export(
    model: keras.Model, report: ProbeReport, path: Path, *, inputs: Structure | None = None
) -> None:
    """Writes a SavedModel of `model` with its probes.

    Its signatures take the model's inputs, with any number of examples, and return dicts:

        serve     the model's outputs ("output", or "output/KEY" if there are several); also the
                  default signature of TensorFlow Serving, `serving_default`
        probes    the logits of each probe (batch, K), by tap ("TAP [LABELS]" if the report has
                  several label sets)
        features  the features (batch, D) of each probe, by tap, with the masks of the report

    `tf.saved_model.load(path).signatures["probes"](inputs=x)` needs neither Keras nor this library.

    Args:
        model: the Keras model of the report.
        report: a `ProbeReport`.
        path: the SavedModel's folder; an existing SavedModel is replaced.
        inputs: an example of the inputs, or `tf.TensorSpec`s with the batch axis; only needed for
            a model that is not built yet, or a subclassed model with several inputs.

    Raises:
        ValueError: a tap of the report is not in the model or has another number of features, or
            the shapes of the model's inputs are unknown.
        FileExistsError: `path` holds something other than a SavedModel.
    """
    saved_model.check_path(path)
    graph = record_taps(model, inputs=inputs)
    taps = list({probe.tap.name: probe.tap for probe in report.probes}.values())
    for tap in graph.select(taps):
        expected = len(report.probe(tap.name, labels=_labels_at(report, tap.name)).solution.mean)
        found = report.reduction.features(tap)
        if found != expected:
            raise checks.invalid(
                f"`model`: tap {tap.name!r}", f"of {expected} features, as in the report", found
            )
    run_model = forward(model, [])
    reduced = features(model, taps, report.reduction)
    spec = _named(graph.spec)
    module = tf.Module()
    # Only attributes of the module are saved.
    module.variables_ = [variable.value for variable in model.variables]
    module.probes = _Probes(report)
    functions = {
        "serve": lambda x: _by_path("output", run_model(x)[0]),
        "probes": lambda x: module.probes(reduced(x).features),
        "features": lambda x: reduced(x).features,
    }
    signatures = {name: _signature(function, spec) for name, function in functions.items()}
    saved_model.save(module, path, {**signatures, "serving_default": signatures["serve"]})


def export_probes(report: ProbeReport, path: Path) -> None:
    """Writes a SavedModel of the probes without the model.

    Its only signature, `probes` (also `serving_default`), takes one float tensor (batch, D) per
    tap. Its name is that of the tap, with underscores for all characters except letters and digits.
    It returns logits like `export`.

    Args:
        report: a `ProbeReport`.
        path: the SavedModel's folder; an existing SavedModel is replaced.

    Raises:
        FileExistsError: `path` holds something other than a SavedModel.
    """
    saved_model.check_path(path)
    arguments = {}
    for probe in report.probes:
        weights = probe.solution.standardized_weights
        name = argument_name(probe.tap.name)
        arguments[probe.tap.name] = tf.TensorSpec((None, len(weights)), weights.dtype, name)
    module = tf.Module()
    module.probes = _Probes(report)
    signature = _signature(module.probes, arguments)
    saved_model.save(module, path, {"probes": signature, "serving_default": signature})


class _Probes(tf.Module):
    """All probes of a report as variables: features by tap to logits by tap."""

    def __init__(self, report: ProbeReport) -> None:
        super().__init__()
        several = len(report.label_names) > 1
        self._parts: list[tuple[tf.Variable, ...]] = []
        self._limits: list[float | None] = []
        self._where: list[tuple[str, str]] = []
        for probe in report.probes:
            solution, name = probe.solution, probe.tap.name
            # Not as one affine map of features, which would lose the digits of those far from zero.
            arrays = (
                solution.mean,
                solution.scale,
                solution.standardized_weights,
                solution.standardized_bias,
            )
            self._parts.append(tuple(map(tf.Variable, arrays)))
            self._limits.append(solution.limit)
            self._where.append((name, f"{name} [{probe.labels}]" if several else name))

    def __call__(self, features: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        found = {}
        for (tap, output), parts, limit in zip(self._where, self._parts, self._limits, strict=True):
            mean, scale, weights, bias = map(tf.convert_to_tensor, parts)
            found[output] = logits(features[tap], mean, scale, weights, bias, limit)
        return found


def argument_name(tap: str) -> str:
    """Returns the argument of `export_probes`' signature for a tap, e.g. "encoder_dense_2"."""
    name = re.sub(r"\W", "_", tap)
    return name if name[0].isalpha() else f"tap_{name}"


def _labels_at(report: ProbeReport, tap: str) -> str:
    return next(probe.labels for probe in report.probes if probe.tap.name == tap)


def _named(spec: Any) -> Any:
    """Gives each input a valid name for a signature, and an unknown batch size if possible."""
    leaves = keras.tree.flatten_with_path(spec)
    names = [argument_name("_".join(map(str, path)) or "inputs") for path, _ in leaves]
    flat = [
        tf.TensorSpec(leaf.shape, leaf.dtype, name)
        for (_, leaf), name in zip(leaves, names, strict=True)
    ]
    return keras.tree.pack_sequence_as(spec, flat)


def _by_path(name: str, tensors: Any) -> dict[str, tf.Tensor]:
    leaves = keras.tree.flatten_with_path(tensors)
    if len(leaves) == 1:
        return {name: leaves[0][1]}
    return {"/".join([name, *map(str, path)]): leaf for path, leaf in leaves}


def _signature(function: Callable[..., Any], spec: Any) -> Any:
    """Traces `function` of one structure of tensors as a function of its named leaves."""
    return tf.function(function, autograph=False).get_concrete_function(spec)
