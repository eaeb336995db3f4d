"""The numbers and figures of `bin.dae_theory`: exact solutions, and local moments."""

import pathlib
from typing import TYPE_CHECKING, Any

import numpy as np

from bin.common import runs
from thesis_tf import autoencoders
from thesis_tf.autoencoders import theory
from thesis_tf.persistence import files
from thesis_tf.reporting import tables

if TYPE_CHECKING:
    import numpy.typing as npt

    from bin.dae_theory import Config

THESIS_SIGMAS = (1.0, 0.31, 0.16, 0.06)
SMALL_SIGMAS = (0.08, 0.04, 0.02, 0.01)
DELTAS = (0.4, 0.2, 0.1)


def run(
    config: "Config", folder: pathlib.Path, *, begin: runs.Begin = runs.no_folder
) -> dict[str, Any]:
    """Computes everything, writes it to `folder`, and returns {claim: numbers}."""
    begin()
    found: dict[str, Any] = {"scores": scores(config), "proposition_1": losses(config)}
    found["hessian"] = curvatures(config)
    found["local_moments"] = {str(d): moments(d, config.seed) for d in config.dimensions}
    files.write_json(folder / "theory.json", found)
    wells = theory.ThreeWells()
    for name, sigmas in (("wells", THESIS_SIGMAS), ("wells_small", SMALL_SIGMAS)):
        exact = theory.exact_scores_1d(wells, wells.grid(config.points), sigmas)
        theory.draw_exact_1d(exact, folder / f"{name}.png")
    return found


def scores(config: "Config") -> list[dict[str, float]]:
    """Returns relative errors of both scores, weighted by p (Theorems 1 and 2)."""
    wells = theory.ThreeWells()
    sigmas = sorted({*THESIS_SIGMAS, *SMALL_SIGMAS}, reverse=True)
    errors = theory.exact_scores_1d(wells, wells.grid(config.points), sigmas).errors()
    rows = zip(sigmas, errors["rcae"], errors["dae"], strict=True)
    return [{"sigma": sigma, "rcae": rcae, "dae": dae} for sigma, rcae, dae in rows]


def losses(config: "Config") -> list[dict[str, float]]:
    """Returns the DAE and the RCAE loss of the same r, o(sigma^2) apart (Proposition 1)."""
    wells = theory.ThreeWells()
    grid, rows = wells.grid(config.points), []
    for sigma in SMALL_SIGMAS:
        row = {"sigma": sigma}
        # For the optimal r, and for an r that doesn't approach x as sigma vanishes.
        for name, r in (("best", theory.dae_1d(wells, grid, sigma)), ("other", grid**2)):
            denoising = theory.dae_loss_1d(r, wells, grid, sigma)
            contracting = theory.rcae_loss_1d(r, wells, grid, sigma)
            row[f"{name}_dae"], row[f"{name}_rcae"] = denoising, contracting
            row[f"{name}_difference_per_sigma2"] = abs(denoising - contracting) / sigma**2
        rows.append(row)
    return rows


def curvatures(config: "Config") -> list[dict[str, float]]:
    """Returns relative errors of (dr/dx - 1) / sigma^2, weighted by p (Eq 3.9)."""
    wells = theory.ThreeWells()
    grid = wells.grid(config.points)
    truth, p = wells.curvature(grid), wells(grid)
    rows = []
    for sigma in SMALL_SIGMAS:
        estimates = {
            "rcae": theory.rcae_score_1d(wells, grid, sigma),
            "dae": theory.dae_score_1d(wells, grid, sigma),
        }
        errors = {
            name: theory.relative_rmse(np.gradient(score, grid), truth, p)
            for name, score in estimates.items()
        }
        rows.append({"sigma": sigma, **errors})
    return rows


def moments(dimension: int, seed: int) -> list[dict[str, float]]:
    """Returns relative errors of Proposition 4 and Theorems 3 and 5 on a mixture of Gaussians."""
    rng = np.random.default_rng([seed, dimension])
    smoothed = autoencoders.KernelDensity(rng.normal(size=(6, dimension)), 0.8)
    estimator = autoencoders.ScoreEstimator(smoothed.reconstruct, sigma=0.8)
    centers = rng.normal(size=(8, dimension)) / 2
    density = np.exp(smoothed.log_prob(centers))
    score, hessian = estimator.score(centers), estimator.hessian_log_prob(centers)

    def p(x: "npt.NDArray[Any]") -> "npt.NDArray[Any]":
        return np.exp(smoothed.log_prob(x))

    rows: list[dict[str, float]] = []
    for delta in DELTAS:
        volume = theory.ball_volume(dimension, delta)
        plain = delta**2 / (dimension + 2) * np.eye(dimension)
        off, whole = np.zeros(3), np.zeros(3)
        for index, x0 in enumerate(centers):
            order = 8 if dimension < 5 else 6
            true = theory.local_moments(p, x0, delta, order=order)
            found = theory.asymptotic_moments(
                density[index], score[index], hessian[index], x0, delta
            )
            pairs: list[tuple[Any, Any, Any]] = [
                (found.mass, true.mass, volume * density[index]),
                (found.mean, true.mean, x0),
                (found.covariance, true.covariance, plain),
            ]
            off += [np.sum((a - b) ** 2) for a, b, _ in pairs]
            whole += [np.sum((b - c) ** 2) for _, b, c in pairs]
        names = ("mass", "mean", "covariance")
        errors = dict(zip(names, np.sqrt(off / whole).tolist(), strict=True))
        rows.append({"delta": delta, **errors})
    return rows


def table(found: dict[str, Any]) -> str:
    """Returns the results as text."""
    errors = ["sigma", "rcae", "dae"]
    parts = [
        ("relative error of the score, weighted by p (Theorems 1 and 2)", errors, found["scores"]),
        (
            "|DAE loss - RCAE loss| / sigma^2 for the optimal r, and for x^2 (Proposition 1)",
            ["sigma", "best_difference_per_sigma2", "other_difference_per_sigma2"],
            found["proposition_1"],
        ),
        ("relative error of the curvature (Eq 3.9)", errors, found["hessian"]),
        (
            "relative error of local moments (Proposition 4, Theorems 3 and 5)",
            ["dimension", "delta", "mass", "mean", "covariance"],
            [
                {"dimension": int(dimension), **row}
                for dimension, rows in found["local_moments"].items()
                for row in rows
            ],
        ),
    ]
    return "\n\n".join(
        f"{title}\n{tables.text(keys, [[row[key] for key in keys] for row in rows], left=())}"
        for title, keys, rows in parts
    )
