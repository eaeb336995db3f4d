r"""Shows how linearly separable the classes are at every layer of a network (thesis, chapter 9).

With no flags it trains the MNIST convnet of figure 9.2 on the bundled data and fits a linear probe
to every layer before and after (figure 9.3): tables, figures and a SavedModel in a few minutes.

    python -m bin.probe

A pretrained ResNet-50 (figures 9.4 and 9.5), from a weights file or downloaded by Keras:

    python -m bin.probe --model=resnet50 --weights=resnet50.weights.h5 --dataset=cifar10 \
        --examples=5000,1000,1000 --taps=input,class:Add,conv5_block3_out --reduction=mean \
        --output_dir=runs/resnet50

Several checkpoints of one network side by side (figure 9.9), as `bin.train --snapshots` keeps them:

    python -m bin.probe --model=skip_mlp --weights=step_0000000.weights.h5,step_0000300.weights.h5 \
        --output_dir=runs/checkpoints

Probes that are trained beside the network while it trains, watched in TensorBoard (after a kill the
network goes on exactly and its probes begin anew):

    python -m bin.probe --mode=live --epochs=5 --output_dir=runs/live

Other questions of the same features (section 9.3.6), from an .npz file with, for each factor F,
F_train and F_test (and F_validation) in the order of the data set's own examples:

    python -m bin.probe --labels=factors.npz --control --output_dir=runs/factors

--taps takes names, globs and class:NAME, separated by commas; a wrong one lists the nearest.
--reduction is mean (over space or time), subset:K, projection:K, flatten, last or time_mean.
The same command after a kill goes on where it was. Several machines share the work on a trained
network with --epochs=0, --shard=1/8 ... --shard=8/8 and one --output_dir; the last fits the probes.
"""

from __future__ import annotations

import dataclasses
import functools
import pathlib
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

from absl import app, flags

from bin.common import configs, runs

if TYPE_CHECKING:
    from thesis_tf.probes import ProbeReport

Verbose = Literal["auto", 0, 1, 2]

FLAGS = flags.FLAGS
flags.DEFINE_list("taps", "*", "Where to probe; * is every place (see above).")
flags.DEFINE_string("reduction", "subset:1000", "From outputs to features (section 9.3.4).")
flags.DEFINE_enum("mode", "frozen", ["frozen", "live"], "Fit probes to a model, or beside it.")
flags.DEFINE_string("labels", None, "An .npz file with more labels for the same inputs.")
flags.DEFINE_bool("control", False, "Also fit shuffled labels; the report gives selectivity.")
flags.DEFINE_bool("export", True, "Write the probed model as a SavedModel.")
flags.DEFINE_float(
    "suboptimality", 1e-3, "How far above its minimum a probe's loss may be, in nats.", 1e-12
)
flags.DEFINE_integer("extract_batch_size", 32, "Examples per forward pass.", lower_bound=1)
flags.DEFINE_integer("log_every", 50, "Steps between entries of a live probe.", lower_bound=1)
flags.DEFINE_string("shard", "1/1", "Extract the i-th of n parts, e.g. 2/8.")
configs.use(
    __name__,
    configs.OUTPUT,
    configs.DATA,
    configs.MODEL,
    configs.TRAINING,
    configs.HARDWARE,
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

    data: configs.Data
    models: tuple[configs.Model, ...]
    hardware: configs.Hardware
    training: configs.Training
    taps: tuple[str, ...]
    reduction: str
    mode: str
    labels: str | None
    control: bool
    export: bool
    suboptimality: float


def config_from_flags() -> Config:
    """Reads FLAGS; raises runs.UsageError for a combination that makes no sense."""
    models = configs.models()
    untrained = len(models) == 1 and models[0].weights == "none" and ".keras" not in models[0].model
    epochs = FLAGS.epochs if FLAGS.epochs is not None else DEFAULT_EPOCHS if untrained else 0
    if len(models) > 1 and epochs:
        raise runs.UsageError("--epochs trains one network; --weights names several.")
    if FLAGS.mode == "live":
        if not epochs:
            raise runs.UsageError("--mode=live trains the network: give --epochs.")
        if FLAGS.labels or FLAGS.control or FLAGS.shard != "1/1":
            raise runs.UsageError("--labels, --control and --shard belong to --mode=frozen.")
        runs.refuse_given(
            ("suboptimality", "extract_batch_size"),
            "probes of --mode=live are trained, and no features are kept",
        )
    else:
        runs.refuse_given(["log_every"], "it belongs to --mode=live")
    if not epochs:
        runs.refuse_given(set(configs.TRAINING) - {"epochs"}, "the network is not trained")
    if FLAGS.distribution == "multi_worker":
        raise runs.UsageError(
            "Several machines share the extraction by --shard=i/n; train with bin.train."
        )
    if FLAGS.shard != "1/1" and epochs:
        raise runs.UsageError("--shard extracts features of a trained network: give --epochs=0.")
    return Config(
        data=configs.data(),
        models=models,
        hardware=configs.hardware(),
        training=configs.training(epochs),
        taps=tuple(FLAGS.taps),
        reduction=FLAGS.reduction,
        mode=FLAGS.mode,
        labels=FLAGS.labels and configs.expanded(FLAGS.labels),
        control=FLAGS.control,
        export=FLAGS.export,
        suboptimality=FLAGS.suboptimality,
    )


def run(
    config: Config,
    folder: pathlib.Path,
    *,
    begin: Callable[[], None] = lambda: None,
    shard: tuple[int, int] = (1, 1),
    extract_batch_size: int = 32,
    log_every: int = 50,
    verbose: Verbose = 0,
) -> dict[str, ProbeReport]:
    """Probes as `config` says and writes to `folder`; returns {name: report}.

    `begin` is called once everything is known to fit, before anything is written.
    """
    from bin.common import training
    from bin.jobs import probe
    from thesis_tf import hardware, probes

    splits = config.data.load()
    factors = probe.factors(config.labels, splits) if config.labels else {}
    if config.training.epochs:
        training.steps_an_epoch(splits, config.training)
    strategy = hardware.configure(config.hardware)
    session = probe.Session(
        config=config,
        folder=folder,
        splits=splits,
        factors=factors,
        strategy=strategy,
        shard=shard,
        extract_batch_size=extract_batch_size,
        log_every=log_every,
        verbose=verbose,
    )
    # Those that are wrong stop the program before it writes anything.
    networks = [session.build(spec) for spec in config.models]
    begin()
    reports: dict[str, ProbeReport] | None
    if config.mode == "live":
        reports = probe.live(session, networks[0])
    elif config.training.epochs:
        reports = probe.before_and_after(session, networks[0])
    else:
        reports = probe.checkpoints(session, networks)
    if reports is None:
        return {}
    if len(reports) > 1:
        probe.draw_side_by_side(reports, folder)
    if config.export:
        probes.export(networks[-1], list(reports.values())[-1], folder / "saved_model")
    return reports


def main(argv: list[str]) -> None:
    """Flags, config, run."""
    with runs.clean_errors(argv):
        config = config_from_flags()
        folder = runs.claim(FLAGS.output_dir or "runs/probe", config, FLAGS.overwrite)
        reports = run(
            config,
            folder,
            begin=functools.partial(runs.begin, folder, config, FLAGS.shard),
            shard=(int(FLAGS.shard.split("/")[0]), int(FLAGS.shard.split("/")[1])),
            extract_batch_size=FLAGS.extract_batch_size,
            log_every=FLAGS.log_every,
            verbose=runs.progress(),
        )
        if reports:
            print(f"All tables and figures are in {folder}.")
        else:
            print(f"Shard {FLAGS.shard} is done; the last of them to finish fits the probes.")


if __name__ == "__main__":
    app.run(main)
