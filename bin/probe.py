r"""Shows how linearly separable the classes are at every layer of a network (thesis, chapter 9).

With no flags it trains the MNIST convnet of figure 9.2 on the bundled data and fits a linear probe
to every layer before and after (figure 9.3): tables, pictures and a SavedModel in a few minutes.

    python -m bin.probe

A pretrained ResNet-50 (figures 9.4 and 9.5), from a weights file or downloaded by Keras:

    python -m bin.probe --model=resnet50 --weights=resnet50.weights.h5 --dataset=cifar10 \
        --examples=5000,1000,1000 --taps=input,class:Add,conv5_block3_out --reduction=mean \
        --output_dir=runs/resnet50

Several checkpoints of one network side by side (figure 9.9), as `bin.train --snapshots` keeps them:

    python -m bin.probe --model=skip_mlp --weights=step_0000000.weights.h5,step_0001000.weights.h5 \
        --output_dir=runs/checkpoints

Probes that are trained beside the network while it trains, watched in TensorBoard:

    python -m bin.probe --mode=live --epochs=5 --output_dir=runs/live

Other questions of the same features (section 9.3.6), from an .npz file with, for each factor F,
F_train and F_test (and F_valid) in the order of the data set's own examples:

    python -m bin.probe --labels=factors.npz --control --output_dir=runs/factors

--taps takes names, globs and class:NAME, separated by commas; a wrong one lists the nearest.
--reduction is mean (over space or time), subset:K, projection:K, flatten, last or time_mean.
The same command after a kill goes on where it was. Several machines share the work on a trained
network with --epochs=0, --shard=1/8 ... --shard=8/8 and one --output_dir; the last fits the probes.
"""

import dataclasses
import functools
import pathlib
import re

from absl import app, flags

from bin import flags_common, runs

FLAGS = flags.FLAGS
flags.DEFINE_list("taps", "*", "Where to probe.")
flags.DEFINE_string("reduction", "subset:1000", "From activations to features (section 9.3.4).")
flags.DEFINE_enum("mode", "frozen", ["frozen", "live"], "Fit probes to a model, or beside it.")
flags.DEFINE_string("labels", None, "An .npz file with more labels for the same inputs.")
flags.DEFINE_bool("control", False, "Also fit shuffled labels; the report gives selectivity.")
flags.DEFINE_bool("export", True, "Write the probed model as a SavedModel.")
flags.DEFINE_float("gap", 1e-3, "How close to its minimum each probe's loss is, in nats.", 1e-12)
flags.DEFINE_integer("extract_batch_size", 32, "Examples a forward pass.", lower_bound=1)
flags.DEFINE_integer("log_every", 50, "Steps between entries of a live probe.", lower_bound=1)
flags.DEFINE_string("shard", "1/1", "Extract the i-th of n parts, e.g. 2/8.")
flags_common.use(
    __name__,
    flags_common.OUTPUT,
    flags_common.DATA,
    flags_common.MODEL,
    flags_common.TRAINING,
    flags_common.HARDWARE,
)
flags.register_validator(
    "shard",
    lambda shard: (m := re.fullmatch(r"(\d+)/(\d+)", shard)) and 1 <= int(m[1]) <= int(m[2]),
    "must be i/n with 1 <= i <= n",
)
DEFAULT_EPOCHS = 5


@dataclasses.dataclass(frozen=True)
class Config:
    """What one run is; a folder with an equal one holds the same run."""

    data: flags_common.Data
    models: tuple
    hardware: flags_common.Hardware
    training: flags_common.Training
    taps: tuple
    reduction: str
    mode: str
    labels: str | None
    control: bool
    export: bool
    gap: float


def config_from_flags():
    """Reads FLAGS; raises runs.UsageError for a combination that makes no sense."""
    models = flags_common.models()
    untrained = len(models) == 1 and models[0].weights == "none" and ".keras" not in models[0].model
    epochs = FLAGS.epochs if FLAGS.epochs is not None else DEFAULT_EPOCHS if untrained else 0
    if len(models) > 1 and epochs:
        raise runs.UsageError("--epochs trains one network; --weights names several.")
    if FLAGS.mode == "live":
        if not epochs:
            raise runs.UsageError("--mode=live trains the network: give --epochs.")
        if FLAGS.labels or FLAGS.control or FLAGS.shard != "1/1":
            raise runs.UsageError("--labels, --control and --shard belong to --mode=frozen.")
    if FLAGS.distribution == "multi_worker":
        raise runs.UsageError(
            "Several machines share the extraction by --shard=i/n; train with bin.train."
        )
    if FLAGS.shard != "1/1" and epochs:
        raise runs.UsageError("--shard extracts features of a trained network: give --epochs=0.")
    return Config(
        data=flags_common.data(),
        models=models,
        hardware=flags_common.hardware(),
        training=flags_common.training(epochs),
        taps=tuple(FLAGS.taps),
        reduction=FLAGS.reduction,
        mode=FLAGS.mode,
        labels=FLAGS.labels,
        control=FLAGS.control,
        export=FLAGS.export,
        gap=FLAGS.gap,
    )


@dataclasses.dataclass(frozen=True)
class Session:
    """What the ways of probing share."""

    config: Config
    folder: pathlib.Path
    splits: object
    strategy: object
    shard: tuple
    extract_batch_size: int
    log_every: int
    verbose: str | int

    def build(self, spec):
        """Returns the network; raises if its taps or their reduction are not to be had."""
        from thesis_tf import probes

        classes = self.splits.num_classes if spec.weights == "none" else None
        with self.strategy.scope():
            model = spec.build(self.splits.train.x.shape[1:], classes)
        reduction = probes.Reduction.parse(self.config.reduction)
        for tap in probes.taps(model, list(self.config.taps)):
            reduction.features(tap)
        return model

    def probe(self, model, name=""):
        """Extracts, fits, saves and prints one report; None as long as other shards are missing."""
        from thesis_tf import probes

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
        from bin import training
        from thesis_tf import distribution

        training.train(
            model,
            self.splits,
            self.config.training,
            self.folder,
            seed=self.config.hardware.seed,
            chief=distribution.is_chief(self.strategy),
            callbacks=callbacks,
            verbose=self.verbose,
        )

    def compile(self, model):
        """Compiles the network under the strategy."""
        from bin import training

        with self.strategy.scope():
            training.compile_for(model, self.config.training)


def factors(path, splits):
    """Reads `--labels`: a dict from factor to labels in the order of `splits.stacked()`."""
    import numpy as np

    if not pathlib.Path(path).is_file():
        raise ValueError(f"--labels must be an .npz file. Received: {path}, which is not there.")
    found = {}
    with np.load(path, allow_pickle=False) as arrays:
        for key in arrays.files:
            factor, _, source = key.rpartition("_")
            if source not in ("train", "valid", "test") or not factor:
                raise ValueError(
                    f"{path} must hold arrays named FACTOR_train, FACTOR_test (and FACTOR_valid)."
                    f" Received: {key}."
                )
            found.setdefault(factor, {})[source] = arrays[key]
    return {factor: splits.gather(values) for factor, values in found.items()}


def probe_checkpoints(session, model):
    """Probes networks as they are; returns the last of them and {name: report}."""
    reports, specs = {}, session.config.models
    names = stage_names([spec.weights for spec in specs])
    for spec, name in zip(specs, names, strict=True):
        model = session.build(spec) if reports else model
        reports[name] = session.probe(model, name)
    return model, reports


def probe_before_and_after(session, model):
    """Probes a network, trains it, and probes it again (figure 9.3)."""
    session.compile(model)
    reports = {"start": session.probe(model, "start")}
    session.train(model)
    return model, {**reports, "end": session.probe(model, "end")}


def probe_live(session, model):
    """Trains a network and its probes side by side; a report after each epoch."""
    from thesis_tf import probes

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
    from thesis_tf import probes

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


def run(
    config,
    folder,
    *,
    begin=lambda: None,
    shard=(1, 1),
    extract_batch_size=32,
    log_every=50,
    verbose=0,
):
    """Does what `config` says and writes to `folder`; returns {name: report}.

    `begin` is called once all is known to fit, before anything is written.
    """
    from thesis_tf import distribution, probes

    splits = config.data.load()
    if config.labels:
        factors(config.labels, splits)
    if config.training.epochs:
        from bin import training

        training.steps_an_epoch(splits, config.training)
    strategy = distribution.configure(config.hardware)
    session = Session(
        config, folder, splits, strategy, shard, extract_batch_size, log_every, verbose
    )
    for spec in reversed(config.models):
        model = session.build(spec)
    begin()
    if config.mode == "live":
        model, reports = probe_live(session, model)
    elif config.training.epochs:
        model, reports = probe_before_and_after(session, model)
    else:
        model, reports = probe_checkpoints(session, model)
    if None in reports.values():
        return {}
    if len(reports) > 1:
        draw_side_by_side(reports, folder)
    if config.export:
        probes.export(model, list(reports.values())[-1], folder / "saved_model")
    return reports


def main(argv):
    """Flags, config, run."""
    with runs.clean_errors(argv):
        config = config_from_flags()
        folder = runs.claim(FLAGS.output_dir or "runs/probe", config, FLAGS.overwrite)
        reports = run(
            config,
            folder,
            begin=functools.partial(runs.begin, folder, config),
            shard=tuple(map(int, FLAGS.shard.split("/"))),
            extract_batch_size=FLAGS.extract_batch_size,
            log_every=FLAGS.log_every,
            verbose=runs.progress(),
        )
        if reports:
            print(f"All tables and pictures are in {folder}.")
        else:
            print(f"Shard {FLAGS.shard} is done; the last of them to finish fits the probes.")


if __name__ == "__main__":
    app.run(main)
