"""The modes of `bin.probe`: checkpoints, before and after training, or live."""

from __future__ import annotations

import dataclasses
import functools
import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from bin.common import configs, model_fit, runs, training
from thesis_tf import datasets, hardware, probes
from thesis_tf.errors import ArgumentError

if TYPE_CHECKING:
    import tensorflow as tf

    from bin.probe import Config
    from thesis_tf.reporting.progress import Verbose


@dataclasses.dataclass(frozen=True, kw_only=True)
class Session:
    """The common arguments of the modes.

    Attributes:
        config: the config of the program.
        folder: the output folder.
        splits: the data.
        factors: labels of factors other than the class, in the order of `splits.stacked()`.
        strategy: the distribution strategy.
        shard: (i, n), the shard of the features to extract and the number of shards.
        extract_batch_size: examples per forward pass.
        log_every: steps between entries of live probes.
        verbose: as in Keras.
    """

    config: Config
    folder: pathlib.Path
    splits: datasets.Splits
    factors: Mapping[str, np.ndarray]
    strategy: tf.distribute.Strategy
    shard: tuple[int, int]
    extract_batch_size: int
    log_every: int
    verbose: Verbose

    @functools.cached_property
    def stacked(self) -> tuple[np.ndarray, np.ndarray, dict[str, slice]]:
        """Returns all examples, their classes, and the slices of the splits."""
        return self.splits.stacked()

    def build(self, spec: configs.Model) -> keras.Model:
        """Returns the network; raises if a tap doesn't exist or the reduction can't be applied."""
        classes = self.splits.num_classes if spec.weights == "none" else None
        with self.strategy.scope():
            model = spec.build(self.splits, classes)
        model_fit.check(model, self.splits, labels=bool(self.config.training.epochs))
        reduction, mask = probes.Reduction.parse(self.config.reduction), self.config.mask
        if not reduction.uses_masks:
            if mask != "auto":
                raise runs.UsageError(f"--mask={mask} has no effect on --reduction={reduction}.")
            mask = "none"
        for tap in probes.taps(model, list(self.config.taps), mask=mask):
            reduction.features(tap)
        return model

    def probe(self, model: keras.Model, name: str = "") -> probes.ProbeReport | None:
        """Extracts, fits, saves and prints one report; returns None while shards are missing."""
        config, folder = self.config, self.folder / name
        if (folder / "report.json").exists():
            report = probes.ProbeReport.load(folder)
        else:
            examples, classes, parts = self.stacked
            try:
                with self.strategy.scope():
                    store = probes.extract(
                        model,
                        examples,
                        folder / "features",
                        taps=list(config.taps),
                        reduction=config.reduction,
                        mask=config.mask,
                        batch_size=self.extract_batch_size,
                        seed=config.hardware.seed,
                        shard=self.shard,
                    )
            except ArgumentError as error:
                if error.argument != "batch_size":  # --batch_size is that of training
                    raise
                raise runs.UsageError(error.message_for("--extract_batch_size")) from error
            if store is None:
                return None
            report = probes.fit_probes(
                store,
                {"class": classes, **self.factors} if self.factors else classes,
                parts,
                class_names=self.splits.class_names,
                tol=config.suboptimality,
                control=config.control,
                seed=config.hardware.seed,
            )
            report.save(folder)
        print(f"\n{name or model.name}\n{report.table()}", flush=True)
        return report

    def train(self, model: keras.Model, callbacks: Sequence[Any] = ()) -> None:
        """Trains the network, or continues its training."""
        training.train(
            model,
            self.splits,
            self.config.training,
            self.folder,
            seed=self.config.hardware.seed,
            chief=hardware.is_chief(self.strategy),
            callbacks=callbacks,
            verbose=self.verbose,
        )

    def compile(self, model: keras.Model) -> None:
        """Compiles the network under the strategy."""
        with self.strategy.scope():
            training.compile_for(model, self.config.training)


def checkpoints(
    session: Session, networks: Sequence[keras.Model]
) -> dict[str, probes.ProbeReport] | None:
    """Probes networks without training; returns {name: report}, None while shards are missing."""
    reports = {}
    names = stage_names([spec.weights for spec in session.config.models])
    for model, name in zip(networks, names, strict=True):
        reports[name] = session.probe(model, name)
    return _complete(reports)


def before_and_after(session: Session, model: keras.Model) -> dict[str, probes.ProbeReport] | None:
    """Probes a network, trains it, and probes it again (figure 9.3)."""
    session.compile(model)
    start = session.probe(model, "start")
    session.train(model)
    return _complete({"start": start, "end": session.probe(model, "end")})


def _complete(
    reports: Mapping[str, probes.ProbeReport | None],
) -> dict[str, probes.ProbeReport] | None:
    found = {name: report for name, report in reports.items() if report is not None}
    return found if len(found) == len(reports) else None


def live(session: Session, model: keras.Model) -> dict[str, probes.ProbeReport]:
    """Trains a network and its probes at the same time, with a report after each epoch."""
    config, folder = session.config, session.folder
    session.compile(model)
    monitor = probes.ProbeMonitor(
        list(config.taps),
        reduction=config.reduction,
        mask=config.mask,
        log_every=session.log_every,
        num_classes=session.splits.num_classes,
        log_dir=folder / "logs",
        seed=config.hardware.seed,
    )
    session.train(model, [monitor])
    for step, report in monitor.reports.items():
        report.save(folder / f"step_{step:07d}")
    reports = {
        path.parent.name: probes.ProbeReport.load(path.parent)
        for path in sorted(folder.glob("step_*/report.json"))
    }
    if not reports:
        raise runs.UsageError(
            f"The training in {folder} has ended, but a kill came before its probes were saved."
            " Delete the folder, or choose another --output_dir."
        )
    print(f"\n{list(reports.values())[-1].table()}", flush=True)
    return reports


def doubts(reports: Mapping[str, probes.ProbeReport], *, trains: bool) -> list[str]:
    """Returns the sentences of {name: report} that say not to trust them, with their names.

    Args:
        reports: the reports, those of a training in the order of its steps.
        trains: whether they are of one training: then the model's own errors, and what is told by
            them of live probes, count at its end only.
    """
    *early, _ = reports
    said = []
    for name, report in reports.items():
        if trains and name in early:
            report = dataclasses.replace(report, model_error={})
        said += [f"{name}: {s}" if early else s for s in report.warnings()]
    return said


def draw_side_by_side(reports: Mapping[str, probes.ProbeReport], folder: pathlib.Path) -> None:
    """Draws the curves and the networks of {name: report}, one figure per set of labels."""
    for labels in next(iter(reports.values())).label_names:
        ending = "" if labels == "class" else "_" + re.sub(r"\W", "_", labels)
        curves = {name: (report, labels) for name, report in reports.items()}
        for suffix in ("png", "svg"):
            probes.draw_curves(curves, folder / f"curve{ending}.{suffix}")
            probes.draw_networks(reports, folder / f"network{ending}.{suffix}", labels=labels)


def stage_names(weights: Sequence[str]) -> list[str]:
    """Returns a short name for each weights file, "" if there is only one."""
    if len(weights) == 1:
        return [""]
    names = [pathlib.Path(path).name.split(".")[0] for path in weights]
    if len(set(names)) < len(names):
        names = [re.sub(r"\W+", "_", path) for path in weights]
    return names
