r"""Trains a generative stochastic network, samples, in-paints and estimates log-likelihoods.

This is chapter 5 of the thesis. Without flags it trains the network of figure 5.5 with two hidden
layers on the bundled digits, runs chains, completes half-known images, and evaluates the samples,
in a few minutes on two cores:

    python -m bin.gsn

More examples:

    # Table 5.1: GSN-2, an auto-encoder with walkback and one without, on all of MNIST.
    python -m bin.gsn --dataset=mnist --data_dir=~/data --epochs=25 --output_dir=runs/gsn2
    python -m bin.gsn --dataset=mnist --data_dir=~/data --epochs=25 --network=dae --layers=2000 \
        --output_dir=runs/walkback_dae
    python -m bin.gsn --dataset=mnist --data_dir=~/data --epochs=25 --network=dae --layers=2000 \
        --walkback_steps=1 --output_dir=runs/dae
    # Scaling factors of walkback (figure 5.9).
    python -m bin.gsn --scaling --output_dir=runs/scaling
    # Color images, real values: a convolutional auto-encoder with Normal outputs.
    python -m bin.gsn --dataset=cifar10 --data_dir=~/data --network=conv_dae --layers=32,64,128 \
        --outputs=normal --corruption=gaussian --corruption_level=.2 --output_dir=runs/cifar10
    # With a trained network: longer chains; completions of images whose upper half is known.
    python -m bin.gsn --do=sample,evaluate --chain_steps=20000 --num_steps_between_results=1 \
        --output_dir=runs/gsn2
    python -m bin.gsn --do=inpaint --known=top --output_dir=runs/gsn2

After a kill, the same command continues. Once a network is trained, --do without train reads its
settings from --output_dir. Then leave out the flags of data, network and training, except for
--data_dir if the data have moved. The program writes to --output_dir:

    model.keras, sheets/       the network; samples after every few epochs
    logs/                      losses, scaling factors and samples for TensorBoard
    saved_model/               the transition kernel for TensorFlow Serving: step, inpaint
    sampled/SETTINGS/          chains in pieces, samples.png (one row per chain), mixing.json and
                               evaluation.json
    inpainted/SETTINGS/        completions.png, .npz and inpainting.json

In evaluation.json, parzen uses as many samples as the estimate of training examples next to it,
evenly spaced over all chains; parzen_of_all_samples uses all samples. chain_log_likelihood is the
mean of the estimates from each chain alone. baseline_log_likelihood, next to the conservative
estimate, is that of independent values with the means of the training examples: a network is of use
if it is better. quality is measured by a classifier of real examples, whose accuracy on test
examples is in classifier; quality_left_out says why there is none, as for data without labels, and
quality_of_test_examples is what real examples get. Quality is the mean confidence (largest class
probability) and entropy per sample; unsure, the fraction of samples with no class above 0.5 (0.75
if there are two), though a classifier may be sure of noise, too; class_entropy, of all samples (2.3
for ten equally frequent classes, 0 if all samples have the same class); and the changes of class
per 100 steps of a chain, as far as kept states show them.
"""

import dataclasses
import functools
import math
import pathlib
from typing import Any, Literal

from bin.common import configs, contents, ends, flags, runs
from bin.common.flags import UsageError, option

JOBS = ("train", "export", "sample", "inpaint", "evaluate")
DEFAULT_LAYERS = {"gsn": (1000, 1000), "dae": (2000,), "conv_dae": (32, 64, 128)}
DEFAULT_LEVELS = {"salt_and_pepper": 0.4, "masking": 0.4, "gaussian": 0.3, "block": 0.5}


def _are_positive(values: list[str] | None) -> bool:
    return all(value.strip().isdigit() and int(value) > 0 for value in values or ())


@dataclasses.dataclass(frozen=True)
class Network:
    """The network."""

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
        2.0, "Standard deviation of a gsn's noise, before and after tanh.", lower_bound=0.0
    )
    corruption: Literal["salt_and_pepper", "masking", "gaussian", "block", "none"] = option(
        "salt_and_pepper", "Corruption of x at every step."
    )
    corruption_level: float | None = option(
        None,
        "Probability of salt_and_pepper or masking, sigma of gaussian, or the block's fraction of"
        " an image's side. Default: 0.4 (salt_and_pepper, masking), 0.3 (gaussian), 0.5 (block).",
        lower_bound=0.0,
    )
    walkback_steps: tuple[int, ...] = option(
        (4,),
        "Walkback steps, or their smallest and largest number, e.g. 2,6. With 1, a dae is a"
        " plain denoising auto-encoder.",
        valid=_are_positive,
        message="must be positive numbers, e.g. 4 or 2,6",
    )
    walkback_stop: float | None = option(
        None,
        "Probability to stop after each walkback step; --walkback_steps is then the maximum."
        " Default: the number of steps is not random.",
    )
    walkback_loss: Literal["every", "last"] = option("every", "The steps whose losses are added.")
    scaling: bool = option(False, "Learn a scaling factor for each walkback step.")
    outputs: Literal["bernoulli", "normal", "normal_mixture"] = option(
        "bernoulli",
        "P(x | h) of a value: bernoulli for [0, 1]; normal or mixture (of two normals) for real"
        " values, with scales that the network predicts.",
    )
    output_scale: float | None = option(
        None, "Fixed standard deviation of --outputs=normal.", lower_bound=0.0
    )
    initial_hidden: str = option(
        "zeros",
        "Hidden units at the first step of walkback: zeros, stored (from the last time that the"
        " example was used), or a number of burn-in steps.",
    )


@dataclasses.dataclass(frozen=True)
class Config:
    """The settings of one training; a folder with an equal config holds the same run."""

    data: configs.Data
    hardware: configs.Hardware
    training: configs.Training
    network: Network
    binarize: bool = option(False, "Set values above 0.5 to 1 and others to 0.")
    decay: float = option(
        0.96,
        "Factor by which the learning rate is multiplied after each epoch.",
        lower_bound=0.0,
        upper_bound=1.0,
    )


@dataclasses.dataclass(frozen=True)
class Jobs:
    """The jobs to do with a network; each setting of a job has a separate folder."""

    chains: configs.ChainOptions
    do: tuple[str, ...] = option(JOBS, f"Which of {', '.join(JOBS)} to do, in this order.")
    sheet_every: int = option(5, "Epochs between sheets of samples; 0 for none.", lower_bound=0)
    num_burnin_steps: int = option(0, "Steps before the first kept state.", lower_bound=0)
    num_steps_between_results: int = option(
        0, "Steps of --chain_steps that are skipped between kept states.", lower_bound=0
    )
    chain_alpha: Literal["first", "random"] = option(
        "first", "Scaling factor of chains: alpha_1, or a random alpha_k at each step."
    )
    known: str | None = option(
        None,
        "Known values for in-painting: left, right, top or bottom half, or an .npz file with a"
        " boolean mask. Default: the left half of images; other examples are not completed.",
        is_path=True,
    )
    inpaint_steps: int = option(100, "Steps of in-painting.", lower_bound=1)

    @property
    def num_results(self) -> int:
        """The number of kept states per chain."""
        return self.chains.chain_steps // (self.num_steps_between_results + 1)


flags.define(
    __name__,
    Config,
    Jobs,
    configs.Output,
    defaults={"batch_size": 100, "chains": 8, "chain_steps": 10_000, "epochs": 25},
)


# {flag: the jobs that use it}.
JOB_FLAGS = {
    ("sheet_every",): ("train",),
    ("chains", "chain_steps", "num_burnin_steps", "num_steps_between_results"): (
        "sample",
        "evaluate",
    ),
    ("chain_alpha",): ("sample", "evaluate", "inpaint", "export"),
    ("known", "inpaint_steps"): ("inpaint",),
}
# Flags that must be left out for a trained network, since --output_dir determines their values.
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
    """Reads the flags of the training; raises UsageError for an invalid combination."""
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
            "--walkback_steps=1 from --initial_hidden=zeros never reaches the second layer. Use"
            " more steps, another --initial_hidden, or a single layer."
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
    """Reads the flags of the jobs; raises UsageError for an invalid combination."""
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
        raise UsageError("--chains must be at least 1.")
    return dataclasses.replace(jobs, do=tuple(job for job in JOBS if job in jobs.do))


def trained_config(folder: pathlib.Path) -> Config:
    """Returns the `Config` of the run in `folder`; raises UsageError if there is none."""
    found = runs.read_config(folder)
    runs.refuse_given(TRAINED, f"{folder} holds a trained network; --do=train trains another one")
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


def run(
    config: Config,
    jobs: Jobs,
    folder: pathlib.Path,
    *,
    begin: runs.Begin = runs.no_folder,
    warn: ends.Warn = ends.unheard,
    verbose: Literal[0, 1, 2] = 0,
) -> dict[str, Any]:
    """Does the jobs; returns {job: results}.

    `begin` is called after all checks of the arguments, before anything is written; `warn` if a
    diagnostic is bad.
    """
    from bin.jobs.gsn import reports, training
    from thesis_tf import hardware

    strategy = hardware.configure(config.hardware)
    chief = hardware.is_chief(strategy)
    network = training.NetworkRun(config, folder, strategy, chief=chief, verbose=verbose)
    report = reports.JobsAfterTraining(network, jobs, verbose=verbose)
    if chief:
        begin(contents.of_splits(network.splits))
    hardware.wait_for_all(strategy)
    found = {}
    if "train" in jobs.do:
        found["train"] = network.train(jobs.sheet_every)
    if chief:
        found |= report.run()
        for sentence in reports.doubts(found):
            warn(sentence)
    return found


def main(argv: list[str]) -> None:
    """Flags, config, run."""
    with ends.clean_errors(argv):
        jobs, output = jobs_from_flags(), flags.read(configs.Output)
        folder: str | pathlib.Path = output.output_dir or "runs/gsn"
        if "train" in jobs.do:
            config = config_from_flags()
            folder = runs.claim(folder, config, output.overwrite)
            begin: runs.Begin = functools.partial(
                runs.begin, folder, config, overwrite=output.overwrite
            )
        else:
            folder = runs.existing(folder)
            config = trained_config(folder)
            begin = functools.partial(runs.resume, folder)
        doubts: list[str] = []
        run(config, jobs, folder, begin=begin, warn=doubts.append, verbose=runs.verbose())
        print(f"All results are in {folder}.")
        ends.conclude(folder, doubts, extent=dataclasses.asdict(jobs))


if __name__ == "__main__":
    ends.start(main)
