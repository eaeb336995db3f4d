r"""Compares importance sampling with uniform draws over seeds: figures 7.2 to 7.4, Table 7.1.

Every run trains the same network on this machine. The gradient norms of all training examples are
measured every --refresh_every steps (7.4.1), or never for uniform draws. The program compares
numbers of steps, not the cost of a step:

    python -m bin.issgd_compare --steps=600 --seeds=3
    python -m bin.issgd_compare --dataset=mnist --data_dir=... --learning_rate=.1 --steps=3000

The settings of the thesis, but without workers (its other setting is --learning_rate=.001
--smoothing=1):

    python -m bin.issgd_compare --dataset=svhn --data_dir=... --model=issgd_mlp \
        --learning_rate=.01 --momentum=.95 --smoothing=10 --examples=65000,7000,26032

After a kill, the same command continues; an unfinished run starts again from its beginning. The
same command with more --seeds adds runs. The program writes to --output_dir:

    runs/METHOD_SEED.json       losses, errors, gradient variances over the steps of one run
    training.png                medians and quartiles over seeds (figures 7.2 and 7.3)
    gradient_variance.png       square roots of gradient variances (figure 7.4)
    table.txt, summary.json     steps until a loss is reached; errors at the end (Table 7.1)
"""

import dataclasses
import functools
import math
import pathlib

from bin.common import configs, contents, ends, flags, runs
from bin.common.flags import option
from bin.jobs.issgd import config as issgd_configs


def _are_losses(values: list[str]) -> bool:
    try:
        return bool(values) and all(0 < float(value) < math.inf for value in values)
    except ValueError:
        return False


@dataclasses.dataclass(frozen=True)
class Config(issgd_configs.Config):
    """The settings of a comparison."""

    steps: int = issgd_configs.steps_option()
    refresh_every: int = option(
        50, "Steps between measurements of all gradient norms.", lower_bound=1
    )
    evaluate_every: int = option(50, "Steps between evaluations.", lower_bound=1)
    targets: tuple[float, ...] = option(
        (0.5, 0.2, 0.1, 0.05),
        "Training losses to reach.",
        valid=_are_losses,
        message="must be losses above 0, e.g. 0.5,0.1",
    )
    stop_at_target: bool = option(False, "End a run when it reaches the lowest of --targets.")
    true_gradient: bool = option(
        False, "Also compute the true gradient at each measurement, for exact variances."
    )


@dataclasses.dataclass(frozen=True)
class Seeds:
    """The number of runs; a later call can add more to a comparison."""

    seeds: int = option(5, "Runs of each method.", lower_bound=1)


flags.define(
    __name__,
    Config,
    Seeds,
    configs.Output,
    defaults={**issgd_configs.DEFAULTS, "learning_rate": 0.1, "steps": 1000},
    leave_out=[
        "run_id",
        "block_size",
        "staleness",
        "staleness_seconds",
        "min_usable",
        "sync_every",
    ],
)


def config_from_flags() -> Config:
    """Reads the flags; raises UsageError for a combination that makes no sense."""
    config = flags.read(Config)
    if config.hardware.distribution != "none":
        raise flags.UsageError("A comparison runs on one device: use --distribution=none.")
    config.check()
    return dataclasses.replace(config, targets=tuple(sorted(config.targets, reverse=True)))


def run(
    config: Config,
    folder: pathlib.Path,
    seeds: int,
    *,
    begin: runs.Begin = runs.no_folder,
    warn: ends.Warn = ends.unheard,
) -> str:
    """Executes all runs that are not finished yet; returns a table of all runs.

    `begin` is called after all checks of the arguments, before anything is written; `warn` if a
    diagnostic is bad.
    """
    from bin.jobs.issgd import comparison
    from thesis_tf import hardware, issgd
    from thesis_tf.reporting import progress

    splits = config.run.load()
    hardware.configure(config.hardware)
    config.run.build(splits)  # raises, before anything is written, for a network that doesn't fit
    begin(contents.of_splits(splits))
    done: dict[str, list[issgd.History]] = {name: [] for name in comparison.METHODS}
    jobs = [(seed, method) for seed in range(seeds) for method in comparison.METHODS]
    with progress.bar("auto", total=len(jobs), unit="run") as bar:
        for seed, method in jobs:
            path = folder / "runs" / f"{method}_{seed}.json"
            if not path.exists():
                sampling = comparison.Sampling(
                    batch_size=config.training.batch_size,
                    refresh_every=None if method == "uniform" else config.refresh_every,
                    smoothing=config.draws.rule(),
                    seed=seed,
                    true_gradient=config.true_gradient,
                )
                target = min(config.targets) if config.stop_at_target else None
                evaluation = comparison.Evaluation(
                    issgd_configs.pairs(splits), config.evaluate_every, config.steps, target
                )
                history = comparison.train(config, splits, sampling, evaluation)
                comparison.save(history, path)
            done[method].append(comparison.load(path))
            bar.update()
    return comparison.report(done, config.targets, folder, labels=splits.test.y, warn=warn)


def main(argv: list[str]) -> None:
    """Flags, config, run."""
    with ends.clean_errors(argv):
        config, output = config_from_flags(), flags.read(configs.Output)
        default = "runs/issgd_compare"
        folder = runs.claim(output.output_dir or default, config, output.overwrite)
        begin = functools.partial(runs.begin, folder, config, overwrite=output.overwrite)
        doubts: list[str] = []
        table = run(config, folder, flags.read(Seeds).seeds, begin=begin, warn=doubts.append)
        print(f"{table}\nAll results are in {folder}.")
        ends.conclude(folder, doubts, extent={"seeds": flags.read(Seeds).seeds})


if __name__ == "__main__":
    ends.start(main)
