r"""Shows how linearly separable the classes are at every layer of a network (thesis, chapter 9).

Without flags it trains the MNIST convnet of figure 9.2 on the bundled data and fits a linear probe
to every layer before and after training (figure 9.3). It writes tables, figures and a SavedModel in
a few minutes:

    python -m bin.probe

A pretrained ResNet-50 (figures 9.4 and 9.5), from a weights file or downloaded by Keras:

    python -m bin.probe --model=resnet50 --weights=resnet50.weights.h5 --dataset=cifar10 \
        --examples=5000,1000,1000 --taps=input,class:Add,conv5_block3_out --reduction=mean \
        --output_dir=runs/resnet50

Several checkpoints of one network side by side (figure 9.9), saved by `bin.train --snapshots`:

    python -m bin.probe --model=skip_mlp --weights=step_0000000.weights.h5,step_0000300.weights.h5 \
        --output_dir=runs/checkpoints

Probes that are trained together with the network, and shown in TensorBoard (after a kill, the
network continues exactly where it was, and its probes start again):

    python -m bin.probe --mode=live --epochs=5 --output_dir=runs/live

Probes of other labels for the same features (section 9.3.6). The .npz file has, for each factor F,
arrays F_train and F_test (and F_validation) in the order of the data set's examples. For a folder
of images, whose order is drawn, labels are a .csv file with the columns file and F, and with the
path of each image in the folder; examples.csv of a run lists these paths in the order of features:

    python -m bin.probe --labels=factors.npz --control --output_dir=runs/factors
    python -m bin.probe --dataset=photos --labels=factors.csv --output_dir=runs/photos

--taps takes names, globs and class:NAME, separated by commas; the error for an unknown name lists
the nearest names.
--reduction is mean (over space or time), subset:K, projection:K, flatten, last or time_mean.
--mask says which steps of padded sequences count in mean, last and time_mean: auto (those that
Keras' masks let through and, where a layer's output has none, those of an input that is a mask by
its name, such as padding_mask), keras (Keras' masks only), none (all steps), or an input's name.
After a kill, the same command continues. Several machines can share the work on a trained network
with --epochs=0, --shard=1/8 ... --shard=8/8 and the same --output_dir; the last one fits the
probes.
"""

import dataclasses
import functools
import pathlib
import re
from typing import TYPE_CHECKING, Literal

from bin.common import configs, contents, ends, flags, runs
from bin.common.flags import option

if TYPE_CHECKING:
    from thesis_tf.probes import ProbeReport
    from thesis_tf.reporting.progress import Verbose

DEFAULT_EPOCHS = 5
# Flags that only one of the two modes uses.
FROZEN_FLAGS = ("labels", "control", "shard")
LIVE_FLAGS = ("log_every",)


def _is_shard(shard: str) -> bool:
    found = re.fullmatch(r"(\d+)/(\d+)", shard)
    return found is not None and 1 <= int(found[1]) <= int(found[2])


@dataclasses.dataclass(frozen=True)
class Config:
    """The settings of one run; a folder with an equal config holds the same run."""

    data: configs.Data
    models: tuple[configs.Model, ...]
    hardware: configs.Hardware
    training: configs.Training
    taps: tuple[str, ...] = option(("*",), "The taps to probe; * is every tap (see above).")
    reduction: str = option(
        "subset:1000", "How outputs are reduced to features (section 9.3.4; see above)."
    )
    mask: str = option("auto", "Which steps of padded sequences count (see above).")
    mode: Literal["frozen", "live"] = option(
        "frozen",
        "frozen: fit probes to a model that doesn't change; live: train them with the model.",
    )
    labels: str | None = option(
        None,
        "An .npz or (for a folder) .csv file with more labels for the same inputs.",
        is_path=True,
        argument="",
    )
    control: bool = option(False, "Also fit shuffled labels; the report gives selectivity.")
    export: bool = option(True, "Write the probed model as a SavedModel.")
    suboptimality: float = option(
        1e-3,
        "Upper bound of a probe's loss above its minimum, in nats.",
        lower_bound=1e-12,
        argument="tol",
    )


@dataclasses.dataclass(frozen=True)
class Work:
    """How a run is computed; these settings don't determine a run."""

    shard: str = option(
        "1/1",
        "Extract the i-th of n shards of the features, e.g. 2/8.",
        valid=_is_shard,
        message="must be i/n with 1 <= i <= n",
    )
    extract_batch_size: int = option(32, "Examples per forward pass.", lower_bound=1)
    log_every: int = option(50, "Steps between entries of a live probe.", lower_bound=1)


flags.define(__name__, Config, Work, configs.Output, defaults={"epochs": DEFAULT_EPOCHS})


def config_from_flags() -> Config:
    """Reads the flags; raises UsageError for a combination that makes no sense."""
    config = flags.read(Config)
    if not flags.given("epochs") and _is_trained(config.models):
        training = dataclasses.replace(config.training, epochs=0)
        config = dataclasses.replace(config, training=training)
    epochs, work = config.training.epochs, flags.read(Work)
    if len(config.models) > 1 and epochs:
        raise runs.UsageError("--epochs trains one network, but --weights names several.")
    if config.mode == "live":
        if not epochs:
            raise runs.UsageError("--mode=live trains the network: set --epochs above 0.")
        runs.refuse_given(FROZEN_FLAGS, "--mode=live doesn't support it")
        runs.refuse_given(
            ("suboptimality", "extract_batch_size"),
            "--mode=live trains probes and doesn't store features",
        )
    else:
        runs.refuse_given(LIVE_FLAGS, "only --mode=live uses it")
    if not epochs:
        unused = set(flags.names(configs.Training)) - {"epochs"}
        runs.refuse_given(unused, "the network is not trained")
    if config.hardware.distribution == "multi_worker":
        raise runs.UsageError(
            "Several machines can share only the extraction, by --shard=i/n: train with bin.train."
        )
    if work.shard != "1/1" and epochs:
        raise runs.UsageError("--shard requires a trained network: use --epochs=0.")
    return config


def _is_trained(models: tuple[configs.Model, ...]) -> bool:
    """Returns whether networks are already trained; several are always read from files."""
    return len(models) > 1 or models[0].weights != "none" or ".keras" in models[0].model


def run(
    config: Config,
    folder: pathlib.Path,
    *,
    begin: runs.Begin = runs.no_folder,
    shard: tuple[int, int] = (1, 1),
    extract_batch_size: int = 32,
    log_every: int = 50,
    warn: ends.Warn = ends.unheard,
    verbose: "Verbose" = 0,
) -> "dict[str, ProbeReport]":
    """Probes according to `config` and writes to `folder`; returns {name: report}.

    `begin` is called after all checks of the arguments, before anything is written; `warn` if a
    report says not to trust it.
    """
    from bin.common import training
    from bin.jobs import factors, probe
    from thesis_tf import hardware, probes

    splits = config.data.load(*config.models)
    labels = factors.read(config.labels, splits) if config.labels else {}
    if config.training.epochs:
        training.planned_steps(splits, config.training)
    strategy = hardware.configure(config.hardware)
    session = probe.Session(
        config=config,
        folder=folder,
        splits=splits,
        factors=labels,
        strategy=strategy,
        shard=shard,
        extract_batch_size=extract_batch_size,
        log_every=log_every,
        verbose=verbose,
    )
    # Invalid networks raise here, before anything is written.
    networks = [session.build(spec) for spec in config.models]
    begin(contents.of_splits(splits))
    factors.write_examples(splits, folder)
    reports: dict[str, ProbeReport] | None
    if config.mode == "live":
        reports = probe.live(session, networks[0])
    elif config.training.epochs:
        reports = probe.before_and_after(session, networks[0])
    else:
        reports = probe.checkpoints(session, networks)
    if reports is None:
        return {}
    for sentence in probe.doubts(reports, trains=config.training.epochs > 0):
        warn(sentence)
    if len(reports) > 1:
        probe.draw_side_by_side(reports, folder)
    if config.export:
        probes.export(networks[-1], list(reports.values())[-1], folder / "saved_model")
    return reports


def main(argv: list[str]) -> None:
    """Flags, config, run."""
    with ends.clean_errors(argv):
        config, work, output = config_from_flags(), flags.read(Work), flags.read(configs.Output)
        folder = runs.claim(output.output_dir or "runs/probe", config, output.overwrite)
        index, count = map(int, work.shard.split("/"))
        doubts: list[str] = []
        reports = run(
            config,
            folder,
            begin=functools.partial(
                runs.begin,
                folder,
                config,
                # One process that does all keeps out those that do parts.
                part="" if count == 1 else work.shard,
                overwrite=output.overwrite,
            ),
            shard=(index, count),
            extract_batch_size=work.extract_batch_size,
            log_every=work.log_every,
            warn=doubts.append,
            verbose=runs.verbose(),
        )
        if reports:
            print(f"All results are in {folder}.")
            ends.conclude(folder, doubts)
        else:
            print(f"Shard {work.shard} is done; the last shard to finish fits the probes.")


if __name__ == "__main__":
    ends.start(main)
