r"""Compares importance sampling with uniform draws over seeds: figures 7.2 to 7.4, Table 7.1.

Every run trains the same network on this machine; norms of all training examples are measured anew
every --refresh_every steps (7.4.1), or never, which makes draws uniform. What steps cost is not
compared here, but how many it takes:

    python -m bin.issgd_compare --steps=600 --seeds=3
    python -m bin.issgd_compare --dataset=mnist --data_dir=... --learning_rate=.1 --steps=3000

As in the thesis, but for its workers (the other setting is --learning_rate=.001 --smoothing=1):

    python -m bin.issgd_compare --dataset=svhn --data_dir=... --model=issgd_mlp \
        --learning_rate=.01 --momentum=.95 --smoothing=10 --examples=65000,7000,26032

The same command after a kill goes on, and one with more --seeds adds theirs; the run that was under
way begins anew. It writes to --output_dir:

    runs/METHOD_SEED.json       losses, errors and traces over the steps of one run
    training.png, traces.png    medians and quartiles over seeds (7.2, 7.3), traces (7.4)
    table.txt, summary.json     steps until a loss is reached; errors at the end (Table 7.1)
"""

import dataclasses
import functools
import math

from absl import app, flags

from bin.common import configs, runs
from bin.jobs.issgd import common

FLAGS = flags.FLAGS
flags.DEFINE_integer("seeds", 5, "Runs of each method.", 1)
flags.DEFINE_integer("refresh_every", 50, "Steps between measurements of all norms.", 1)
flags.DEFINE_integer("evaluate_every", 50, "Steps between evaluations.", 1)
flags.DEFINE_list("targets", ["0.5", "0.2", "0.1", "0.05"], "Training losses to be reached.")
flags.DEFINE_bool("stop_at_target", False, "End a run when it reaches the last of --targets.")
flags.DEFINE_bool(
    "true_gradient", False, "Take the true gradient at each measurement too: exact variances."
)
configs.use(
    __name__,
    configs.OUTPUT,
    configs.DATA,
    configs.MODEL,
    ("smoothing", "batch_size", "optimizer", "learning_rate", "momentum", "steps"),
    configs.HARDWARE,
)
METHODS = ("uniform", "importance")


@dataclasses.dataclass(frozen=True)
class Config(common.Config):
    """What is compared."""

    steps: int
    refresh_every: int
    evaluate_every: int
    targets: tuple
    stop_at_target: bool
    true_gradient: bool


def config_from_flags():
    """Reads FLAGS; raises runs.UsageError for what makes no sense."""
    try:
        targets = tuple(sorted((float(target) for target in FLAGS.targets), reverse=True))
    except ValueError:
        targets = ()
    if not targets or not all(0 < target < math.inf for target in targets):
        raise runs.UsageError(
            f"--targets must be losses above 0, e.g. 0.5,0.1. Received: {FLAGS.targets}."
        )
    if FLAGS.distribution != "none":
        raise runs.UsageError("A comparison runs on one device: --distribution=none.")
    return Config.from_flags(
        steps=FLAGS.steps,
        refresh_every=FLAGS.refresh_every,
        evaluate_every=FLAGS.evaluate_every,
        targets=targets,
        stop_at_target=FLAGS.stop_at_target,
        true_gradient=FLAGS.true_gradient,
    )


def run(config, folder, seeds, *, begin=lambda: None, progress=False):
    """Does all runs that are not done yet; returns a table of them."""
    import tqdm

    from bin.jobs.issgd import comparison
    from thesis_tf import hardware
    from thesis_tf.persistence import files

    data, classes = config.run.load()
    hardware.configure(config.hardware)
    begin()
    done = {method: [] for method in METHODS}
    jobs = [(seed, method) for seed in range(seeds) for method in METHODS]
    for seed, method in tqdm.tqdm(jobs, unit="run", disable=None if progress else True):
        path = folder / "runs" / f"{method}_{seed}.json"
        if not path.exists():
            records = comparison.train(config, data, classes, method, seed)
            files.write_json(path, records)
        done[method].append(files.read_json(path))
    return comparison.report(done, config.targets, folder)


def main(argv):
    """Flags, config, run."""
    with runs.clean_errors(argv):
        config = config_from_flags()
        folder = runs.claim(FLAGS.output_dir or "runs/issgd_compare", config, FLAGS.overwrite)
        begin = functools.partial(runs.begin, folder, config)
        table = run(config, folder, FLAGS.seeds, begin=begin, progress=True)
        print(f"{table}\nAll tables and pictures are in {folder}.")


if __name__ == "__main__":
    common.set_defaults(learning_rate=0.1, steps=1000)
    app.run(main)
