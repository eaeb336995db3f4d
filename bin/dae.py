r"""Trains an auto-encoder and reads the density of its data from it (thesis, chapter 3).

With no flags it learns the spiral of figures 3.5 and 3.7, initializes hidden units from the data,
refines them by L-BFGS, draws the score that r(x) - x implies, looks for spurious attractors, and
samples by Metropolis-Hastings with path integrals: all in half a minute on two cores.

    python -m bin.dae

A few more:

    # Figure 3.7: without larger noise r learns attractors where no data are.
    python -m bin.dae --noise=plain --output_dir=runs/plain
    # Figure 3.6: a one-dimensional manifold in ten dimensions.
    python -m bin.dae --dataset=manifold10d --units=500 --chain_steps=20000 --output_dir=runs/10d
    # Images: minibatches by Adam, Langevin steps.
    python -m bin.dae --dataset=mnist_mini --units=1000 --sampler=langevin --output_dir=runs/digits
    # Your own data, np.savez("mine.npz", x=examples), or your own model, which maps x to r(x).
    python -m bin.dae --dataset=mine.npz --sigma=.05 --output_dir=runs/mine
    python -m bin.dae --dataset=mine.npz --sigma=.05 --reconstruction=r.keras --output_dir=runs/r

The same command continues a run that was interrupted. It writes to --output_dir:

    model.keras, fit.json             the auto-encoder, and how it was fitted
    diagnostics.json                  all numbers: loss / sigma^2, score error, samples, attractors
    score_field.png, .npz             arrows r(x) - x; the points and their scores
    samples.png, .npz                 data, data with noise, and samples
    attractors.png, spectrum.png      fixed points of r; eigenvalues and asymmetry of dr/dx
    reconstructions.png               of images, (n, h, w) or (n, h, w, channels): clean, noisy, r

In diagnostics.json score_error_to_kernel_density is relative to the score of the best possible
auto-encoder for the training examples; fraction_ended_outside is the fraction of the far points
that ended where no example's noise leads; two_sample_accuracy is how often nearest neighbors tell
samples from noisy test examples (.5 by chance); samples_per_chain is the number of states that were
kept of each chain.
"""

import dataclasses
import functools
import math

from absl import app, flags

from bin.common import configs, runs

FLAGS = flags.FLAGS
flags.DEFINE_float(
    "sigma",
    None,
    "Standard deviation of the noise; the score is of the density smoothed by it. Default: .01"
    " (spiral), .1 (manifold10d), else half the standard deviation of the data's values.",
    lower_bound=0.0,
)
flags.DEFINE_enum(
    "criterion", "denoising", ["denoising", "rcae"], "The criterion that is minimized."
)
flags.DEFINE_enum(
    "noise",
    "sampled",
    ["sampled", "decreasing", "plain"],
    "sampled: half the examples get noise from sigma to --max_sigma, with importance weights;"
    " decreasing: from --max_sigma to sigma over training, by minibatches; plain: sigma alone.",
)
flags.DEFINE_float(
    "max_sigma",
    None,
    "Standard deviation of the largest noise. Default: half the range of the value that varies"
    " most.",
    lower_bound=0.0,
)
flags.DEFINE_integer(
    "walkback",
    1,
    "Rounds of corruption and reconstruction; more than 1 need minibatches.",
    lower_bound=1,
)
flags.DEFINE_string("reconstruction", None, "A .keras file of a trained r, in place of training.")
flags.DEFINE_integer("units", 300, "Hidden units.", lower_bound=1)
flags.DEFINE_bool(
    "tied",
    False,
    "The decoder has the encoder's weights, transposed; needs Keras' initial weights.",
)
flags.DEFINE_enum(
    "initialization",
    "data",
    ["data", "keras"],
    "data: hidden units centered on examples, then least squares; keras: Glorot's.",
)
flags.DEFINE_enum(
    "fit",
    None,
    ["lbfgs", "bfgs", "minibatch", "none"],
    "lbfgs and bfgs: --iterations of a full-batch method; minibatch: --optimizer for --epochs (5),"
    " by default at a rate of 1e-5 after --initialization=data. Default: lbfgs up to 64 values per"
    " example, else minibatch.",
)
flags.DEFINE_integer("iterations", 50, "Iterations of a full-batch method.", lower_bound=1)
flags.DEFINE_integer(
    "copies", 4, "Noisy copies of each example, for full-batch methods.", lower_bound=1
)
flags.DEFINE_enum(
    "sampler",
    "metropolis_hastings",
    ["metropolis_hastings", "langevin", "unadjusted_langevin"],
    "The transition of the chains.",
)
flags.DEFINE_float(
    "step",
    None,
    "Standard deviation of a step, in units of sigma. Default: 2.4 / d^(1/2) by Metropolis-Hastings"
    " and 1.6 / d^(1/6) by Langevin steps, for examples of d values.",
)
flags.DEFINE_integer(
    "num_points", 2, "Points of the path integral along a proposal.", lower_bound=1
)
flags.DEFINE_enum(
    "chains_from",
    "data",
    ["data", "box"],
    "Where chains begin: training examples with noise, or a box around them.",
)
flags.DEFINE_integer(
    "far_points", 1000, "Initial points in the search for attractors; 0 for none.", lower_bound=0
)
configs.use(
    __name__,
    configs.OUTPUT,
    configs.DATA,
    configs.TRAINING,
    configs.HARDWARE,
    configs.CHAINS,
)
DEFAULTS = {"dataset": "spiral"}
DEFAULT_EPOCHS = 5
# Flags that have no effect on a model that is trained already.
FITTING = (
    "units", "tied", "initialization", "fit", "iterations", "copies", "noise", "max_sigma",
    "walkback",
    "criterion", "epochs", "optimizer", "learning_rate",
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Config:
    """The settings of one run."""

    data: configs.Data
    hardware: configs.Hardware
    training: configs.Training
    sigma: float | None
    criterion: str
    noise: str
    max_sigma: float | None
    walkback: int
    reconstruction: str | None
    units: int
    tied: bool
    initialization: str
    fit: str | None
    iterations: int
    copies: int
    sampler: str
    chains: int
    chain_steps: int
    step: float | None
    num_points: int
    chains_from: str
    far_points: int


def config_from_flags():
    """Reads FLAGS; raises runs.UsageError for a combination that makes no sense."""
    for name in ("sigma", "max_sigma", "step"):
        value = FLAGS[name].value
        if value is not None and not 0 < value < math.inf:
            raise runs.UsageError(f"--{name} must be a finite number above 0. Received: {value}.")
    if FLAGS.reconstruction and not FLAGS.reconstruction.endswith(".keras"):
        raise runs.UsageError("--reconstruction must be a .keras file.")
    if FLAGS.criterion == "rcae" and FLAGS.walkback > 1:
        raise runs.UsageError("--walkback needs --criterion=denoising.")
    if FLAGS.reconstruction:
        runs.refuse_given(FITTING, "--reconstruction is a model that is trained already")
    if FLAGS.criterion == "rcae":
        runs.refuse_given(("noise", "max_sigma", "copies"), "--criterion=rcae has no noise")
    over_steps = FLAGS.noise == "decreasing" or FLAGS.walkback > 1
    if over_steps and FLAGS.fit not in (None, "minibatch"):
        raise runs.UsageError(
            "--noise=decreasing and --walkback depend on training steps: they need --fit=minibatch."
        )
    if FLAGS.tied and FLAGS["initialization"].present and FLAGS.initialization == "data":
        raise runs.UsageError(
            "Leave out --initialization=data: --tied weights have Keras' initial values."
        )
    if FLAGS.distribution != "none" and FLAGS.fit != "minibatch":
        raise runs.UsageError("--distribution needs --fit=minibatch.")
    if FLAGS.noise == "plain":
        runs.refuse_given(["max_sigma"], "--noise=plain has noise of sigma alone")
    if FLAGS.fit == "none":
        runs.refuse_given(("iterations", "copies"), "--fit=none keeps the initial weights")
    if FLAGS.sampler == "unadjusted_langevin":
        runs.refuse_given(["num_points"], "--sampler=unadjusted_langevin accepts every proposal")
    if not FLAGS.chains:
        runs.refuse_given(
            ("sampler", "step", "chain_steps", "num_points", "chains_from"),
            "--chains=0 draws no samples",
        )
    if FLAGS.fit == "minibatch" or over_steps:
        runs.refuse_given(("iterations", "copies"), "training is by minibatches")
    elif FLAGS.fit is not None:
        runs.refuse_given(configs.TRAINING, f"--fit={FLAGS.fit} has no minibatches")
    own = {field.name for field in dataclasses.fields(Config)}
    names = own - {"data", "hardware", "training"}
    rest = {name: FLAGS[name].value for name in names}
    if FLAGS.tied:
        rest["initialization"] = "keras"
    if over_steps:
        rest["fit"] = "minibatch"
    if FLAGS.reconstruction:
        rest["reconstruction"] = configs.expanded(FLAGS.reconstruction)
    chosen = configs.training(DEFAULT_EPOCHS if FLAGS.epochs is None else FLAGS.epochs)
    if rest["initialization"] == "data" and not FLAGS["learning_rate"].present:
        # Larger steps lead away from what least squares found.
        chosen = dataclasses.replace(chosen, learning_rate=1e-5)
    return Config(configs.data(), configs.hardware(), chosen, **rest)


def run(config, folder, *, begin=lambda: None, verbose=0):
    """Fits and measures as `config` says and writes to `folder`; returns the diagnostics, a dict.

    `begin` is called once everything is known to fit, before anything is written.
    """
    from bin.common import inputs
    from bin.jobs.dae import diagnostics, fitting, problem
    from bin.jobs.dae.output import Output
    from thesis_tf import autoencoders, hardware

    splits = config.data.load_inputs()
    strategy = hardware.configure(config.hardware)
    output = Output(folder, hardware.is_chief(strategy), verbose)
    made = problem.make(config, splits)
    with strategy.scope():
        model = made.build_model()
    estimator = autoencoders.ScoreEstimator(model, made.sigma)
    estimator.score(splits.train.x[:1])  # a model that doesn't fit the data is an error here
    if output.chief:
        begin()
    hardware.wait_for_all(strategy)
    inputs.check(folder, made.fingerprints(model), write=output.chief)
    fitting.fit(made, model, output, strategy)
    return diagnostics.report(made, estimator, output) if output.chief else {}


def main(argv):
    """Flags, config, run."""
    with runs.clean_errors(argv):
        config = config_from_flags()
        folder = runs.claim(FLAGS.output_dir or "runs/dae", config, FLAGS.overwrite)
        begin = functools.partial(runs.begin, folder, config)
        run(config, folder, begin=begin, verbose=runs.progress())
        print(f"All figures and numbers are in {folder}.")


if __name__ == "__main__":
    for name, value in DEFAULTS.items():
        FLAGS.set_default(name, value)  # so that --help shows them
    app.run(main)
