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
    python -m bin.gsn --do=sample,evaluate --chain_steps=20000 --thin=2 --output_dir=runs/gsn2
    python -m bin.gsn --do=inpaint --known=top --output_dir=runs/gsn2

The same command after a kill goes on. Once a network is trained, --do without train takes its
settings from --output_dir, so flags of data, network and training are left out, but for --data_dir
if the data have moved. It writes there:

    model.keras, sheets/       the network; samples after every few epochs
    logs/                      losses, scaling factors and samples for TensorBoard
    saved_model/               the transition operator for TensorFlow Serving: step, inpaint
    sampled/SETTINGS/          chains in pieces, samples.png (a row a chain), mixing.json, and
                               evaluation.json
    inpainted/SETTINGS/        completions.png, .npz and inpainting.json

In evaluation.json parzen is of as many samples as of training examples beside it, evenly from all
chains, parzen_of_all_samples of all; chain_log_likelihood is the mean over chains, each alone. What
quality says is a classifier's of real examples: its confidence (largest probability) and entropy of
a sample; spurious, the share of samples with no class above .5; class_entropy of all samples (2.3
for ten classes as often as one another, 0 where all chains draw the same); and how often a chain
changes class in 100 steps, as far as kept states show.
"""

import dataclasses
import functools
import math
import pathlib
from collections.abc import Callable
from typing import Any

from absl import app, flags

from bin.common import configs, runs

FLAGS = flags.FLAGS
JOBS = ("train", "export", "sample", "inpaint", "evaluate")
flags.DEFINE_list("do", list(JOBS), f"Which of {', '.join(JOBS)} to do, in this order.")
flags.DEFINE_enum(
    "network",
    "gsn",
    ["gsn", "dae", "conv_dae"],
    "gsn: tied layers with hidden state (figure 5.5); dae: x -> one hidden layer -> x;"
    " conv_dae: convolutions that halve the image.",
)
flags.DEFINE_list(
    "layers",
    None,
    "Units of each hidden layer, or filters of each block. Default: 1000,1000 (gsn), 2000 (dae),"
    " 32,64,128 (conv_dae).",
)
flags.DEFINE_float("hidden_noise", 2.0, "Standard deviation, before and after tanh, of gsn.", 0.0)
flags.DEFINE_enum(
    "corruption",
    "salt_and_pepper",
    ["salt_and_pepper", "masking", "gaussian", "block", "none"],
    "Of x at every step.",
)
flags.DEFINE_float(
    "corruption_level",
    None,
    "Probability of salt_and_pepper (.4) or masking (.4), sigma of gaussian (.3), or the block's"
    " share of an image's side (.5).",
    0.0,
)
flags.DEFINE_list(
    "walkback_steps", ["4"], "Steps of walkback, or the least and the most: 2,6. 1 is a plain DAE."
)
flags.DEFINE_float(
    "walkback_stop",
    None,
    "Probability to stop after each step, at --walkback_steps at the latest. Default: never.",
)
flags.DEFINE_enum("walkback_loss", "every", ["every", "last"], "Of which steps the loss is.")
flags.DEFINE_bool("scaling", False, "Learn a scaling factor for each step of walkback.")
flags.DEFINE_enum(
    "outputs",
    "bernoulli",
    ["bernoulli", "normal", "normal_mixture"],
    "P(x | h) of a value: bernoulli for [0, 1]; normal and a mixture of two put out scales too.",
)
flags.DEFINE_float("output_scale", None, "Fixed scale of --outputs=normal.", 0.0)
flags.DEFINE_string(
    "initial_hidden", "zeros", "zeros, stored (of the last visit), or a number of steps to burn in."
)
flags.DEFINE_bool("binarise", False, "Values above .5 become 1, others 0.")
flags.DEFINE_float("decay", 0.96, "Of the learning rate, an epoch.", 0.0, 1.0)
flags.DEFINE_integer("sheet_every", 5, "Epochs between sheets of samples; 0 for none.", 0)
flags.DEFINE_integer("burn_in", 0, "Steps before the first that is kept.", 0)
flags.DEFINE_integer("thin", 1, "Steps for each sample that is kept.", 1)
flags.DEFINE_enum(
    "chain_alpha",
    "first",
    ["first", "random"],
    "Scaling factor of chains: alpha_1, or an alpha_k drawn at each step.",
)
flags.DEFINE_string(
    "known",
    None,
    "What in-painting holds: left, right, top, bottom, or an .npz file with a boolean mask."
    " Default: left of images; of what are no images nothing is completed.",
)
flags.DEFINE_integer("inpaint_steps", 100, "Steps of in-painting.", 1)
configs.use(
    __name__,
    configs.OUTPUT,
    configs.DATA,
    configs.TRAINING,
    configs.HARDWARE,
    configs.CHAINS,
)
DEFAULTS = {"batch_size": 100, "chains": 8, "chain_steps": 10_000}
DEFAULT_EPOCHS = 25
DEFAULT_LAYERS = {"gsn": (1000, 1000), "dae": (2000,), "conv_dae": (32, 64, 128)}
DEFAULT_LEVELS = {"salt_and_pepper": 0.4, "masking": 0.4, "gaussian": 0.3, "block": 0.5}
# Of which jobs the flags are that say how to do them.
JOB_FLAGS = {
    ("sheet_every",): ("train",),
    ("chains", "chain_steps", "burn_in", "thin"): ("sample", "evaluate"),
    ("chain_alpha",): ("sample", "evaluate", "inpaint", "export"),
    ("known", "inpaint_steps"): ("inpaint",),
}
# Of a network that is trained already, --output_dir says these, but not where its data are now.
TRAINED = (
    "dataset", "examples", "precision", *configs.TRAINING, "network", "layers",
    "hidden_noise", "corruption", "corruption_level", "walkback_steps", "walkback_stop",
    "walkback_loss", "scaling", "outputs", "output_scale", "initial_hidden", "binarise", "decay",
    "overwrite",
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Network:
    """What is trained; see the flags."""

    network: str
    layers: tuple
    hidden_noise: float
    corruption: str
    corruption_level: float | None
    walkback_steps: tuple
    walkback_stop: float | None
    walkback_loss: str
    scaling: bool
    outputs: str
    output_scale: float | None
    initial_hidden: str


@dataclasses.dataclass(frozen=True)
class Config:
    """What one run trains; a folder with an equal one holds the same run."""

    data: configs.Data
    binarise: bool
    hardware: configs.Hardware
    training: configs.Training
    decay: float
    network: Network


@dataclasses.dataclass(frozen=True)
class Jobs:
    """What to do with a network; each job has a folder of its own for each of its settings."""

    do: tuple
    sheet_every: int
    chains: int
    chain_steps: int
    burn_in: int
    thin: int
    chain_alpha: str
    known: str | None
    inpaint_steps: int


def config_from_flags() -> Config:
    """Reads FLAGS of what is trained; raises runs.UsageError for what makes no sense."""
    network, corruption = FLAGS.network, FLAGS.corruption
    if network != "gsn":
        runs.refuse_given(("hidden_noise", "initial_hidden"), f"--network={network} has no state")
    if corruption == "none":
        runs.refuse_given(["corruption_level"], "--corruption is none")
    if FLAGS.outputs != "normal":
        runs.refuse_given(["output_scale"], "only --outputs=normal has one")
    layers = _integers("layers") or DEFAULT_LAYERS[network]
    if network == "dae" and len(layers) != 1:
        raise runs.UsageError("--layers of --network=dae is one number.")
    steps = _integers("walkback_steps")
    if len(steps) not in (1, 2) or steps[0] > steps[-1]:
        raise runs.UsageError("--walkback_steps must be a number, or the least and the most.")
    if FLAGS.walkback_stop is not None and (len(steps) == 2 or steps == (1,)):
        raise runs.UsageError("--walkback_stop is of one number of --walkback_steps, above 1.")
    if FLAGS.walkback_stop is not None and not 0 < FLAGS.walkback_stop <= 1:
        raise runs.UsageError("--walkback_stop must be a probability in (0, 1].")
    if steps == (1,) and FLAGS.scaling:
        raise runs.UsageError("--scaling is of --walkback_steps above 1.")
    if steps == (1,) and network == "gsn" and len(layers) > 1 and FLAGS.initial_hidden == "zeros":
        raise runs.UsageError(
            "--walkback_steps=1 from --initial_hidden=zeros never reaches the second layer. Give"
            " more steps, another --initial_hidden, or one of --layers."
        )
    if FLAGS.initial_hidden not in ("zeros", "stored") and not FLAGS.initial_hidden.isdigit():
        raise runs.UsageError("--initial_hidden must be zeros, stored or a number of steps.")
    if FLAGS.output_scale == 0:
        raise runs.UsageError("--output_scale must be above 0.")
    level = FLAGS.corruption_level
    most = math.inf if corruption == "gaussian" else 1.0
    if level is not None and not 0 < level <= most:
        bounds = "above 0" if corruption == "gaussian" else "in (0, 1]"
        raise runs.UsageError(
            f"--corruption_level of --corruption={corruption} must be {bounds}. Received: {level}."
        )
    values: dict[str, Any] = {
        field.name: FLAGS[field.name].value for field in dataclasses.fields(Network)
    }
    values |= {
        "layers": layers,
        "walkback_steps": steps,
        "corruption_level": DEFAULT_LEVELS.get(corruption) if level is None else level,
    }
    epochs = DEFAULT_EPOCHS if FLAGS.epochs is None else FLAGS.epochs
    return Config(
        configs.data(),
        FLAGS.binarise,
        configs.hardware(),
        configs.training(epochs),
        FLAGS.decay,
        Network(**values),
    )


def _integers(name: str) -> tuple[int, ...]:
    values = FLAGS[name].value or []
    if not all(value.strip().isdigit() and int(value) > 0 for value in values):
        raise runs.UsageError(f"--{name} must be positive numbers, e.g. 1000,1000.")
    return tuple(map(int, values))


def jobs_from_flags() -> Jobs:
    """Reads FLAGS of what to do; raises runs.UsageError for what makes no sense."""
    unknown = [job for job in FLAGS.do if job not in JOBS]
    if unknown or not FLAGS.do:
        raise runs.UsageError(f"--do must be some of {', '.join(JOBS)}. Received: {FLAGS.do}.")
    if FLAGS.thin > FLAGS.chain_steps:
        raise runs.UsageError("--thin must be at most --chain_steps.")
    for flags_of_job, of in JOB_FLAGS.items():
        if not set(of) & set(FLAGS.do):
            runs.refuse_given(flags_of_job, f"only --do={','.join(of)} takes it")
    if FLAGS.chains < 1:
        raise runs.UsageError("--chains must be 1 at least.")
    values: dict[str, Any] = {
        field.name: FLAGS[field.name].value for field in dataclasses.fields(Jobs)
    }
    values["known"] = FLAGS.known and configs.expanded(FLAGS.known)
    return Jobs(**{**values, "do": tuple(job for job in JOBS if job in FLAGS.do)})


def trained_config(folder: pathlib.Path) -> Config:
    """Returns the `Config` of the run that `folder` holds; raises UsageError if it has none."""
    found = runs.read_config(folder)
    runs.refuse_given(
        TRAINED, f"{folder} holds a network that is trained; --do=train trains another"
    )
    try:
        own = {"precision": found["hardware"]["precision"]}
        if not FLAGS["seed"].present:
            own["seed"] = found["hardware"]["seed"]
        data = configs.Data(**found["data"])
        if FLAGS.data_dir:
            data = dataclasses.replace(data, data_dir=configs.data().data_dir)
        parts = {
            "data": data,
            "hardware": dataclasses.replace(configs.hardware(), **own),
            "training": configs.Training(**found["training"]),
            "network": Network(**found["network"]),
        }
        return Config(**{**found, **parts})
    except (KeyError, TypeError):
        raise runs.UsageError(f"{folder} holds a run of another program.") from None


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
        jobs = jobs_from_flags()
        folder = FLAGS.output_dir or "runs/gsn"
        if "train" in jobs.do:
            config = config_from_flags()
            folder = runs.claim(folder, config, FLAGS.overwrite)
            begin: Callable[[], object] = functools.partial(runs.begin, folder, config)
        else:
            folder = runs.existing(folder)
            config = trained_config(folder)
            begin = _nothing_to_begin
        run(config, jobs, folder, begin=begin, progress=True, verbose=runs.progress())
        print(f"All pictures and numbers are in {folder}.")


if __name__ == "__main__":
    for name, value in DEFAULTS.items():
        FLAGS.set_default(name, value)  # so that --help shows them
    app.run(main)
