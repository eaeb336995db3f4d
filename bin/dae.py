r"""Trains an auto-encoder and reads the density of its data from it (thesis, chapter 3).

Without flags it learns the spiral of figures 3.5 and 3.7: it initializes hidden units from the
data, refines them by L-BFGS, draws the score that r(x) - x implies, searches for spurious
attractors, and samples by Metropolis-Hastings with path integrals. This takes half a minute on two
cores.

    python -m bin.dae

More examples:

    # Figure 3.5, with the noise of the thesis. With so little, chains don't mix: they would need
    # 200,000 steps to move along the spiral, so this draws none.
    python -m bin.dae --sigma=.01 --chains=0 --output_dir=runs/spiral
    # Figure 3.7: without larger noise, r has spurious attractors far from the data.
    python -m bin.dae --sigma=.01 --chains=0 --noise=plain --output_dir=runs/plain
    # Figure 3.6: a one-dimensional manifold in ten dimensions.
    python -m bin.dae --dataset=manifold10d --units=500 --chain_steps=20000 --output_dir=runs/10d
    # Images: minibatches with Adam, Langevin steps.
    python -m bin.dae --dataset=mnist_mini --units=1000 --sampler=langevin --output_dir=runs/digits
    # Your data, np.savez("mine.npz", x=examples), or your model, which maps x to r(x).
    python -m bin.dae --dataset=mine.npz --sigma=.05 --output_dir=runs/mine
    python -m bin.dae --dataset=mine.npz --sigma=.05 --reconstruction=r.keras --output_dir=runs/r

The same command continues an interrupted run. The program writes to --output_dir:

    model.keras, fit.json             the auto-encoder, and how it was fitted
    diagnostics.json                  measurements: loss / sigma^2, score error, samples, attractors
    score_field.png, .npz             arrows r(x) - x; the points and their scores
    samples.png, .npz                 data, data with noise, and samples
    attractors.png                    fixed points of r
    spectrum.png                      eigenvalues of the symmetric part of dr/dx, and its asymmetry
    reconstructions.png               of images, (n, h, w) or (n, h, w, channels): clean, noisy, r

In diagnostics.json, score_error_to_kernel_density is relative to the score of the best possible
auto-encoder for the training examples; null if that is worse than x on test examples, as for few
examples of many values. tangents are medians over test examples: dimension is the number of
eigenvalues above 0.5 of the symmetric part (J + J') / 2 of J = dr/dx, which are not those of J;
asymmetry is |J - J'| / 2|J|. For examples of more than 1,024 values the 50 largest of these
eigenvalues are computed. fraction_ended_outside is the fraction of far points that
ended beyond the reach of the noise of every example. two_sample_accuracy is the accuracy with which
nearest neighbors distinguish samples from noisy test examples (0.5 by chance). samples_per_chain is
the number of kept states per chain, spread_of_samples their standard deviation in units of that of
noisy test examples. warnings are sentences that say why numbers can't be trusted.
"""

import dataclasses
import functools
import math
import pathlib
from typing import Any, Literal

from bin.common import configs, contents, ends, flags, runs
from bin.common.flags import option
from thesis_tf.persistence import files

# Flags that have no effect if the model is already trained.
FITTING = (
    "units", "tied", "initialization", "fit", "iterations", "copies", "noise", "max_sigma",
    "walkback", "criterion", "epochs", "optimizer", "learning_rate",
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Config:
    """The settings of one run."""

    data: configs.Data
    hardware: configs.Hardware
    training: configs.Training
    chains: configs.ChainOptions
    sigma: float | None = option(
        None,
        "Standard deviation of the noise; the score is that of the density smoothed by this noise."
        " Default: 0.04 (spiral), 0.1 (manifold10d), else half the standard deviation of the data's"
        " values, which erases thinner structures. With --reconstruction it must be that with which"
        " r was trained; it may be left out for the model.keras of a run of this program.",
        lower_bound=0.0,
    )
    criterion: Literal["denoising", "rcae"] = option(
        "denoising", "The criterion that is minimized."
    )
    noise: Literal["sampled", "decreasing", "plain"] = option(
        "sampled",
        "sampled: half the examples get noise from sigma to --max_sigma, with importance weights;"
        " decreasing: from --max_sigma to sigma during training; plain: sigma alone.",
    )
    max_sigma: float | None = option(
        None,
        "Standard deviation of the largest noise. Default: half the range of the value with the"
        " largest range.",
        lower_bound=0.0,
    )
    walkback: int = option(
        1,
        "Rounds of corruption and reconstruction; more than 1 requires minibatches.",
        lower_bound=1,
    )
    reconstruction: str | None = option(
        None, "A .keras file of a trained r, instead of training.", is_path=True
    )
    units: int = option(300, "Hidden units.", lower_bound=1)
    tied: bool = option(
        False,
        "The decoder uses the encoder's transposed weights; requires --initialization=keras.",
    )
    initialization: Literal["data", "keras"] = option(
        "data", "data: hidden units centered on examples, then least squares; keras: Glorot's."
    )
    fit: Literal["lbfgs", "bfgs", "minibatch", "none"] | None = option(
        None,
        "lbfgs, bfgs: a full-batch method for --iterations; minibatch: --optimizer for --epochs, by"
        " default with a learning rate of 1e-5 after --initialization=data; none: no training."
        " Default: lbfgs up to 64 values per example, else minibatch.",
    )
    iterations: int = option(50, "Iterations of a full-batch method.", lower_bound=1)
    copies: int = option(4, "Noisy copies of each example, for full-batch methods.", lower_bound=1)
    sampler: Literal["metropolis_hastings", "langevin", "unadjusted_langevin"] = option(
        "metropolis_hastings", "The transition kernel of the chains."
    )
    step: float | None = option(
        None,
        "Standard deviation of a step, in units of sigma. Default: 2.4 / d^(1/2) for"
        " Metropolis-Hastings and 1.6 / d^(1/6) for Langevin steps, for examples of d values.",
    )
    num_points: int = option(2, "Points of the path integral along a proposal.", lower_bound=1)
    chains_from: Literal["data", "box"] = option(
        "data", "Where chains begin: at training examples with noise, or in a box around the data."
    )
    far_points: int = option(
        1000, "Initial points in the search for attractors; 0 for no search.", lower_bound=0
    )


flags.define(__name__, Config, configs.Output, defaults={"dataset": "spiral", "epochs": 5})


def config_from_flags() -> Config:
    """Reads the flags; raises UsageError for a combination that makes no sense."""
    config = flags.read(Config)
    for name in ("sigma", "max_sigma", "step"):
        value = getattr(config, name)
        if value is not None and not 0 < value < math.inf:
            raise runs.UsageError(f"--{name} must be a finite number above 0. Received: {value}.")
    config = _check_fitting(config)
    _check_sampling(config)
    needs_steps = config.noise == "decreasing" or config.walkback > 1
    if config.fit == "minibatch" or needs_steps:
        runs.refuse_given(("iterations", "copies"), "training is by minibatches")
    elif config.fit is not None:
        runs.refuse_given(flags.names(configs.Training), f"--fit={config.fit} has no minibatches")
    if config.tied:
        config = dataclasses.replace(config, initialization="keras")
    if needs_steps:
        config = dataclasses.replace(config, fit="minibatch")
    if config.initialization == "data" and not flags.given("learning_rate"):
        # Larger steps would move away from the least-squares solution.
        training = dataclasses.replace(config.training, learning_rate=1e-5)
        config = dataclasses.replace(config, training=training)
    return config


def _trained_sigma(config: Config) -> float:
    """Returns the sigma with which --reconstruction was trained."""
    assert config.reconstruction is not None
    folder = pathlib.Path(config.reconstruction).expanduser().parent
    try:
        run, found = runs.read_config(folder), files.read_json(folder / "diagnostics.json")
        own = float(found["sigma"]) if {"sigma", "criterion", "copies"} <= run.keys() else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        own = None
    if not own and config.sigma is None:
        raise runs.UsageError(
            "--reconstruction needs --sigma, the standard deviation of the noise with which the"
            " model was trained: the score is (r(x) - x) / sigma^2."
        )
    if own and config.sigma is not None and not math.isclose(own, config.sigma):
        raise runs.UsageError(
            f"--sigma must be {own:g}, with which the run in {folder} trained the model, or left"
            f" out. Received: {config.sigma:g}."
        )
    return own or config.sigma or math.nan


def _check_fitting(config: Config) -> Config:
    """Returns the config with the sigma of a trained model."""
    if config.reconstruction:
        if not config.reconstruction.endswith(".keras"):
            raise runs.UsageError("--reconstruction must be a .keras file.")
        runs.refuse_given(FITTING, "--reconstruction is a trained model")
        config = dataclasses.replace(config, sigma=_trained_sigma(config))
    if config.criterion == "rcae":
        if config.walkback > 1:
            raise runs.UsageError("--walkback requires --criterion=denoising.")
        runs.refuse_given(("noise", "max_sigma", "copies"), "--criterion=rcae has no noise")
    needs_steps = config.noise == "decreasing" or config.walkback > 1
    if needs_steps and config.fit not in (None, "minibatch"):
        raise runs.UsageError(
            "--noise=decreasing and --walkback depend on training steps: use --fit=minibatch."
        )
    if config.tied and flags.given("initialization") and config.initialization == "data":
        raise runs.UsageError(
            "Leave out --initialization=data: --tied requires Keras' initial weights."
        )
    if config.hardware.distribution != "none" and config.fit != "minibatch":
        raise runs.UsageError("--distribution requires --fit=minibatch.")
    if config.noise == "plain":
        runs.refuse_given(["max_sigma"], "--noise=plain uses only --sigma")
    if config.fit == "none":
        runs.refuse_given(("iterations", "copies"), "--fit=none keeps the initial weights")
    return config


def _check_sampling(config: Config) -> None:
    if config.sampler == "unadjusted_langevin":
        runs.refuse_given(["num_points"], "--sampler=unadjusted_langevin accepts every proposal")
    if not config.chains.chains:
        runs.refuse_given(
            ("sampler", "step", "chain_steps", "num_points", "chains_from"),
            "--chains=0 draws no samples",
        )


def run(
    config: Config,
    folder: pathlib.Path,
    *,
    begin: runs.Begin = runs.no_folder,
    warn: ends.Warn = ends.unheard,
    verbose: int = 0,
) -> dict[str, Any]:
    """Fits and measures according to `config`, writes to `folder`, and returns the diagnostics.

    `begin` is called after all checks of the arguments, before anything is written; `warn` if a
    diagnostic is bad.
    """
    from bin.jobs.dae import diagnostics, fitting, problem
    from bin.jobs.dae.output import RunOutput
    from thesis_tf import autoencoders, hardware

    splits = config.data.load_inputs()
    strategy = hardware.configure(config.hardware)
    output = RunOutput(folder, hardware.is_chief(strategy), verbose)
    made = problem.make(config, splits)
    if made.sigma_is_guessed:
        output.say(
            f"--sigma={made.sigma:.3g} was taken from the spread of the data; structures thinner"
            " than that vanish."
        )
    with strategy.scope():
        model = made.build_model()
    estimator = autoencoders.ScoreEstimator(model, sigma=made.sigma)
    estimator.score(splits.train.x[:1])  # raises if the model doesn't fit the data
    if output.chief:
        begin(contents.of_splits(splits))
    hardware.wait_for_all(strategy)
    fitting.fit(made, model, output, strategy)
    if not output.chief:
        return {}
    found = diagnostics.report(made, estimator, output)
    for sentence in diagnostics.doubts(found):
        warn(sentence)
    return found


def main(argv: list[str]) -> None:
    """Flags, config, run."""
    with ends.clean_errors(argv):
        config, output = config_from_flags(), flags.read(configs.Output)
        folder = runs.claim(output.output_dir or "runs/dae", config, output.overwrite)
        begin = functools.partial(runs.begin, folder, config, overwrite=output.overwrite)
        doubts: list[str] = []
        run(config, folder, begin=begin, warn=doubts.append, verbose=runs.verbose())
        print(f"All results are in {folder}.")
        ends.conclude(folder, doubts)


if __name__ == "__main__":
    ends.start(main)
