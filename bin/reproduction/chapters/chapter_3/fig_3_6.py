"""Figure 3.6: samples from an auto-encoder of a one-dimensional manifold in ten dimensions."""

import dataclasses
import pathlib
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from bin.reproduction.chapters.chapter_3.studies import manifold_dae
from bin.reproduction.engine.contract import NO_NUMBER, Claim, Settings, verdict

if TYPE_CHECKING:
    from thesis_tf.autoencoders import ScoreEstimator

TITLE = "Samples from an auto-encoder of a curve in ten dimensions"
CAPTION = (
    "Test data on a curve in ten dimensions, the same data with noise of standard deviation 0.1,"
    " and the last states of Metropolis-Hastings chains that began uniformly in a box around the"
    " data. Acceptance needs only energy differences, which are path integrals of r(x) - x (two"
    " points each). The chains sample the density of the data with noise. Four of the dimensions"
    " are shown."
)
# The fraction of a variance that may be missed by a claim of "close".
_LEFT_OUT = 0.05
_SEEN = 1000  # the number of points of each kind that are drawn
_DRAWS = 10  # the number of fresh data sets that are compared with the test data like the samples


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(Settings):
    """The auto-encoder and its chains.

    Attributes:
        network: the auto-encoder; it is also trained with larger noise, since chains begin far
            from the data.
        chains, steps: the number of chains, and of their steps.
    """

    network: manifold_dae.Config
    chains: int
    steps: int


def _network(**settings: Any) -> manifold_dae.Config:
    return manifold_dae.Config(
        dataset="manifold10d", sigma=0.1, noise="sampled", scales=(0.1, 0.2, 0.4), units=500,
        **settings,
    )  # fmt: skip


CONFIGS = {
    "quick": Config(
        network=_network(examples=10_000), chains=2000, steps=5000, expected_seconds=22
    ),
    "full": Config(
        network=_network(examples=20_000, copies=4), chains=3000, steps=20_000, expected_seconds=80
    ),
}


def run(config: Config) -> dict[str, Any]:
    """Trains, samples, and compares the samples with the data."""
    from thesis_tf import autoencoders, mcmc

    network = config.network
    splits = manifold_dae.load(network)
    found = manifold_dae.trained(network)
    estimator = manifold_dae.estimator(network, found)
    noisy = manifold_dae.noisy(network, splits.test.x)
    initial_state = autoencoders.far_points(
        splits.train.x, config.chains, margin=0.0, seed=network.draw
    )
    thin = max(1, config.steps // 20)
    chains = autoencoders.metropolis_hastings(
        estimator,
        initial_state.astype(np.float32),
        config.steps // thin,
        _step(network),
        num_steps_between_results=thin - 1,
        seed=mcmc.stream_seed(network.draw, 4),
    )
    last, draws = chains.samples[-1], [_fresh(config, index) for index in range(_DRAWS)]
    region = autoencoders.DataRegion(splits.train.x, network.sigma)
    return {
        "drawn": {
            "data": splits.test.x[:_SEEN],
            "data with noise": noisy[:_SEEN],
            "samples": last[:_SEEN],
        },
        "told_apart": {
            "samples": _told_apart(last, noisy),
            "initial": _told_apart(initial_state, noisy),
            "fresh": np.array([_told_apart(x, noisy) for x in draws]),
            # Data whose noise is 10 % and 20 % too large.
            "tenth": _told_apart(_fresh(config, 0, 1.1), noisy),
            "fifth": _told_apart(_fresh(config, 0, 1.2), noisy),
        },
        "inside": {
            "samples": float(region.contains(last).mean()),
            "initial": float(region.contains(initial_state).mean()),
            "fresh": float(np.mean([region.contains(x).mean() for x in draws])),
        },
        "chains": config.chains,
        "acceptance": chains.acceptance,
        "losses": manifold_dae.losses(network, found),
        "energies": _energies(network, estimator, splits.train.x, noisy),
        "notes": [
            f"{network.examples:,} training points, each corrupted {network.copies} times,"
            f" {network.units:,} hidden units initialized at noisy examples, {network.iterations}"
            f" iterations of L-BFGS; {config.chains:,} chains of {config.steps:,} steps.",
            _mixing(chains.diagnostics.summary()),
        ],
    }


def _mixing(found: dict[str, Any]) -> str:
    """Returns a note on the mixing of chains, which is unknown with fewer than four states."""
    size, r_hat = (
        "unknown" if found[name] is None else f"{found[name]:,.1f}"
        for name in ("effective_sample_size", "r_hat")
    )
    return (
        f"R-hat is {r_hat}, and the effective sample size of all chains together is {size}: steps"
        " are so small that only all chains together cover the curve."
    )


def _step(network: manifold_dae.Config) -> float:
    """Returns the standard deviation of a proposal: 2.4 / d^(1/2) times that of the noise."""
    return 2.4 / 10**0.5 * network.sigma


def _fresh(config: Config, index: int, scale: float = 1.0) -> npt.NDArray[Any]:
    """Draws one new example per chain, with noise of standard deviation sigma times `scale`."""
    from thesis_tf import datasets

    network, stream = config.network, 10 + index
    manifold = datasets.manifold10d(seed=network.draw)
    x = manifold.sample(config.chains, seed=network.draw, stream=stream)
    return x + scale * (manifold_dae.noisy(network, x, stream) - x)


def _told_apart(x: npt.NDArray[Any], noisy: npt.NDArray[Any]) -> float:
    from thesis_tf import autoencoders

    return autoencoders.nearest_neighbor_test(x, noisy).accuracy


def _energies(
    network: manifold_dae.Config,
    estimator: "ScoreEstimator",
    x: npt.NDArray[Any],
    noisy: npt.NDArray[Any],
) -> dict[str, Any]:
    """Compares energy differences of proposals from r and from a kernel density of examples."""
    from thesis_tf import autoencoders
    from thesis_tf.autoencoders import theory

    density = autoencoders.KernelDensity(x, network.sigma)
    rng = np.random.default_rng([network.draw, 5])
    start = noisy[:1000]
    end = start + _step(network) * rng.standard_normal(start.shape)
    by_r = estimator.energy_difference(start, end, num_points=2)
    by_density = density.log_prob(start) - density.log_prob(end)
    accepted = [np.minimum(1.0, np.exp(-e)) for e in (by_r, by_density)]
    return {
        "error": theory.relative_rmse(by_r, by_density, np.ones(len(start))),
        "accepted": [float(a.mean()) for a in accepted],
    }


def draw(result: dict[str, Any], path: pathlib.Path) -> None:
    """Draws data, data with noise, and samples in two pairs of dimensions."""
    from thesis_tf import autoencoders

    autoencoders.draw_points(result["drawn"], path, max_pairs=2)


def claims(result: dict[str, Any]) -> list[Claim]:
    """Claims: r alone gives acceptance, and the samples are like the data."""
    told, inside, energies = result["told_apart"], result["inside"], result["energies"]
    # The accuracy at chance and its error come from fresh data, since votes aren't independent.
    chance = float(np.mean(told["fresh"]))
    error = float(np.std(told["fresh"], ddof=1)) * (1 + 1 / len(told["fresh"])) ** 0.5
    alike = told["samples"] < chance + 2 * error
    samples_error, fresh_error = (
        _binomial(inside[name], result["chains"]) for name in ("samples", "fresh")
    )
    off = np.hypot(samples_error, fresh_error)
    return [
        Claim(
            "Energy differences, and so acceptance, can be computed from r alone (Eq 3.14).",
            NO_NUMBER,
            f"relative error {energies['error']:.1%} compared with a kernel density, at proposals"
            f" from noisy test points; r accepts {energies['accepted'][0]:.1%} of them, the kernel"
            f" density {energies['accepted'][1]:.1%}; the chains accepted"
            f" {result['acceptance']:.1%}",
            verdict(energies["error"] ** 2 < _LEFT_OUT),
        ),
        Claim(
            "The samples lie along the manifold.",
            NO_NUMBER,
            f"{inside['samples']:.1%} of them are as near as noisy data; so are"
            f" {inside['fresh']:.1%} of fresh noisy data and {inside['initial']:.1%} of the chains'"
            " initial states",
            verdict(inside["samples"] > inside["fresh"] - 2 * off),
        ),
        Claim(
            "The samples can't be distinguished from the data with noise.",
            NO_NUMBER,
            f"accuracy of five nearest neighbors: {told['samples']:.3f} for samples, {chance:.3f} ±"
            f" {error:.3f} for fresh data ({len(told['fresh'])} draws), {told['tenth']:.3f} with"
            f" 10 % too much noise, {told['fifth']:.3f} with 20 %; test loss / sigma^2:"
            f" {result['losses']['r']:.2f}, and {result['losses']['kernel density']:.2f} for a"
            " kernel density",
            # If even 20 % more noise isn't detected, the test has no power.
            verdict(alike, told=not alike or told["fifth"] > chance + 2 * error),
        ),
    ]


def _binomial(fraction: float, count: int) -> float:
    """Returns the standard error of a fraction; for 0 and 1, that of a single case."""
    return max((fraction * (1 - fraction) / count) ** 0.5, 1 / count)
