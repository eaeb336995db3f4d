"""Figure 5.3: chains whose P(x | x~) is learned without a network, by counting and by kernels."""

import dataclasses
import pathlib
from typing import Any

import numpy as np

from bin.reproduction.engine.contract import NO_NUMBER, Claim, Settings, verdict

TITLE = "Chains without a network: ten values by counting, a curve in ten dimensions by kernels"
CAPTION = (
    "Top: the frequencies of ten values in 5,000 examples, and in 5,000 steps of the chain that was"
    " learned from these examples by counting. Bars are two standard errors, which account for the"
    " chain's autocorrelation. Bottom: training examples on a curve in ten dimensions, and states"
    " of chains whose P(x | x~) is a Parzen estimate from them; four of the dimensions are shown."
)
_VALUES = 10
_SIGNIFICANT = 0.05
_SEEN = 1000  # the number of points of each kind that are drawn


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(Settings):
    """The settings of both kinds of chains.

    Attributes:
        examples: the number of examples of the ten values, and of steps of the chain.
        points: the number of training examples on the curve.
        corruption, kernel: the standard deviations of the corruption and of the kernels.
        chains: the number of chains on the curve.
        steps: the number of steps of each of these chains.
        kept_every: every so many steps, the state of each chain is kept.
    """

    examples: int = 5000
    points: int = 5000
    corruption: float = 0.5
    kernel: float = 0.01
    chains: int = 50
    steps: int = 1000
    kept_every: int = 20


CONFIGS = {"quick": Config(expected_seconds=6), "full": Config(expected_seconds=6)}


def run(config: Config) -> dict[str, Any]:
    """Runs both kinds of chains, and compares their samples with the data."""
    from thesis_tf.gsn import finite

    data = np.random.default_rng([config.seed, 1]).dirichlet(2 * np.ones(_VALUES))
    counted = finite.counting_chain(
        data,
        finite.local_corruption(_VALUES),
        num_examples=config.examples,
        num_results=config.examples,
        seed=config.seed,
    )
    return {
        "histogram": {
            "truth": counted.truth,
            "training": counted.training_histogram,
            "chain": counted.chain_histogram,
            "stationary": counted.stationary,
            "errors": counted.standard_errors,
            "p_value": counted.p_value,
        },
        "manifold": _manifold(config),
        "examples": config.examples,
    }


def _manifold(config: Config) -> dict[str, Any]:
    from thesis_tf import datasets
    from thesis_tf.gsn import finite

    kept = config.chains * (config.steps // config.kept_every)
    splits = datasets.load_inputs(
        "manifold10d", examples=(config.points, 1, 2 * kept), seed=config.seed
    )
    x = splits.train.x
    chains = finite.parzen_chain(
        x, config.corruption, config.kernel, config.steps, num_chains=config.chains,
        seed=config.seed,
    )  # fmt: skip
    chains = chains[config.kept_every - 1 :: config.kept_every].reshape(kept, -1)
    rng = np.random.default_rng([config.seed, 2])
    # For comparison, the best result with these kernels: independent draws from the Parzen window.
    kernels = x[rng.integers(len(x), size=kept)] + config.kernel * rng.standard_normal(chains.shape)
    fresh = splits.test.x
    compared = {"chains": chains, "kernels": kernels, "fresh": fresh[kept:]}
    return {
        "training": x[:_SEEN],
        "chains": chains[:_SEEN],
        "accuracy": {name: _told_apart(y, fresh[:kept]) for name, y in compared.items()},
    }


def _told_apart(samples: np.ndarray, fresh: np.ndarray) -> list[float]:
    """Returns the accuracy with which neighbors separate samples from fresh data, and its error."""
    from thesis_tf import autoencoders

    found = autoencoders.nearest_neighbor_test(samples.astype(fresh.dtype), fresh)
    return [found.accuracy, found.standard_error]


def draw(result: dict[str, Any], path: pathlib.Path) -> None:
    """Draws the histograms, and below them two projections of the curve and of the chains."""
    from thesis_tf.gsn.plots import CHAIN, DATA, EXACT
    from thesis_tf.plotting import style

    found, figure = result["histogram"], style.new_figure(7.2, 7.4)
    (top,), (below,) = figure.subfigures(2, 1, squeeze=False, height_ratios=(1, 1.5))
    axes, places = top.subplots(), np.arange(_VALUES)
    style.style_axes(axes, "value", "share")
    count = f"{result['examples']:,}"
    axes.bar(places - 0.2, found["training"], 0.38, color=DATA, label=f"{count} examples")
    axes.bar(
        places + 0.2, found["chain"], 0.38, yerr=2 * found["errors"], color=CHAIN, ecolor=EXACT,
        label=f"{count} steps of the chain",
    )  # fmt: skip
    axes.scatter(places, found["truth"], s=400, marker="_", color=EXACT, label="truth", zorder=4)
    axes.set_xticks(places)
    style.add_legend(axes, markerscale=0.5)
    panels = below.subplots(2, 2, sharex="col", sharey="col")
    kinds = {"training": ("training examples", DATA), "chains": ("chains", CHAIN)}
    for row, (name, (label, color)) in zip(panels, kinds.items(), strict=True):
        for axes, (i, j) in zip(row, ((0, 1), (2, 3)), strict=True):
            title = label if axes is row[0] else None
            style.style_axes(axes, f"x{i + 1}", f"x{j + 1}", title=title)
            points = result["manifold"][name]
            axes.scatter(points[:, i], points[:, j], s=2, color=color, linewidths=0)
    style.save(figure, path)


def claims(result: dict[str, Any]) -> list[Claim]:
    """Claims: both chains sample the distribution of the data."""
    found, told = result["histogram"], result["manifold"]["accuracy"]
    distance = {
        name: np.abs(found[name] - found["truth"]).sum() / 2 for name in ("training", "chain")
    }
    away = np.abs(found["chain"] - found["stationary"]) / found["errors"]
    (chains, error), (kernels, other) = told["chains"], told["kernels"]
    return [
        Claim(
            "The histogram of the chain is that of the data, up to sampling error.",
            NO_NUMBER,
            f"chi-square test against the learned chain's stationary distribution: p-value"
            f" {found['p_value']:.2f}, largest error {away.max():.1f} standard errors; total"
            f" variation distance from P(x): {distance['chain']:.3f} for the chain,"
            f" {distance['training']:.3f} for the training examples",
            verdict(found["p_value"] > _SIGNIFICANT),
        ),
        Claim(
            "Samples of the Parzen chain resemble the training examples.",
            NO_NUMBER,
            f"five nearest neighbors distinguish them from fresh data with an accuracy of"
            f" {chains:.3f} ± {error:.3f}; independent draws from the same kernels: {kernels:.3f};"
            f" other fresh data: {told['fresh'][0]:.3f}",
            # The error of the kernels is not counted as an error of the chain.
            verdict(chains - kernels < 2 * np.hypot(error, other)),
        ),
    ]
