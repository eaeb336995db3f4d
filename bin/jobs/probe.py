"""The ways of probing that `bin.probe` offers: checkpoints, before and after training, or live."""

import dataclasses
import pathlib
import re

from bin.common import runs, training
from thesis_tf import hardware, probes


@dataclasses.dataclass(frozen=True)
class Session:
    """What the ways of probing share."""

    config: object
    folder: pathlib.Path
    splits: object
    strategy: object
    shard: tuple
    extract_batch_size: int
    log_every: int
    verbose: str | int

    def build(self, spec):
        """Returns the network; raises if its taps or their reduction are not to be had."""
        classes = self.splits.num_classes if spec.weights == "none" else None
        with self.strategy.scope():
            model = spec.build(self.splits.train.x.shape[1:], classes)
        reduction = probes.Reduction.parse(self.config.reduction)
        for tap in probes.taps(model, list(self.config.taps)):
            reduction.features(tap)
        return model

    def probe(self, model, name=""):
        """Extracts, fits, saves and prints one report; None as long as other shards are missing."""
        config, folder = self.config, self.folder / name
        if (folder / "report.json").exists():
            report = probes.ProbeReport.load(folder)
        else:
            examples, classes, parts = self.splits.stacked()
            labels = {"class": classes}
            if config.labels:
                labels |= factors(config.labels, self.splits)
            with self.strategy.scope():
                store = probes.extract(
                    model,
                    examples,
                    folder / "features",
                    list(config.taps),
                    config.reduction,
                    self.extract_batch_size,
                    seed=config.hardware.seed,
                    shard=self.shard,
                )
            if store is None:
                return None
            report = probes.fit_probes(
                store,
                labels if len(labels) > 1 else classes,
                parts,
                class_names=self.splits.class_names,
                gap=config.gap,
                control=config.control,
                seed=config.hardware.seed,
            )
            report.save(folder)
        print(f"\n{name or model.name}\n{report.table()}", flush=True)
        return report

    def train(self, model, callbacks=()):
        """Trains the network, or goes on training it."""
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

    def compile(self, model):
        """Compiles the network under the strategy."""
        with self.strategy.scope():
            training.compile_for(model, self.config.training)


def factors(path, splits):
    """Reads `--labels`: a dict from factor to labels in the order of `splits.stacked()`."""
    found, wanted = {}, "with arrays named FACTOR_train, FACTOR_test (and FACTOR_validation)"
    for key, array in runs.read_arrays("labels", path, wanted).items():
        factor, _, source = key.rpartition("_")
        if source not in ("train", "validation", "test") or not factor:
            raise ValueError(f"--labels={path} must be an .npz file {wanted}. Received: {key}.")
        found.setdefault(factor, {})[source] = array
    return {factor: splits.gather(values) for factor, values in found.items()}


def checkpoints(session, model):
    """Probes networks as they are; returns the last of them and {name: report}."""
    reports, specs = {}, session.config.models
    names = stage_names([spec.weights for spec in specs])
    for spec, name in zip(specs, names, strict=True):
        model = session.build(spec) if reports else model
        reports[name] = session.probe(model, name)
    return model, reports


def before_and_after(session, model):
    """Probes a network, trains it, and probes it again (figure 9.3)."""
    session.compile(model)
    reports = {"start": session.probe(model, "start")}
    session.train(model)
    return model, {**reports, "end": session.probe(model, "end")}


def live(session, model):
    """Trains a network and its probes side by side; a report after each epoch."""
    config, folder = session.config, session.folder
    session.compile(model)
    monitor = probes.ProbeMonitor(
        list(config.taps),
        config.reduction,
        session.log_every,
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
    print(f"\n{list(reports.values())[-1].table()}", flush=True)
    return model, reports


def draw_side_by_side(reports, folder):
    """Draws the curves and the networks of {name: report}, a picture for each set of labels."""
    for labels in next(iter(reports.values())).label_names:
        ending = "" if labels == "class" else "_" + re.sub(r"\W", "_", labels)
        curves = {name: (report, labels) for name, report in reports.items()}
        for suffix in ("png", "svg"):
            probes.draw_curves(curves, folder / f"curve{ending}.{suffix}")
            probes.draw_networks(reports, folder / f"network{ending}.{suffix}", labels)


def stage_names(weights):
    """A short name for each weights file, "" if there is but one."""
    if len(weights) == 1:
        return [""]
    names = [pathlib.Path(path).name.split(".")[0] for path in weights]
    if len(set(names)) < len(names):
        names = [re.sub(r"\W+", "_", path) for path in weights]
    return names
