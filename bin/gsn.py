r"""Trains a generative stochastic network, samples from it, in-paints and estimates likelihoods.

Thesis, chapter 5. With no flags it trains the network of figure 5.5 with two hidden layers on the
bundled digits, runs chains, completes halves of images, and scores what it drew, in a few minutes
on two cores:

    python -m bin.gsn

A few more:

    # Table 5.1: GSN-2, a walkback auto-encoder and a plain one, on the whole of MNIST.
    python -m bin.gsn --dataset=mnist --data_dir=~/data --epochs=25 --output_dir=runs/gsn2
    python -m bin.gsn --dataset=mnist --data_dir=~/data --epochs=25 --network=dae --layers=2000 \
        --output_dir=runs/walkback_dae
    python -m bin.gsn --dataset=mnist --data_dir=~/data --epochs=25 --network=dae --layers=2000 \
        --walkback_steps=1 --output_dir=runs/dae
    # Scaling factors of walkback (figure 5.9).
    python -m bin.gsn --scaling --output_dir=runs/scaling
    # Colour images, real values: a convolutional auto-encoder with Normal outputs.
    python -m bin.gsn --dataset=cifar10 --data_dir=~/data --network=conv_dae --layers=32,64,128 \
        --outputs=normal --corruption=gaussian --corruption_level=.2 --output_dir=runs/cifar10
    # More of a network that is trained: longer chains, then the upper half of images.
    python -m bin.gsn --do=sample,evaluate --chain_steps=20000 --num_steps_between_results=1 \
        --output_dir=runs/gsn2
    python -m bin.gsn --do=inpaint --known=top --output_dir=runs/gsn2

The same command after a kill goes on. Once a network is trained, --do without train takes its
settings from --output_dir, so flags of data, network and training are left out, but for --data_dir
if the data have moved. It writes there:

    model.keras, sheets/       the network; samples after every few epochs
    logs/                      losses, scaling factors and samples for TensorBoard
    saved_model/               the transition kernel for TensorFlow Serving: step, inpaint
    sampled/SETTINGS/          chains in pieces, samples.png (a row a chain), mixing.json, and
                               evaluation.json
    inpainted/SETTINGS/        completions.png, .npz and inpainting.json

In evaluation.json, parzen takes as many samples as there are training examples beside it, evenly
from all chains, and parzen_of_all_samples takes all; chain_log_likelihood is the mean over chains,
each alone. quality is measured by a classifier of real examples: the mean confidence (largest
probability) and entropy per sample; spurious, the fraction of samples with no class above .5;
class_entropy of all samples (2.3 for ten equally frequent classes, 0 if all chains draw the same
class); and how often a chain changes class in 100 steps, as far as kept states show.
"""

import dataclasses
import functools
import math
import pathlib
from collections.abc import Callable
from typing import Any, Literal

from absl import app

from bin.common import configs, flags, runs
from bin.common.flags import UsageError, option

JOBS = ("train", "export", "sample", "inpaint", "evaluate")
DEFAULT_LAYERS = {"gsn": (1000, 1000), "dae": (2000,), "conv_dae": (32, 64, 128)}
DEFAULT_LEVELS = {"salt_and_pepper": 0.4, "masking": 0.4, "gaussian": 0.3, "block": 0.5}


def _are_positive(values: list[str] | None) -> bool:
    return all(value.strip().isdigit() and int(value) > 0 for value in values or ())


@dataclasses.dataclass(frozen=True)
class Network:
    """What is trained."""

    network: Literal["gsn", "dae", "conv_dae"] = option(
        "gsn",
        "gsn: tied layers with hidden state (figure 5.5); dae: x -> one hidden layer -> x;"
        " conv_dae: convolutions that halve the image.",
    )
    layers: tuple[int, ...] | None = option(
        None,
        "Units of each hidden layer, or filters of each block. Default: 1000,1000 (gsn), 2000"
        " (dae), 32,64,128 (conv_dae).",
        valid=_are_positive,
        message="must be positive numbers, e.g. 1000,1000",
    )
    hidden_noise: float = option(
        2.0, "Standard deviation of the noise of a gsn, before and after tanh.", lower_bound=0.0
    )
    corruption: Literal["salt_and_pepper", "masking", "gaussian", "block", "none"] = option(
        "salt_and_pepper", "Corruption of x at every step."
    )
    corruption_level: float | None = option(
        None,
        "Probability of salt_and_pepper (.4) or masking (.4), sigma of gaussian (.3), or the"
        " block's fraction of an image's side (.5).",
        lower_bound=0.0,
    )
    walkback_steps: tuple[int, ...] = option(
        (4,),
        "Steps of walkback, or the smallest and the largest number: 2,6. 1 is a plain DAE.",
        valid=_are_positive,
        message="must be positive numbers, e.g. 4 or 2,6",
    )
    walkback_stop: float | None = option(
        None,
        "Probability to stop after each step, at --walkback_steps at the latest. Default: never.",
    )
    walkback_loss: Literal["every", "last"] = option("every", "Steps whose losses are added up.")
    scaling: bool = option(False, "Learn a scaling factor for each step of walkback.")
    outputs: Literal["bernoulli", "normal", "normal_mixture"] = option(
        "bernoulli",
        "P(x | h) of a value: bernoulli for [0, 1]; normal and a mixture of two have scales too.",
    )
    output_scale: float | None = option(None, "Fixed scale of --outputs=normal.", lower_bound=0.0)
    initial_hidden: str = option(
        "zeros",
        "Hidden units at the first step of walkback: zeros, stored (of the last visit), or a"
        " number of burn-in steps.",
    )


@dataclasses.dataclass(frozen=True)
class Config:
    """What one run trains; a folder with an equal one holds the same run."""

    data: configs.Data
    hardware: configs.Hardware
    training: configs.Training
    network: Network
    binarize: bool = option(False, "Values above .5 become 1, others 0.")
    decay: float = option(
        0.96,
        "Factor of the learning rate per epoch.",
        lower_bound=0.0,
        upper_bound=1.0,
    )


@dataclasses.dataclass(frozen=True)
class Jobs:
    """What to do with a network; each job has a folder of its own for each of its settings."""

    chains: configs.Chains
    do: tuple[str, ...] = option(JOBS, f"Which of {', '.join(JOBS)} to do, in this order.")
    sheet_every: int = option(5, "Epochs between sheets of samples; 0 for none.", lower_bound=0)
    num_burnin_steps: int = option(0, "Steps before the first that counts.", lower_bound=0)
    num_steps_between_results: int = option(
        0, "Steps of --chain_steps that are left out before each that is kept.", lower_bound=0
    )
    chain_alpha: Literal["first", "random"] = option(
        "first", "Scaling factor of chains: alpha_1, or an alpha_k drawn at each step."
    )
    known: str | None = option(
        None,
        "What in-painting keeps: left, right, top, bottom, or an .npz file with a boolean mask."
        " Default: left of images; other examples are not completed.",
        is_path=True,
    )
    inpaint_steps: int = option(100, "Steps of in-painting.", lower_bound=1)

    @property
    def num_results(self) -> int:
        """States that are kept of each chain."""
        return self.chains.chain_steps // (self.num_steps_between_results + 1)


flags.define(
    __name__,
    Config,
    Jobs,
    configs.Output,
    defaults={"batch_size": 100, "chains": 8, "chain_steps": 10_000, "epochs": 25},
)


# Of which jobs the flags are that say how to do them.
JOB_FLAGS = {
    ("sheet_every",): ("train",),
    ("chains", "chain_steps", "num_burnin_steps", "num_steps_between_results"): (
        "sample",
        "evaluate",
    ),
    ("chain_alpha",): ("sample", "evaluate", "inpaint", "export"),
    ("known", "inpaint_steps"): ("inpaint",),
}
# Of a network that is trained already, --output_dir says these, but not where its data are now.
TRAINED = (
    "dataset",
    "examples",
    "precision",
    *flags.names(configs.Training),
    *flags.names(Network),
    "binarize",
    "decay",
    "overwrite",
)


def config_from_flags() -> Config:
    """Reads the flags of what is trained; raises UsageError for a combination without sense."""
    config = flags.read(Config)
    asked = config.network
    network, corruption = asked.network, asked.corruption
    if network != "gsn":
        runs.refuse_given(("hidden_noise", "initial_hidden"), f"--network={network} has no state")
    if corruption == "none":
        runs.refuse_given(["corruption_level"], "--corruption is none")
    if asked.outputs != "normal":
        runs.refuse_given(["output_scale"], "only --outputs=normal has one")
    layers = asked.layers or DEFAULT_LAYERS[network]
    if network == "dae" and len(layers) != 1:
        raise UsageError("--layers of --network=dae is one number.")
    steps, stop = asked.walkback_steps, asked.walkback_stop
    if len(steps) not in (1, 2) or steps[0] > steps[-1]:
        raise UsageError("--walkback_steps must be a number, or the smallest and the largest.")
    if stop is not None and (len(steps) == 2 or steps == (1,)):
        raise UsageError("--walkback_stop needs a single number of --walkback_steps, above 1.")
    if stop is not None and not 0 < stop <= 1:
        raise UsageError("--walkback_stop must be a probability in (0, 1].")
    if steps == (1,) and asked.scaling:
        raise UsageError("--scaling needs --walkback_steps above 1.")
    if steps == (1,) and network == "gsn" and len(layers) > 1 and asked.initial_hidden == "zeros":
        raise UsageError(
            "--walkback_steps=1 from --initial_hidden=zeros never reaches the second layer. Give"
            " more steps, another --initial_hidden, or one of --layers."
        )
    if asked.initial_hidden not in ("zeros", "stored") and not asked.initial_hidden.isdigit():
        raise UsageError("--initial_hidden must be zeros, stored or a number of steps.")
    if asked.output_scale == 0:
        raise UsageError("--output_scale must be above 0.")
    level = asked.corruption_level
    most = math.inf if corruption == "gaussian" else 1.0
    if level is not None and not 0 < level <= most:
        bounds = "above 0" if corruption == "gaussian" else "in (0, 1]"
        raise UsageError(
            f"--corruption_level of --corruption={corruption} must be {bounds}. Received: {level}."
        )
    if level is None:
        level = DEFAULT_LEVELS.get(corruption)
    chosen = dataclasses.replace(asked, layers=layers, corruption_level=level)
    return dataclasses.replace(config, network=chosen)


def jobs_from_flags() -> Jobs:
    """Reads the flags of what to do; raises UsageError for a combination without sense."""
    jobs = flags.read(Jobs)
    unknown = [job for job in jobs.do if job not in JOBS]
    if unknown or not jobs.do:
        raise UsageError(f"--do must be some of {', '.join(JOBS)}. Received: {list(jobs.do)}.")
    if not jobs.num_results:
        raise UsageError("--num_steps_between_results must be less than --chain_steps.")
    for names, of in JOB_FLAGS.items():
        if not set(of) & set(jobs.do):
            runs.refuse_given(names, f"only --do={','.join(of)} takes it")
    if jobs.chains.chains < 1:
        raise UsageError("--chains must be 1 at least.")
    return dataclasses.replace(jobs, do=tuple(job for job in JOBS if job in jobs.do))


def trained_config(folder: pathlib.Path) -> Config:
    """Returns the `Config` of the run that `folder` holds; raises UsageError if it has none."""
    found = runs.read_config(folder)
    runs.refuse_given(
        TRAINED, f"{folder} holds a network that is trained; --do=train trains another"
    )
    try:
        own: dict[str, Any] = {"precision": found["hardware"]["precision"]}
        if not flags.given("seed"):
            own["seed"] = found["hardware"]["seed"]
        data = configs.Data(**found["data"])
        given = flags.read(configs.Data)
        if given.data_dir:
            data = dataclasses.replace(data, data_dir=given.data_dir)
        parts: dict[str, Any] = {
            "data": data,
            "hardware": dataclasses.replace(flags.read(configs.Hardware), **own),
            "training": configs.Training(**found["training"]),
            "network": Network(**found["network"]),
        }
        return Config(**{**found, **parts})
    except (KeyError, TypeError):
        raise UsageError(f"{folder} holds a run of another program.") from None


def _nothing_to_begin() -> None:
    pass


def run(
    config: Config,
    jobs: Jobs,
    folder: pathlib.Path,
    *,
    begin: Callable[[], object] = _nothing_to_begin,
    progress: bool = False,
    verbose: Any = 0,
) -> dict[str, Any]:
    """Does what `jobs` say; returns {job: results}.

    `begin` is called once all is known to fit, before anything is written.
    """
    from bin.jobs.gsn import reports, training
    from thesis_tf import hardware

    strategy = hardware.configure(config.hardware)
    chief = hardware.is_chief(strategy)
    network = training.NetworkRun(config, folder, strategy, chief=chief, progress=progress)
    report = reports.Reports(network, jobs, progress=progress)
    if chief:
        begin()
    hardware.wait_for_all(strategy)
    found = {}
    if "train" in jobs.do:
        found["train"] = network.train(jobs.sheet_every, verbose)
    if chief:
        found |= report.run()
    return found


def main(argv: list[str]) -> None:
    """Flags, config, run."""
    with runs.clean_errors(argv):
        jobs, output = jobs_from_flags(), flags.read(configs.Output)
        folder: str | pathlib.Path = output.output_dir or "runs/gsn"
        if "train" in jobs.do:
            config = config_from_flags()
            folder = runs.claim(folder, config, output.overwrite)
            begin: Callable[[], object] = functools.partial(runs.begin, folder, config)
        else:
            folder = runs.existing(folder)
            config = trained_config(folder)
            begin = functools.partial(runs.lock, folder)
        run(config, jobs, folder, begin=begin, progress=True, verbose=runs.progress())
        print(f"All pictures and numbers are in {folder}.")


if __name__ == "__main__":
    app.run(main)
