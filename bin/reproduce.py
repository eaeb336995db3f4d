r"""Recomputes the figures and tables of the thesis and checks which of its claims hold.

    python -m bin.reproduce --list
    python -m bin.reproduce --figures=3.4,table_5.1,'11.*'
    python -m bin.reproduce --budget=quick

The quick budget needs only bundled data and takes 12 minutes on two cores. For a figure that needs
other data or a pretrained network, it uses a stand-in and says so. The full budget uses the real
data and networks and takes two hours on two cores:

    python -m bin.reproduce --budget=full --data_dir=DATA \
        --resnet50_weights=resnet50_imagenet.weights.h5 \
        --inception_weights=inception_v3_notop.weights.h5 --output_dir=runs/report

DATA holds mnist.npz and cifar10.npz, and optionally train_32x32.mat and test_32x32.mat of SVHN;
without the latter, figures of SVHN use CIFAR-10. --faces is an .npz file with an array x, images of
one size, to use instead of the Toronto Face Database, which is not public. Figures whose files are
missing are listed and skipped.

The program writes to --output_dir:

    index.html    the report: all claims, then each figure; a self-contained page
    README.md     the report as Markdown, with images in figures/
    report.json   the report as JSON
    cache/        computed results (see --cache_dir)

A result in the cache is computed again only if its settings, its data or the code that computes it
have changed. After a kill, the same command continues; only the figure in progress is lost. If a
figure fails, the report shows its error, and the other figures are still computed.

To use many machines, start a Ray cluster whose machines have the packages that this checkout needs,
and use a shared folder for --cache_dir:

    python -m bin.reproduce --budget=full --ray_address=auto --cache_dir=/shared/cache --jobs=16 ...
"""

import dataclasses
import os
import pathlib
import shlex
import sys
from collections.abc import Sequence
from typing import Literal

from bin.common import configs, ends, flags, runs
from bin.common.flags import option
from bin.reproduction.engine import catalogue, contract, plan, pools, report, schedule, verdicts
from thesis_tf.reporting import tables

_GIB_A_JOB = 4
_CORES_A_RAY_TASK = 2


@dataclasses.dataclass(frozen=True)
class Config:
    """The settings of a report; a folder with an equal config holds the same report."""

    budget: Literal["quick", "full"] = option("quick", "How much to compute, and from which data.")
    seed: int = configs.seed_option()


@dataclasses.dataclass(frozen=True)
class SourceFlags:
    """The paths of data and weights that are not bundled, as `contract.Sources` has them."""

    data_dir: str | None = configs.data_dir()
    resnet50_weights: str | None = option(
        None, "Weights of a ResNet-50, trained on ImageNet.", is_path=True
    )
    inception_weights: str | None = option(
        None, "Weights of an Inception v3 without its top.", is_path=True
    )
    faces: str | None = option(
        None, "An .npz file of images, instead of the Toronto Face Database.", is_path=True
    )


@dataclasses.dataclass(frozen=True)
class Call:
    """Settings that may differ between calls for the same report."""

    figures: tuple[str, ...] = option(
        ("all",),
        "Names or globs, e.g. 3.4,table_5.1,11.*; see --list. The report has only these figures,"
        " even if others were computed before.",
    )
    list: bool = option(False, "List the figures, how long they take, and what they need.")
    jobs: int | None = option(
        None,
        "Figures that are computed at the same time, each in a process with an equal fraction of"
        " the cores. Default: one per core, but at most one per 4 GiB of memory.",
        lower_bound=1,
    )
    cache_dir: str | None = option(None, "Folder for computed results. Default: OUTPUT_DIR/cache.")
    ray_address: str | None = option(
        None, "A Ray cluster to compute on: auto, HOST:PORT, ray://..."
    )


flags.define(__name__, Config, SourceFlags, Call, configs.Output)


def config_from_flags() -> Config:
    """Reads the flags; raises UsageError for an invalid combination."""
    config = flags.read(Config)
    if config.budget == "quick":
        given = dataclasses.asdict(flags.read(SourceFlags))
        needless = [name for name, path in given.items() if path and name != "faces"]
        runs.refuse(needless, "--budget=quick uses bundled data; --budget=full uses these")
    return config


def sources_from_flags() -> contract.Sources:
    """Returns the paths of data and weights; raises UsageError for a missing file."""
    paths = {}
    for name, given in dataclasses.asdict(flags.read(SourceFlags)).items():
        if given:
            path = pathlib.Path(given).absolute()
            if not (path.is_dir() if name == "data_dir" else path.is_file()):
                kind = "folder" if name == "data_dir" else "file"
                raise runs.UsageError(f"--{name}={given} must be an existing {kind}.")
            paths[name] = str(path)
    return contract.Sources(**paths)


def jobs_and_threads(jobs: int | None, ray_address: str | None) -> tuple[int, int]:
    """Returns the number of simultaneous figures, and the number of threads of each."""
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    else:
        cores = os.cpu_count() or 1
    if ray_address:
        return jobs or 1_000_000, _CORES_A_RAY_TASK
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    jobs = jobs or max(1, min(cores, int(memory / _GIB_A_JOB)))
    return jobs, max(1, cores // jobs)


def run(
    folder: pathlib.Path, made: plan.Plan, pool: schedule.Pool, jobs: int, command: str
) -> list[verdicts.Entry]:
    """Computes the missing results of a `plan.Plan` and writes the report; returns its entries."""
    for line in made.problems():
        print(line, flush=True)
    if left := made.left():
        count = "one figure" if len(left) == 1 else f"{len(left)} figures"
        print(f"Computing {count}; logs are in {made.logs}.", flush=True)
        made.compute(pool, jobs)
    try:
        return made.write(folder, command)
    except OSError as error:
        raise runs.UsageError(
            f"The report can't be written ({error}). Computed results are kept: after you fix this,"
            " the same command writes the report."
        ) from error


def table(figures: Sequence[catalogue.Figure]) -> str:
    """Returns the text of `--list`."""
    head = "title (files that the full budget needs, [and optional files])"
    rows: list[list[tables.Cell]] = []
    for figure in figures:
        try:
            module = figure.load()
        except Exception as error:  # any error of the figure's module
            rows.append([figure.name, "", "", f"{type(error).__name__}: {error}"])
            continue
        quick, full = (module.CONFIGS[budget] for budget in contract.BUDGETS)
        wants = [*full.needs, *filter(None, [" or ".join(full.needs_one_of)])]
        wants += [f"[{name}]" for name in full.takes]
        times = [_duration(c.expected_seconds) for c in (quick, full)]
        needs = f" ({', '.join(wants)})" if wants else ""
        rows.append([figure.name, *times, module.TITLE + needs])
    return tables.text(["--figures", "quick", "full", head], rows, left=(0, 3))


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"


def main(argv: list[str]) -> None:
    """Flags, config, run."""
    with ends.clean_errors(argv):
        call, output = flags.read(Call), flags.read(configs.Output)
        figures = catalogue.select(call.figures)
        if call.list:
            print(table(figures))
            return
        config, sources = config_from_flags(), sources_from_flags()
        jobs, threads = jobs_and_threads(call.jobs, call.ray_address)
        folder = runs.claim(output.output_dir or "runs/reproduce", config, output.overwrite)
        # Processes of a cluster run in another working directory.
        cache_dir = (folder / "cache").absolute()
        if call.cache_dir:
            cache_dir = runs.writable("cache_dir", call.cache_dir).absolute()
        made = plan.Plan(figures, config.budget, sources, config.seed, cache_dir, threads)
        pool: schedule.Pool
        if call.ray_address:
            pool = pools.RayPool(call.ray_address)
        else:
            pool = pools.LocalPool()
        report.template()  # raises now rather than after the computations
        runs.begin(folder, config, overwrite=output.overwrite)
        command = shlex.join(["python", "-m", "bin.reproduce", *sys.argv[1:]])
        entries = run(folder, made, pool, jobs, command)
        print(f"{verdicts.summary(entries)}\nThe report is {folder / report.PAGE}.")
        doubts = [f"{entry.figure.label}: {said}" for entry in entries for said in entry.warnings]
        if any(entry.status != verdicts.Status.DONE for entry in entries):
            print(*(f"warning: {said}" for said in doubts), sep="\n", end="", flush=True)
            sys.exit(ends.FAILED)
        ends.conclude(folder, doubts, extent={"figures": list(call.figures)})


if __name__ == "__main__":
    ends.start(main)
