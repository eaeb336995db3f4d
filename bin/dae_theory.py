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
from typing import Any

from bin.common import configs, ends, flags, runs
from bin.common.flags import option


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
    config: Config, folder: pathlib.Path, *, begin: runs.Begin = runs.no_folder
) -> dict[str, Any]:
    """Computes everything, writes it to `folder`, and returns {claim: numbers}."""
    from bin.jobs import dae_theory

    return dae_theory.run(config, folder, begin=begin)


def main(argv: list[str]) -> None:
    """Flags, config, run."""
    with ends.clean_errors(argv):
        config, output = config_from_flags(), flags.read(configs.Output)
        folder = runs.claim(output.output_dir or "runs/dae_theory", config, output.overwrite)
        found = run(
            config,
            folder,
            begin=functools.partial(runs.begin, folder, config, overwrite=output.overwrite),
        )
        from bin.jobs import dae_theory

        print(f"{dae_theory.table(found)}\nAll results are in {folder}.")
        ends.conclude(folder)


if __name__ == "__main__":
    ends.start(main)
