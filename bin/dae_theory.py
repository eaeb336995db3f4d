r"""Checks the theorems of chapter 3 on exact solutions: figures 3.3 and 3.4.

The optimal RCAE and DAE of a density in one dimension are compared with the score and the curvature
of the density; local moments are compared with their asymptotic formulas in several dimensions.
This takes ten seconds, mostly to load TensorFlow:

    python -m bin.dae_theory

The program writes to --output_dir:

    theory.json       all results, by claim
    wells.png         the energy of figure 3.3, and scores at the sigmas of the thesis (3.4)
    wells_small.png   the same at smaller sigmas, which approximate the limit
"""

import dataclasses
import functools
import pathlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from absl import app

from bin.common import configs, flags, runs
from bin.common.flags import option
from thesis_tf.reporting import tables

if TYPE_CHECKING:
    import numpy.typing as npt

THESIS_SIGMAS = (1.0, 0.31, 0.16, 0.06)
SMALL_SIGMAS = (0.08, 0.04, 0.02, 0.01)
DELTAS = (0.4, 0.2, 0.1)


@dataclasses.dataclass(frozen=True)
class Config:
    """The settings of one run."""

    points: int = option(1000, "Points of the grid on [-1.5, 1.5].", lower_bound=400)
    dimensions: tuple[int, ...] = option((1, 2, 3, 5), "Dimensions for the local moments, 1 to 6.")
    seed: int = configs.seed_option()


flags.define(__name__, Config, configs.Output)


def config_from_flags() -> Config:
    """Reads the flags; raises UsageError for a dimension that is too large."""
    config = flags.read(Config)
    if not all(1 <= dimension <= 6 for dimension in config.dimensions):
        raise runs.UsageError("--dimensions must be numbers from 1 to 6.")
    return config


def run(
    config: Config, folder: pathlib.Path, *, begin: Callable[[], None] = lambda: None
) -> dict[str, Any]:
    """Computes everything, writes it to `folder`, and returns {claim: numbers}."""
    from thesis_tf.autoencoders import theory
    from thesis_tf.persistence import files

    begin()
    found: dict[str, Any] = {"scores": scores(config), "proposition_1": losses(config)}
    found["hessian"] = curvatures(config)
    found["local_moments"] = {str(d): moments(d, config.seed) for d in config.dimensions}
    files.write_json(folder / "theory.json", found)
    wells = theory.ThreeWells()
    grid = wells.grid(config.points)
    for name, sigmas in (("wells", THESIS_SIGMAS), ("wells_small", SMALL_SIGMAS)):
        estimates = {
            sigma: {
                "RCAE": theory.rcae_score_1d(wells, grid, sigma),
                "DAE": theory.dae_score_1d(wells, grid, sigma),
            }
            for sigma in sigmas
        }
        path = folder / f"{name}.png"
        theory.draw_exact_1d(grid, wells.energy(grid), wells.score(grid), estimates, path)
    return found


def scores(config: Config) -> list[dict[str, float]]:
    """Returns relative errors of both scores, weighted by p (Theorems 1 and 2)."""
    from thesis_tf.autoencoders import theory

    wells = theory.ThreeWells()
    grid = wells.grid(config.points)
    truth, p = wells.score(grid), wells(grid)
    return [
        {
            "sigma": sigma,
            "rcae": theory.relative_rmse(theory.rcae_score_1d(wells, grid, sigma), truth, p),
            "dae": theory.relative_rmse(theory.dae_score_1d(wells, grid, sigma), truth, p),
        }
        for sigma in sorted({*THESIS_SIGMAS, *SMALL_SIGMAS}, reverse=True)
    ]


def losses(config: Config) -> list[dict[str, float]]:
    """Returns the DAE and the RCAE loss of the same r, o(sigma^2) apart (Proposition 1)."""
    from thesis_tf.autoencoders import theory

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


def curvatures(config: Config) -> list[dict[str, float]]:
    """Returns relative errors of (dr/dx - 1) / sigma^2, weighted by p (Eq 3.9)."""
    import numpy as np

    from thesis_tf.autoencoders import theory

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
    import numpy as np

    from thesis_tf import autoencoders
    from thesis_tf.autoencoders import theory

    rng = np.random.default_rng([seed, dimension])
    kernels = autoencoders.KernelDensity(rng.normal(size=(6, dimension)), 0.8)
    estimator = autoencoders.ScoreEstimator(kernels.reconstruct, sigma=0.8)
    centers = rng.normal(size=(8, dimension)) / 2
    density = np.exp(kernels.log_prob(centers))
    score, hessian = estimator.score(centers), estimator.hessian_log_prob(centers)

    def p(x: "npt.NDArray[Any]") -> "npt.NDArray[Any]":
        return np.exp(kernels.log_prob(x))

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


def main(argv: list[str]) -> None:
    """Flags, config, run."""
    with runs.clean_errors(argv):
        config, output = config_from_flags(), flags.read(configs.Output)
        folder = runs.claim(output.output_dir or "runs/dae_theory", config, output.overwrite)
        found = run(config, folder, begin=functools.partial(runs.begin, folder, config))
        print(f"{table(found)}\nAll results are in {folder}.")


if __name__ == "__main__":
    app.run(main)
