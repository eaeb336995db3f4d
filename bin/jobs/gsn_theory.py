"""The numbers and figures of `bin.gsn_theory`: enumerated chains, and figure 5.3."""

import pathlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from bin.common import runs
from thesis_tf import autoencoders, datasets, gsn
from thesis_tf.gsn import finite
from thesis_tf.persistence import files
from thesis_tf.plotting import style

if TYPE_CHECKING:
    from bin.gsn_theory import Config

CORRUPTION_SCALE, KERNEL_SCALE = 0.5, 0.01
CHAINS, CHAIN_STEPS, KEPT_EVERY = 50, 1000, 20
_ROUNDING = 1e-8  # of the distance of two stationary distributions
_LEAST_P = 1e-4


def run(
    config: "Config", folder: pathlib.Path, *, begin: runs.Begin = runs.no_folder
) -> dict[str, Any]:
    """Computes everything, writes it to `folder`, and returns {claim: numbers}."""
    begin()
    rng = np.random.default_rng(config.seed)
    found: dict[str, Any] = {
        "propositions": propositions(config, rng),
        "theorem_4": theorem_4(config, rng),
        "histogram": histogram(config.seed, folder / "histogram.png"),
        "manifold": manifold(config.seed, folder / "manifold.png"),
    }
    found["warnings"] = doubts(found)
    files.write_json(folder / "theory.json", found)
    return found


def doubts(found: Mapping[str, Any]) -> list[str]:
    """Returns sentences on numbers that contradict what is proven, and so can't be right."""
    said = [
        f"{name}: stationary distributions are {distance:.1e} from the data's, where rounding"
        f" allows {_ROUNDING:g}."
        for name, distance in found["propositions"]["distance"].items()
        if not distance <= _ROUNDING
    ]
    bound = found["theorem_4"]
    if bound["held"] < bound["perturbations"]:
        said.append(
            f"The bound of Theorem 4 held on {bound['held']} of {bound['perturbations']:,}"
            " perturbations, but it is proven for all."
        )
    return said + histogram_doubts(found["histogram"]["p_value"])


def histogram_doubts(p_value: float) -> list[str]:
    """Returns a sentence if a chain's histogram isn't that of its stationary distribution."""
    if p_value >= _LEAST_P:
        return []
    return [f"The chain's histogram is not that of its stationary distribution (p {p_value:.1e})."]


def propositions(config: "Config", rng: np.random.Generator) -> dict[str, Any]:
    """Returns the largest distance of stationary and data distributions over random problems."""
    farthest: dict[str, float] = {}
    for _ in range(config.problems):
        n, m = rng.integers(2, 9, 2)
        data, corruption = rng.dirichlet(np.ones(n)), rng.dirichlet(np.ones(m), n)
        hidden = rng.dirichlet(np.ones(m), n)
        pair = rng.dirichlet(np.ones(n * m)).reshape(n, m)
        latent = finite.latent_chain(data, hidden)
        checks = {
            "denoising (5.3.1)": finite.denoising_chain(data, corruption),
            "walkback (Proposition 1)": finite.walkback_chain(
                data, corruption, finite.geometric_probabilities(0.5)
            ),
            "latent (Proposition 2)": latent,
            "clamped (5.B)": finite.clamped_chain(
                hidden, latent.reconstruction, np.arange(n) < max(1, n // 2)
            ),
            "dependency network (Proposition 5)": finite.dependency_network(pair),
        }
        for name, check in checks.items():
            assert check.applies, (name, check.conditions)
            farthest[name] = max(farthest.get(name, 0.0), float(check.distance))
    return {"problems": config.problems, "distance": farthest}


def theorem_4(config: "Config", rng: np.random.Generator) -> dict[str, Any]:
    """Returns how often the bound holds for random perturbations, and how tight it is."""
    held, ratios, sharper = 0, [], []
    for _ in range(config.perturbations):
        n = rng.integers(2, 13)
        matrix, other = rng.dirichlet(np.ones(n), (2, n))
        fraction = 10 ** rng.uniform(-6, 0)
        found = finite.perturbation_bound(matrix, (1 - fraction) * matrix + fraction * other)
        held += found.holds
        ratios.append(found.distance / found.bound)
        sharper.append(found.distance / found.sharper_bound)
    return {
        "perturbations": config.perturbations,
        "held": held,
        "median_distance_to_bound": float(np.median(ratios)),
        "median_distance_to_sharper_bound": float(np.median(sharper)),
    }


def histogram(seed: int, path: pathlib.Path) -> dict[str, Any]:
    """Learns ten values by counting from 5,000 examples (figure 5.3, top)."""
    data = np.random.default_rng([seed, 1]).dirichlet(2 * np.ones(10))
    found = finite.counting_chain(data, finite.local_corruption(10), seed=seed)
    shown = {"5,000 examples": found.training_histogram, "5,000 steps": found.chain_histogram}
    gsn.draw_histograms(
        shown,
        path,
        errors={"5,000 steps": found.standard_errors},
        truth=found.truth,
        title=style.heading(None, histogram_doubts(found.p_value), width=60),
    )
    away = np.abs(found.chain_histogram - found.stationary) / found.standard_errors
    return {
        "truth": found.truth.tolist(),
        "training": found.training_histogram.tolist(),
        "chain": found.chain_histogram.tolist(),
        "stationary": found.stationary.tolist(),
        "largest_error_in_standard_errors": float(away.max()),
        "p_value": found.p_value,
        "distance_of_stationary_to_truth": float(np.abs(found.stationary - found.truth).sum()),
    }


def manifold(seed: int, path: pathlib.Path) -> dict[str, Any]:
    """Samples a curve with a Parzen estimate of P(x | x~) (figure 5.3, bottom)."""
    splits = datasets.load_inputs("manifold10d", examples=(5000, 100, 2500), seed=seed)
    chains = finite.parzen_chain(
        splits.train.x, CORRUPTION_SCALE, KERNEL_SCALE, CHAIN_STEPS, num_chains=CHAINS, seed=seed
    )
    kept = chains[KEPT_EVERY - 1 :: KEPT_EVERY].reshape(-1, 10)
    autoencoders.draw_points({"training examples": splits.train.x, "chains": kept}, path)
    rng = np.random.default_rng([seed, 2])
    kernels = splits.train.x[rng.integers(len(splits.train), size=len(kept))]
    kernels = kernels + KERNEL_SCALE * rng.standard_normal(kernels.shape)
    found: dict[str, Any] = {"samples": len(kept)}
    for name, samples in (("chains", kept), ("kernels_alone", kernels)):
        test = autoencoders.nearest_neighbor_test(
            samples.astype(splits.test.x.dtype), splits.test.x
        )
        found[name] = {
            "two_sample_accuracy": test.accuracy,
            "two_sample_standard_error": test.standard_error,
        }
    return found
