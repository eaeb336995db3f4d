r"""Computes the figures and tables of the thesis again, and says which of its claims hold.

    python -m bin.reproduce --list
    python -m bin.reproduce --figures=3.4,table_5.1,'11.*'
    python -m bin.reproduce --budget=quick

The quick budget needs nothing but what is bundled and takes 12 minutes on two cores. Where a figure
is of other data, or of a pretrained network, it then uses a stand-in, and says so. The full budget
uses the real ones and takes two hours on two cores:

    python -m bin.reproduce --budget=full --data_dir=DATA \
        --resnet50_weights=resnet50_imagenet.weights.h5 \
        --inception_weights=inception_v3_notop.weights.h5 --output_dir=runs/report

DATA holds mnist.npz and cifar10.npz, and train_32x32.mat and test_32x32.mat of SVHN if you have
them; without these, figures of SVHN use CIFAR-10. --faces is an .npz file with x, images of one
size, in place of the Toronto Face Database, which is not public. Figures whose files are missing
are named, and the others go on.

It writes to --output_dir:

    index.html    the report: all claims, then each figure; nothing else is needed to read it
    README.md     the same as Markdown, with the pictures in figures/
    report.json   the same for programs
    cache/        what was computed (see --cache_dir)

A figure that is there already is not computed again, unless its settings, its data or the code that
computes it have changed. After a kill the same command goes on, and loses the figure under way. One
that fails is shown with its error, and does not stop the others.

On many machines: start a Ray cluster whose machines have this checkout's packages, and share a
folder for --cache_dir.

    python -m bin.reproduce --budget=full --ray_address=auto --cache_dir=/shared/cache --jobs=16 ...
"""

import dataclasses
import os
import pathlib
import shlex
import sys

from absl import app, flags

from bin.common import configs, runs
from bin.reproduction.engine import catalogue, contract, plan, pools, report

FLAGS = flags.FLAGS
flags.DEFINE_list(
    "figures",
    "all",
    "Names or globs, e.g. 3.4,table_5.1,11.*; see --list. The report is of these, whatever else has"
    " been computed before.",
)
flags.DEFINE_bool("list", False, "List the figures, how long they take, and what they need.")
flags.DEFINE_enum("budget", "quick", contract.BUDGETS, "How much to compute, and of which data.")
flags.DEFINE_string("resnet50_weights", None, "Weights of a ResNet-50, trained on ImageNet.")
flags.DEFINE_string("inception_weights", None, "Weights of an Inception v3 without its top.")
flags.DEFINE_string("faces", None, "An .npz file of images in place of the Toronto Face Database.")
flags.DEFINE_integer(
    "jobs",
    None,
    "Figures at a time, each in a process with its share of the cores. Default: one a core, as far"
    " as there are 4 GiB of memory for each.",
    lower_bound=1,
)
flags.DEFINE_string("cache_dir", None, "What was computed. Default: OUTPUT_DIR/cache.")
flags.DEFINE_string("ray_address", None, "A Ray cluster to compute on: auto, HOST:PORT, ray://...")
configs.use(__name__, configs.OUTPUT, ("data_dir", "seed"))
_GIB_A_JOB = 4
_CORES_A_RAY_TASK = 2


@dataclasses.dataclass(frozen=True)
class Config:
    """What the folder of a report holds results of."""

    budget: str
    seed: int


def config_from_flags():
    """Reads FLAGS; raises runs.UsageError for what makes no sense."""
    if FLAGS.budget == "quick":
        given = [n for n in ("resnet50_weights", "inception_weights", "data_dir") if FLAGS[n].value]
        runs.refuse(given, "--budget=quick uses bundled data; --budget=full uses these")
    return Config(FLAGS.budget, FLAGS.seed)


def sources_from_flags():
    """Where data and weights are; raises runs.UsageError for a file that isn't there."""
    paths = {}
    for name in ("data_dir", "resnet50_weights", "inception_weights", "faces"):
        if FLAGS[name].value:
            path = pathlib.Path(FLAGS[name].value).expanduser().absolute()
            if not (path.is_dir() if name == "data_dir" else path.is_file()):
                kind = "folder" if name == "data_dir" else "file"
                raise runs.UsageError(f"--{name}={FLAGS[name].value} must be an existing {kind}.")
            paths[name] = str(path)
    return contract.Sources(**paths)


def jobs_and_threads(jobs, ray_address):
    """Returns how many figures at a time, and how many threads each has."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    if ray_address:
        return jobs or 1_000_000, _CORES_A_RAY_TASK
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    jobs = jobs or max(1, min(cores, int(memory / _GIB_A_JOB)))
    return jobs, max(1, cores // jobs)


def run(folder, made, pool, jobs, command):
    """Computes what a `plan.Plan` lacks and writes the report; returns its entries."""
    for line in made.problems():
        print(line, flush=True)
    if left := made.left():
        print(f"{len(left)} to compute; what they print goes to {made.logs}.", flush=True)
        made.compute(pool, jobs)
    try:
        return made.write(folder, command)
    except OSError as error:
        raise runs.UsageError(
            f"The report can't be written ({error}). What was computed is kept: once this is put"
            " right, the same command writes it."
        ) from error


def table(figures):
    """What `--list` prints."""
    head = "what it is (what full needs, [and uses if it is there])"
    lines = [f"{'--figures':<11}{'quick':>8}{'full':>8}  {head}"]
    for figure in figures:
        try:
            module = figure.load()
        except Exception as error:  # whatever a figure's own module raises
            lines.append(f"{figure.name:<11}{'':16}  {type(error).__name__}: {error}")
            continue
        quick, full = (module.CONFIGS[budget] for budget in contract.BUDGETS)
        wants = [*full.needs, *filter(None, [" or ".join(full.needs_one_of)])]
        wants += [f"[{name}]" for name in full.takes]
        times = "".join(f"{_duration(c.expected_seconds):>8}" for c in (quick, full))
        needs = f" ({', '.join(wants)})" if wants else ""
        lines.append(f"{figure.name:<11}{times}  {module.TITLE}{needs}")
    return "\n".join(lines)


def _duration(seconds):
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"


def main(argv):
    """Flags, config, run."""
    with runs.clean_errors(argv):
        figures = catalogue.select(FLAGS.figures)
        if FLAGS.list:
            print(table(figures))
            return
        config, sources = config_from_flags(), sources_from_flags()
        jobs, threads = jobs_and_threads(FLAGS.jobs, FLAGS.ray_address)
        folder = runs.claim(FLAGS.output_dir or "runs/reproduce", config, FLAGS.overwrite)
        # Processes of a cluster run in a folder of their own.
        cache_dir = (folder / "cache").absolute()
        if FLAGS.cache_dir:
            cache_dir = runs.writable("cache_dir", FLAGS.cache_dir).absolute()
        made = plan.Plan(figures, config.budget, sources, config.seed, cache_dir, threads)
        pool = pools.RayPool(FLAGS.ray_address) if FLAGS.ray_address else pools.LocalPool()
        runs.begin(folder, config)
        command = shlex.join(["python", "-m", "bin.reproduce", *sys.argv[1:]])
        entries = run(folder, made, pool, jobs, command)
        print(f"{report.summary(entries)}\nThe report is {folder / report.PAGE}.")
        if any(item["status"] != report.DONE for item in entries):
            sys.exit(1)


if __name__ == "__main__":
    app.run(main)
