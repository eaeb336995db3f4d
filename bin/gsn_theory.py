r"""Checks the propositions of chapter 5 on enumerated spaces, and reproduces figure 5.3.

For random discrete problems, the chains of the thesis' propositions are constructed as matrices,
and their stationary distributions are compared with the data's. Then P(x | x~) is learned without a
network: by counting, for ten values, and by smoothing kernels, for a curve in ten dimensions. This
takes ten seconds, half of them to load TensorFlow:

    python -m bin.gsn_theory

The program writes to --output_dir:

    theory.json       all results, by claim
    histogram.png     figure 5.3, top: the data, and the chain that was learned by counting
    manifold.png      figure 5.3, bottom: training examples, and chains of a Parzen conditional

In theory.json, distance is the largest |pi - pi'|_1 of all problems. p_value is that of a
chi-square test of the histogram against the exact stationary distribution, which accounts for
autocorrelation. two_sample_accuracy is the accuracy with which neighbors distinguish chains from
test examples (0.5 by chance). For comparison it is also computed for independent draws from the
same smoothing kernels, the best possible result with these.
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

    problems: int = option(200, "Random problems for each proposition.", lower_bound=1)
    perturbations: int = option(1000, "Perturbed transition matrices (Theorem 4).", lower_bound=1)
    seed: int = configs.seed_option()


flags.define(__name__, Config, configs.Output)


def run(
    config: Config, folder: pathlib.Path, *, begin: runs.Begin = runs.no_folder
) -> dict[str, Any]:
    """Computes everything, writes it to `folder`, and returns {claim: numbers}."""
    from bin.jobs import gsn_theory

    return gsn_theory.run(config, folder, begin=begin)


def main(argv: list[str]) -> None:
    """Flags, config, run."""
    with ends.clean_errors(argv):
        config, output = flags.read(Config), flags.read(configs.Output)
        folder = runs.claim(output.output_dir or "runs/gsn_theory", config, output.overwrite)
        found = run(
            config,
            folder,
            begin=functools.partial(runs.begin, folder, config, overwrite=output.overwrite),
        )
        for name, distance in found["propositions"]["distance"].items():
            print(f"{name}: stationary distributions within {distance:.1e} of the data's")
        bound = found["theorem_4"]
        print(f"Theorem 4 held on {bound['held']} of {bound['perturbations']} perturbations")
        print(
            f"Figure 5.3: p-value {found['histogram']['p_value']:.2f}, two-sample accuracy"
            f" {found['manifold']['chains']['two_sample_accuracy']:.3f}"
        )
        print(f"All results are in {folder}.")
        ends.conclude(folder, found["warnings"])


if __name__ == "__main__":
    ends.start(main)
