r"""Computes eigenvalues of a loss' Hessian, of both signs, and the best steps along its eigenvectors
(thesis, chapter 11).

With no flags it trains the LeNet of the chapter (3,274,634 parameters) for 50 steps on the bundled
data, finds the 20 largest and the 3 smallest eigenvalues on 2,000 of its examples, and searches for
the best step along each eigenvector (figures 11.1 to 11.4): tables and figures in six minutes on
two cores.

    python -m bin.hessian

Over training (figures 11.5 and 11.6), while it trains or from weights that bin.train saved:

    python -m bin.hessian --train_steps=1000 --at_steps=0,10,50,100,200,500,1000 \
        --output_dir=runs/f
    python -m bin.hessian --checkpoints=step_0000000.weights.h5,step_0000300.weights.h5 \
        --output_dir=runs/checkpoints

The density of the whole spectrum as well, and a subset compared with all examples (section 11.D):

    python -m bin.hessian --density --output_dir=runs/density
    python -m bin.hessian --subset=.05 --compare_subset --noline_search --output_dir=runs/subset

A pretrained network; vectors of the search that exceed a limit of memory (in MiB) are on disk:

    python -m bin.hessian --model=resnet50 --weights=resnet50.weights.h5 --dataset=cifar10 \
        --image_size=64 --subset=64 --hessian_batch_size=32 --largest=3 --smallest=1 \
        --memory_limit=1000 --output_dir=runs/resnet50

Training is by RMSProp in batches of 32 unless flags say otherwise; the Hessian is that of the mean
cross entropy over the subset, with every layer as at inference. Before long work the derivatives
are checked in float64. After a kill the same command continues; with several machines
(--distribution=multi_worker) a search begins again. In --output_dir:

    eigenvalues.json, eigenpairs.npz   values with residuals |Hv - lambda v|; the same with vectors
    spectrum.png, density.npz          both ends; with --density all, and trace.json
    line_searches.png                  the loss along the outermost two, figures 11.1 and 11.2
    best_steps.json, .png              the best step along each, figures 11.3 and 11.4
    history/, history.txt, .png        with --at_steps or --checkpoints, figures 11.5 and 11.6
    subset.json, .txt                  with --compare_subset
    logs/, checkpoint.npz              TensorBoard's; the training's, from which it continues
"""

import dataclasses
import functools
import pathlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from absl import app, flags

from bin.common import configs, runs

if TYPE_CHECKING:
    from thesis_tf.hessian import Eigenpairs, SpectrumHistory

FLAGS = flags.FLAGS
flags.DEFINE_list("checkpoints", [], "Weights files of one network at several steps of training.")
flags.DEFINE_integer(
    "train_steps", None, "Steps to train first. Default: 50, or 0 if weights are given.", 0
)
flags.DEFINE_list("at_steps", [], "Steps of the training at which to find eigenvalues.")
flags.DEFINE_float(
    "subset", 2000, "Training examples whose loss is taken; up to 1, a fraction of all.", 1e-6
)
flags.DEFINE_integer("largest", 20, "How many eigenvalues at the upper end.", lower_bound=0)
flags.DEFINE_integer("smallest", 3, "How many eigenvalues at the lower end.", lower_bound=0)
flags.DEFINE_float(
    "tol",
    1e-3,
    "Largest residual of an eigenpair, relative to its eigenvalue, or to the smallest one that can"
    " be told from 0 if that is larger.",
    1e-9,
)
flags.DEFINE_enum("solver", "lanczos", ["lanczos", "eigsh"], "How eigenpairs are found.")
flags.DEFINE_bool("gauss_newton", False, "The Gauss-Newton matrix in place of the Hessian.")
flags.DEFINE_enum(
    "product_mode",
    "forward_over_reverse",
    ["forward_over_reverse", "forward_accumulator", "reverse_over_reverse"],
    "How products are computed.",
)
flags.DEFINE_list(
    "parameters", [], "Only these layers or variables, by name or glob. Default: all."
)
flags.DEFINE_integer(
    "hessian_batch_size", 1000, "Examples that are computed at once.", lower_bound=1
)
flags.DEFINE_integer(
    "memory_limit", 4096, "MiB for values kept between products, and as many for vectors.", 1
)
flags.DEFINE_bool("line_search", True, "Search for the best step along each eigenvector.")
flags.DEFINE_bool("density", False, "Estimate the density of the whole spectrum.")
flags.DEFINE_integer("density_steps", 60, "Lanczos steps for each of its random vectors.", 1)
flags.DEFINE_integer("density_vectors", 4, "Random vectors of the density.", lower_bound=2)
flags.DEFINE_bool(
    "compare_subset",
    False,
    "Compare the subset with all examples (11.D): the 10 eigenvalues at each end, or as many as"
    " --largest and --smallest say.",
)
flags.DEFINE_bool("check", True, "Check the derivatives before long work.")
configs.use(
    __name__,
    configs.OUTPUT,
    configs.DATA,
    configs.MODEL,
    [name for name in configs.TRAINING if name != "epochs"],
    configs.HARDWARE,
)
DEFAULTS = {"model": "lenet", "optimizer": "rmsprop", "batch_size": 32}
COMPARED = 10  # eigenvalues at each end (section 11.D)
flags.register_validator("at_steps", lambda steps: all(s.isdigit() for s in steps), "must be steps")


@dataclasses.dataclass(frozen=True)
class Config:
    """All settings of a run; a folder with equal ones holds the same run."""

    data: configs.Data
    model: configs.Model
    hardware: configs.Hardware
    training: configs.Training
    checkpoints: tuple[str, ...]
    train_steps: int
    at_steps: tuple[int, ...]
    subset: float
    largest: int
    smallest: int
    tol: float
    solver: str
    gauss_newton: bool
    product_mode: str
    parameters: tuple[str, ...]
    hessian_batch_size: int
    memory_limit: int
    line_search: bool
    density: bool
    density_steps: int
    density_vectors: int
    compare_subset: tuple[int, ...]
    check: bool


def config_from_flags() -> Config:
    """Reads FLAGS; raises runs.UsageError for a combination that makes no sense."""
    (model, *more), training = configs.models(), configs.training(0)
    for name, value in DEFAULTS.items():
        if not FLAGS[name].present:
            where = {"model": model}.get(name, training)
            where = dataclasses.replace(where, **{name: value})
            model, training = (where, training) if name == "model" else (model, where)
    if more:
        raise runs.UsageError("--weights takes one value here; --checkpoints takes several.")
    given = model.weights != "none" or FLAGS.checkpoints or model.model.endswith(".keras")
    steps = FLAGS.train_steps if FLAGS.train_steps is not None else 0 if given else 50
    at_steps = tuple(sorted({int(step) for step in FLAGS.at_steps}))
    if FLAGS.checkpoints and (steps or at_steps or model.weights != "none"):
        raise runs.UsageError(
            "--checkpoints belong to a training that is over: leave out --train_steps, --at_steps"
            " and --weights."
        )
    if at_steps and at_steps[-1] > steps:
        raise runs.UsageError(
            f"--at_steps={at_steps[-1]} is after the last of {steps} --train_steps."
        )
    if (FLAGS.checkpoints or at_steps) and (FLAGS.gauss_newton or FLAGS.solver == "eigsh"):
        raise runs.UsageError("--checkpoints and --at_steps take the Hessian and --solver=lanczos.")
    if FLAGS.checkpoints:
        runs.refuse(
            [name for name in ("density", "compare_subset") if FLAGS[name].value],
            "for --checkpoints only eigenvalues are found; pass one of them as --weights for more",
        )
    if FLAGS.gauss_newton and FLAGS.product_mode == "forward_accumulator":
        raise runs.UsageError("--gauss_newton has no --product_mode=forward_accumulator.")
    if model.auxiliary_head:
        raise runs.UsageError(
            "The Hessian is that of a loss with one output: leave out --auxiliary_head."
        )
    if not FLAGS.density:
        runs.refuse_given(("density_steps", "density_vectors"), "without --density there is none")
    if not steps:
        unused = ("optimizer", "learning_rate", "batch_size")
        runs.refuse_given(unused, "no --train_steps are taken")
    if not FLAGS.largest + FLAGS.smallest:
        raise runs.UsageError("--largest and --smallest are both 0.")
    ends = [FLAGS[n].value if FLAGS[n].present else COMPARED for n in ("largest", "smallest")]
    return Config(
        data=configs.data(),
        model=model,
        hardware=configs.hardware(),
        training=training,
        checkpoints=tuple(map(configs.expanded, FLAGS.checkpoints)),
        train_steps=steps,
        at_steps=at_steps,
        subset=FLAGS.subset,
        largest=FLAGS.largest,
        smallest=FLAGS.smallest,
        tol=FLAGS.tol,
        solver=FLAGS.solver,
        gauss_newton=FLAGS.gauss_newton,
        product_mode=FLAGS.product_mode,
        parameters=tuple(FLAGS.parameters),
        hessian_batch_size=FLAGS.hessian_batch_size,
        memory_limit=FLAGS.memory_limit << 20,
        line_search=FLAGS.line_search,
        density=FLAGS.density,
        density_steps=FLAGS.density_steps,
        density_vectors=FLAGS.density_vectors,
        compare_subset=tuple(ends) if FLAGS.compare_subset else (),
        check=FLAGS.check,
    )


def run(
    config: Config,
    folder: pathlib.Path,
    *,
    begin: Callable[[], object] = lambda: None,
    verbose: int = 0,
) -> "Eigenpairs | SpectrumHistory":
    """Does what `config` says, writes to `folder`, and returns the eigenvalues.

    `begin` is called when all arguments have been checked, before anything is written.
    """
    import numpy as np

    from bin.common import training
    from bin.jobs import hessian as hessian_job
    from thesis_tf import hardware, hessian

    splits = config.data.load()
    strategy = hardware.configure(config.hardware)
    chief = hardware.is_chief(strategy)
    with strategy.scope():
        classes = splits.num_classes if config.model.weights == "none" else None
        model = config.model.build(splits.train.x.shape[1:], classes)
        training.compile_for(model, config.training)
    if config.train_steps:
        training.steps_an_epoch(splits, config.training)
    x, y = splits.train.x, splits.train.y
    fraction = config.subset if config.subset <= 1 else min(1.0, config.subset / len(y))
    if config.compare_subset and fraction == 1:
        raise runs.UsageError(f"--subset is all of the {len(y)} examples: nothing to compare.")
    subset = hessian.fixed_subset(x, y, fraction=fraction, seed=config.hardware.seed)
    options = hessian.OperatorOptions(
        mode=config.product_mode,
        parameters=list(config.parameters) or None,
        batch_size=config.hessian_batch_size,
        check=config.check,
        memory_limit=config.memory_limit,
    )
    make = options.gauss_newton if config.gauss_newton else options.hessian
    checkpoints = hessian_job.by_step(config.checkpoints, model)
    with strategy.scope():
        operator = make(model, model.loss, subset)
        full = make(model, model.loss, (x, y)) if config.compare_subset else None
    wanted = max(config.largest + config.smallest, sum(config.compare_subset))
    if wanted >= operator.shape[0]:
        raise runs.UsageError(
            f"{wanted} eigenvalues are wanted of a matrix of {operator.shape[0]} parameters."
        )
    if chief:
        begin()
    hardware.wait_for_all(strategy)
    ends = {"largest": config.largest, "smallest": config.smallest, "tol": config.tol}
    search = hessian.SearchOptions(memory_limit=config.memory_limit)
    logs, history_folder = folder / "logs", folder / "history"
    if checkpoints:
        history = hessian.history_of_checkpoints(
            operator, checkpoints, history_folder, search=search, log_dir=logs, **ends
        )
        hessian_job.draw_history(history, folder)
        return history
    callbacks = []
    if config.at_steps:
        monitor = hessian.HessianMonitor(
            subset,
            history_folder,
            at_steps=config.at_steps,
            operator=dataclasses.replace(options, check=False),  # it has passed
            search=search,
            log_dir=logs,
            **ends,
        )
        callbacks.append(monitor)
    training.train(
        model,
        splits,
        config.training,
        folder,
        total=config.train_steps,
        seed=config.hardware.seed,
        chief=chief,
        callbacks=callbacks,
        verbose=verbose,
    )
    operator.refresh()
    if full is not None:
        full.refresh()
    if not np.isfinite(operator.loss()):
        raise ValueError(
            f"The loss is {operator.loss()} after {config.train_steps} steps: training has"
            " diverged. Choose a lower --learning_rate."
        )
    if config.at_steps:
        tracker = hessian.SpectrumTracker(operator, history_folder, search=search, **ends)
        hessian_job.draw_history(tracker.history, folder)
        print(tracker.history.table(), end="\n\n", flush=True)
    resumes = config.hardware.distribution != "multi_worker"
    return hessian_job.Stages(config, folder, operator, full, chief, resumes).run()


def main(argv: Sequence[str]) -> None:
    """Runs the program."""
    with runs.clean_errors(argv):
        config = config_from_flags()
        folder = runs.claim(FLAGS.output_dir or "runs/hessian", config, FLAGS.overwrite)
        found = run(
            config,
            folder,
            begin=functools.partial(runs.begin, folder, config),
            verbose=runs.progress(),
        )
        print(f"{found.table()}\nAll tables and figures are in {folder}.")


if __name__ == "__main__":
    for name, value in DEFAULTS.items():
        FLAGS.set_default(name, value)  # so that --help shows them
    app.run(main)
