"""Figure 3.3: the energy of a density in one dimension, with several wells."""

import dataclasses
import pathlib
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from bin.reproduction.engine.contract import NO_NUMBER, Claim, Settings, verdict

if TYPE_CHECKING:
    from thesis_tf.autoencoders.theory import ThreeWells

TITLE = "The energy of a density in one dimension, with wells of unequal depth"
CAPTION = (
    "E(x) = (a (x + 1)^2 + 1) (2 a x^2 + 1) (3 a (x - 1)^2 + 1) / 1000 with a = 10, and the density"
    " exp(-E(x)) / Z on [-1.5, 1.5]. Dots are modes; the cross is a shoulder, where the absolute"
    " slope has a minimum above 0."
)
_DRAWN = 1000  # the number of points that are drawn, for any grid


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(Settings):
    """The settings of the grid.

    Attributes:
        points: the number of grid points on [-1.5, 1.5].
    """

    points: int = 1000


CONFIGS = {
    "quick": Config(expected_seconds=1),
    "full": Config(expected_seconds=1),
}


def run(config: Config) -> dict[str, Any]:
    """Returns E, p and the slope of E on the grid, the modes, and the probability mass outside."""
    from thesis_tf.autoencoders import theory

    wells = theory.ThreeWells()
    grid, fine = wells.grid(config.points), wells.grid(10 * config.points)
    wide = np.linspace(-3.0, 3.0, 20 * config.points + 1)
    mass, finer, whole = (float(np.trapezoid(wells(x), x)) for x in (grid, fine, wide))
    beyond = np.where(abs(wide) > 1.5, wells(wide), 0.0)
    slope = -wells.score(fine)
    return {
        "grid": wells.grid(_DRAWN),
        "energy": wells.energy(wells.grid(_DRAWN)),
        "density": wells(wells.grid(_DRAWN)) / mass,
        "modes": _with_energy(wells, _minima(fine, wells.energy(fine))),
        # Where the absolute slope has a minimum above 0.
        "shoulders": _with_energy(wells, _minima(fine, abs(slope), above=1e-2)),
        "slopes": abs(wells.score(_minima(fine, abs(slope), above=1e-2))),
        "mass": mass,
        "change_on_a_finer_grid": abs(finer / mass - 1),
        "beyond": float(np.trapezoid(beyond, wide)) / whole,
    }


def _minima(
    x: npt.NDArray[Any], values: npt.NDArray[Any], above: float = -np.inf
) -> npt.NDArray[Any]:
    """Returns the points of a grid with lower values than both neighbors, above a level."""
    inner = values[1:-1]
    lowest = (inner < values[:-2]) & (inner < values[2:]) & (inner > above)
    return x[1:-1][lowest]


def _with_energy(wells: "ThreeWells", x: npt.NDArray[Any]) -> dict[str, npt.NDArray[Any]]:
    return {"x": x, "energy": wells.energy(x)}


def draw(result: dict[str, Any], path: pathlib.Path) -> None:
    """Draws the energy and the density side by side."""
    from thesis_tf.plotting import style

    figure = style.new_figure(7.2, 3.2)
    left, right = figure.subplots(1, 2)
    grid, mass = result["grid"], result["mass"]
    style.style_axes(left, "x", "E(x)")
    left.plot(grid, result["energy"], color=style.INK, linewidth=1.5)
    left.set_ylim(0, 6)  # p is nearly 0 where E is larger
    style.style_axes(right, "x", "p(x)")
    right.plot(grid, result["density"], color=style.INK, linewidth=1.5)
    for name, marker, color in (
        ("modes", "o", style.VERMILION),
        ("shoulders", "X", style.BLUE),
    ):
        x, energy = result[name]["x"], result[name]["energy"]
        for axes, y in ((left, energy), (right, np.exp(-energy) / mass)):
            axes.scatter(x, y, s=36, marker=marker, color=color, zorder=4, label=name)
    style.add_legend(left)
    style.save(figure, path)


def claims(result: dict[str, Any]) -> list[Claim]:
    """Checks the number of wells, and whether the interval contains all of them."""
    modes, shoulders = result["modes"], result["shoulders"]
    at = _listed(modes["x"])
    beside = ""
    if len(shoulders["x"]):
        slopes = _listed(result["slopes"])
        beside = f"; a shoulder at {_listed(shoulders['x'])}, where E has a slope of {slopes}"
    energies = np.sort(modes["energy"])
    unequal = len(energies) > 1 and np.diff(energies).min() > 0.01
    return [
        Claim(
            "The density has three modes.",
            NO_NUMBER,
            f"{len(modes['x'])} maxima, at x = {at}{beside}",
            verdict(len(modes["x"]) == 3),
        ),
        Claim(
            "The wells are of unequal depth.",
            NO_NUMBER,
            f"E = {_listed(modes['energy'])} at their minima",
            verdict(unequal),
        ),
        Claim(
            "Practically all of the probability mass is in [-1.5, 1.5], and 1,000 points are enough"
            " to compute it.",
            NO_NUMBER,
            f"{result['beyond']:.0e} of the mass is outside; the integral of exp(-E) is"
            f" {result['mass']:.4f}, and changes by {result['change_on_a_finer_grid']:.0e} with ten"
            " times as many points",
            # The bound is about the resolution of float32 at 1.
            verdict(max(result["beyond"], result["change_on_a_finer_grid"]) < 1e-7),
        ),
    ]


def _listed(numbers: npt.NDArray[Any]) -> str:
    return " and ".join(f"{number:.3g}" for number in numbers)
