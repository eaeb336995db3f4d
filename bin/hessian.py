r"""Computes extreme eigenvalues of a loss' Hessian, and the best steps along its eigenvectors.

Without flags it trains the LeNet of chapter 11 (3,274,634 parameters) for 50 steps on the bundled
data, computes the 20 largest and the 3 smallest eigenvalues on 2,000 of its examples, and searches
for the best step along each eigenvector (figures 11.1 to 11.4). This takes six minutes on two
cores:

    python -m bin.hessian

Eigenvalues over training (figures 11.5 and 11.6), during training or from weights saved by
bin.train:

    python -m bin.hessian --train_steps=1000 --at_steps=0,10,50,100,200,500,1000 \
        --output_dir=runs/f
    python -m bin.hessian --checkpoints=step_0000000.weights.h5,step_0000300.weights.h5 \
        --output_dir=runs/checkpoints

Also the density of the whole spectrum, and a comparison of a subset with all examples (section
11.D):

    python -m bin.hessian --density --output_dir=runs/density
    python -m bin.hessian --subset=.05 --compare_subset --noline_search --output_dir=runs/subset

A pretrained network; vectors of the search that exceed a memory limit (in MiB) are kept on disk:

    python -m bin.hessian --model=resnet50 --weights=resnet50.weights.h5 --dataset=cifar10 \
        --image_size=64 --subset=64 --hessian_batch_size=32 --largest=3 --smallest=1 \
        --memory_limit=1000 --output_dir=runs/resnet50

By default, training uses RMSProp with batches of 32. The Hessian is that of the mean cross-entropy
over the subset, with all layers in inference mode. Before long computations, a self-check tests the
derivatives in float64. After a kill, the same command continues; with several machines
(--distribution=multi_worker) a search starts again from the beginning. The program writes to
--output_dir:

    eigenvalues.json, eigenpairs.npz   values with residuals |Hv - lambda v|; also with vectors
    spectrum.png                       the eigenvalues at both ends
    density.npz, trace.json            with --density: the whole spectrum, also in spectrum.png
    line_searches.png                  the loss along the two extreme eigenvectors (11.1 and 11.2)
    best_steps.json, .png              the best step along each eigenvector (11.3 and 11.4)
    history/, history.txt, .png        with --at_steps or --checkpoints, figures 11.5 and 11.6
    subset.json, .txt                  with --compare_subset
    logs/, checkpoint.npz              for TensorBoard; the state from which training continues
"""

import dataclasses
import functools
import pathlib
from typing import TYPE_CHECKING, Literal

from bin.common import configs, ends, flags, runs
from bin.common.flags import option

if TYPE_CHECKING:
    from thesis_tf.hessian import Eigenpairs, SpectrumHistory

DEFAULTS = {"model": "lenet", "optimizer": "rmsprop", "batch_size": 32}
COMPARED = 10  # the number of eigenvalues at each end (section 11.D)


def _are_steps(values: list[str]) -> bool:
    return all(value.isdigit() for value in values)


@dataclasses.dataclass(frozen=True)
class Config:
    """The settings of one run; a folder with an equal config holds the same run."""

    data: configs.Data
    model: configs.Model
    hardware: configs.Hardware
    training: configs.Training
    checkpoints: tuple[str, ...] = option(
        (), "Files with weights of one network at several steps of training.", is_path=True
    )
    train_steps: int | None = option(
        None, "Steps to train first. Default: 50, or 0 if weights are given.", lower_bound=0
    )
    at_steps: tuple[int, ...] = option(
        (),
        "Steps of training at which to compute eigenvalues.",
        valid=_are_steps,
        message="must be steps, e.g. 0,10,100",
    )
    subset: float = option(
        2000.0,
        "The number of training examples whose loss is used, or, up to 1, their fraction.",
        lower_bound=1e-6,
    )
    largest: int = option(20, "The number of largest eigenvalues.", lower_bound=0)
    smallest: int = option(3, "The number of smallest eigenvalues.", lower_bound=0)
    tol: float = option(
        1e-3,
        "Largest residual of an eigenpair, relative to its eigenvalue, or to the smallest value"
        " that can be distinguished from 0 if that is larger.",
        lower_bound=1e-9,
    )
    solver: Literal["lanczos", "eigsh"] = option("lanczos", "How eigenpairs are computed.")
    gauss_newton: bool = option(False, "Use the Gauss-Newton matrix instead of the Hessian.")
    product_mode: Literal["forward_over_reverse", "forward_accumulator", "reverse_over_reverse"] = (
        option("forward_over_reverse", "How products are computed.")
    )
    parameters: tuple[str, ...] = option(
        (), "Only these layers or variables, by name or glob. Default: all."
    )
    hessian_batch_size: int = option(1000, "Examples per batch of the Hessian.", lower_bound=1)
    memory_limit: int = option(
        4096, "MiB for values kept between products, and MiB for vectors.", lower_bound=1
    )
    line_search: bool = option(True, "Search for the best step along each eigenvector.")
    density: bool = option(False, "Estimate the density of the whole spectrum.")
    density_steps: int = option(60, "Lanczos steps per random vector.", lower_bound=1)
    density_vectors: int = option(4, "Random vectors for the density.", lower_bound=2)
    compare_subset: bool = option(
        False,
        "Compare the subset with all examples (11.D): 10 eigenvalues at each end, or --largest and"
        " --smallest.",
    )
    check: bool = option(True, "Check the derivatives before long computations.")
    compared: tuple[int, int] = (COMPARED, COMPARED)  # the numbers of largest and of smallest


flags.define(
    __name__, Config, configs.Output, defaults={**DEFAULTS, "epochs": 0}, leave_out=["epochs"]
)


def config_from_flags() -> Config:
    """Reads the flags; raises UsageError for a combination that makes no sense."""
    config = flags.read(Config)
    model, steps = config.model, config.train_steps
    if steps is None:
        given = model.weights != "none" or config.checkpoints or model.model.endswith(".keras")
        steps = 0 if given else 50
    largest, smallest = (
        value if flags.given(name) else COMPARED
        for name, value in (("largest", config.largest), ("smallest", config.smallest))
    )
    config = dataclasses.replace(
        config,
        train_steps=steps,
        at_steps=tuple(sorted(set(config.at_steps))),
        compared=(largest, smallest),
    )
    _check(config, steps)
    return config


def _check(config: Config, steps: int) -> None:
    model, at_steps = config.model, config.at_steps
    if config.subset > 1 and config.subset != int(config.subset):
        raise runs.UsageError(
            f"--subset must be a fraction up to 1, or a whole number. Received: {config.subset}."
        )
    if config.checkpoints and (steps or at_steps or model.weights != "none"):
        raise runs.UsageError(
            "--checkpoints are from a finished training: leave out --train_steps, --at_steps and"
            " --weights."
        )
    if at_steps and at_steps[-1] > steps:
        raise runs.UsageError(
            f"--at_steps={at_steps[-1]} is after the last of {steps} --train_steps."
        )
    if (config.checkpoints or at_steps) and (config.gauss_newton or config.solver == "eigsh"):
        raise runs.UsageError("--checkpoints and --at_steps take the Hessian and --solver=lanczos.")
    if (config.checkpoints or at_steps) and config.hardware.distribution == "multi_worker":
        raise runs.UsageError("--checkpoints and --at_steps run on one machine.")
    if config.checkpoints:
        chosen = {"density": config.density, "compare_subset": config.compare_subset}
        runs.refuse(
            [name for name, value in chosen.items() if value],
            "--checkpoints compute only eigenvalues; pass one of the files as --weights for more",
        )
    if config.gauss_newton and config.product_mode == "forward_accumulator":
        raise runs.UsageError("--gauss_newton doesn't support --product_mode=forward_accumulator.")
    if model.auxiliary_head:
        raise runs.UsageError(
            "The Hessian is that of a loss with one output: leave out --auxiliary_head."
        )
    if not config.density:
        runs.refuse_given(("density_steps", "density_vectors"), "they require --density")
    if not steps:
        unused = ("optimizer", "learning_rate", "batch_size", "checkpoint_every")
        runs.refuse_given(unused, "--train_steps is 0")
    if not config.largest + config.smallest:
        raise runs.UsageError("--largest and --smallest are both 0.")


def run(
    config: Config,
    folder: pathlib.Path,
    *,
    begin: runs.Begin = runs.no_folder,
    warn: ends.Warn = ends.unheard,
    verbose: int = 0,
) -> "Eigenpairs | SpectrumHistory":
    """Computes the results of `config`, writes to `folder`, and returns the eigenvalues.

    `begin` is called after all checks of the arguments, before anything is written; `warn` if
    eigenpairs have not converged.
    """
    from bin.jobs import hessian

    return hessian.run(config, folder, begin=begin, warn=warn, verbose=verbose)


def main(argv: list[str]) -> None:
    """Runs the program."""
    with ends.clean_errors(argv):
        config, output = config_from_flags(), flags.read(configs.Output)
        folder = runs.claim(output.output_dir or "runs/hessian", config, output.overwrite)
        doubts: list[str] = []
        found = run(
            config,
            folder,
            begin=functools.partial(runs.begin, folder, config, overwrite=output.overwrite),
            warn=doubts.append,
            verbose=runs.verbose(),
        )
        print(f"{found.table()}\nAll results are in {folder}.")
        ends.conclude(folder, doubts)


if __name__ == "__main__":
    ends.start(main)
