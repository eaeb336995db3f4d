r"""Shows the eigenvalues of a loss' Hessian, of both signs, and what steps along its eigenvectors
bring (thesis, chapter 11).

With no flags it trains the LeNet of the chapter (3,274,634 parameters) for 50 steps on the bundled
data, finds the 20 largest and the 3 smallest eigenvalues on 2,000 of its examples, and searches for
the best step along each eigenvector (figures 11.1 to 11.4): tables and pictures in six minutes on
two cores.

    python -m bin.hessian

Over training (figures 11.5 and 11.6), while it trains or from weights that bin.train kept:

    python -m bin.hessian --train_steps=1000 --follow=0,10,50,100,200,500,1000 --output_dir=runs/f
    python -m bin.hessian --checkpoints=step_0000000.weights.h5,step_0000300.weights.h5 \
        --output_dir=runs/checkpoints

The density of the whole spectrum beside it, and a subset against all examples (section 11.D):

    python -m bin.hessian --density --output_dir=runs/density
    python -m bin.hessian --subset=.05 --compare_subset --noline_search --output_dir=runs/subset

A pretrained network, with the vectors of the search on disk where memory ends (in MiB):

    python -m bin.hessian --model=resnet50 --weights=resnet50.weights.h5 --dataset=cifar10 \
        --image_size=64 --subset=64 --hessian_batch_size=32 --largest=3 --smallest=1 \
        --max_memory=1000 --output_dir=runs/resnet50

Training is by RMSProp in batches of 32 unless flags say else; the Hessian is that of the mean cross
entropy over the subset, with every layer as at inference. Before long work the derivatives are
checked in float64. The same command after a kill goes on where it was; with several machines
(--distribution=multi_worker) a search begins anew. In --output_dir:

    eigenvalues.json, eigenpairs.npz   values with residuals |Hv - lambda v|; vectors beside them
    spectrum.png, density.npz          both ends; with --density the whole, and trace.json
    line_searches.png                  the loss along the outermost two, figures 11.1 and 11.2
    best_steps.json, .png              the best step along each, figures 11.3 and 11.4
    history/, history.txt, .png        with --follow or --checkpoints, figures 11.5 and 11.6
    subset.json, .txt                  with --compare_subset
    logs/, checkpoint.npz              TensorBoard's, and the training's to go on from
"""

import dataclasses
import functools

from absl import app, flags

from bin.common import configs, runs

FLAGS = flags.FLAGS
flags.DEFINE_list("checkpoints", [], "Weights files of one network, to follow over training.")
flags.DEFINE_integer(
    "train_steps", None, "Steps to train at first. Default: 50, or 0 if weights are given.", 0
)
flags.DEFINE_list("follow", [], "Steps at which to find eigenvalues while it trains.")
flags.DEFINE_float(
    "subset", 2000, "Training examples that the loss is taken of; up to 1, a part of them.", 1e-6
)
flags.DEFINE_integer("largest", 20, "How many eigenvalues at the upper end.", lower_bound=0)
flags.DEFINE_integer("smallest", 3, "How many eigenvalues at the lower end.", lower_bound=0)
flags.DEFINE_float(
    "tol",
    1e-3,
    "Largest residual of an eigenpair, as a part of its eigenvalue, or of the least that can be"
    " told from 0 if that is more.",
    1e-9,
)
flags.DEFINE_enum("solver", "lanczos", ["lanczos", "eigsh"], "Which finds the eigenpairs.")
flags.DEFINE_bool("gauss_newton", False, "The Gauss-Newton matrix in place of the Hessian.")
flags.DEFINE_enum(
    "product_mode",
    "forward_over_back",
    ["forward_over_back", "forward_accumulator", "back_over_back"],
    "How products are computed.",
)
flags.DEFINE_list("parameters", [], "Layers or variables alone, by name or glob. Default: all.")
flags.DEFINE_integer("hessian_batch_size", 1000, "Examples computed at once.", lower_bound=1)
flags.DEFINE_integer("max_memory", 4096, "MiB for each: kept values, and vectors.", lower_bound=1)
flags.DEFINE_bool("line_search", True, "Search for the best step along each eigenvector.")
flags.DEFINE_bool("density", False, "Estimate the density of the whole spectrum.")
flags.DEFINE_integer("density_steps", 60, "Lanczos steps for each of its vectors.", 1)
flags.DEFINE_integer("density_probes", 4, "Random vectors of the density.", lower_bound=2)
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
flags.register_validator("follow", lambda steps: all(s.isdigit() for s in steps), "must be steps")


@dataclasses.dataclass(frozen=True)
class Config:
    """What one run is; a folder with an equal one holds the same run."""

    data: configs.Data
    model: configs.Model
    hardware: configs.Hardware
    training: configs.Training
    checkpoints: tuple
    train_steps: int
    follow: tuple
    subset: float
    largest: int
    smallest: int
    tol: float
    solver: str
    gauss_newton: bool
    product_mode: str
    parameters: tuple
    hessian_batch_size: int
    max_memory: int
    line_search: bool
    density: bool
    density_steps: int
    density_probes: int
    compare_subset: tuple
    check: bool


def config_from_flags():
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
    follow = tuple(sorted({int(step) for step in FLAGS.follow}))
    if FLAGS.checkpoints and (steps or follow or model.weights != "none"):
        raise runs.UsageError(
            "--checkpoints are of a training that is over: leave out --train_steps, --follow and"
            " --weights."
        )
    if follow and follow[-1] > steps:
        raise runs.UsageError(f"--follow={follow[-1]} is after the last of {steps} --train_steps.")
    if (FLAGS.checkpoints or follow) and (FLAGS.gauss_newton or FLAGS.solver == "eigsh"):
        raise runs.UsageError("--checkpoints and --follow are of the Hessian, by lanczos.")
    if FLAGS.checkpoints:
        runs.refuse(
            [name for name in ("density", "compare_subset") if FLAGS[name].value],
            "of --checkpoints only eigenvalues are found; give one of them as --weights for more",
        )
    if FLAGS.gauss_newton and FLAGS.product_mode == "forward_accumulator":
        raise runs.UsageError("--gauss_newton has no --product_mode=forward_accumulator.")
    if model.auxiliary_head:
        raise runs.UsageError("The Hessian is of a loss of one output: leave out --auxiliary_head.")
    if not FLAGS.density:
        runs.refuse_given(("density_steps", "density_probes"), "without --density there is none")
    if not steps:
        unused = ("optimizer", "learning_rate", "batch_size")
        runs.refuse_given(unused, "no --train_steps are taken")
    if not FLAGS.largest + FLAGS.smallest:
        raise runs.UsageError("--largest and --smallest are both 0.")
    names = [field.name for field in dataclasses.fields(Config)][7:]
    rest = {name: FLAGS[name].value for name in names}
    rest |= {"parameters": tuple(FLAGS.parameters), "max_memory": FLAGS.max_memory << 20}
    ends = (FLAGS[n].value if FLAGS[n].present else COMPARED for n in ("largest", "smallest"))
    rest["compare_subset"] = tuple(ends) if FLAGS.compare_subset else ()
    return Config(
        configs.data(),
        model,
        configs.hardware(),
        training,
        tuple(map(configs.expanded, FLAGS.checkpoints)),
        steps,
        follow,
        **rest,
    )


def run(config, folder, *, begin=lambda: None, verbose=0):
    """Does what `config` says and writes to `folder`; returns what is found, which has a `table()`.

    `begin` is called once all is known to fit, before anything is written.
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
    part = config.subset if config.subset <= 1 else min(1.0, config.subset / len(y))
    if config.compare_subset and part == 1:
        raise runs.UsageError(f"--subset is all of the {len(y)} examples: nothing to compare.")
    few = hessian.fixed_subset(x, y, part, seed=config.hardware.seed)
    options = {
        "mode": config.product_mode,
        "parameters": list(config.parameters) or None,
        "batch_size": config.hessian_batch_size,
        "check": config.check,
        "memory": config.max_memory,
    }
    ends = {"largest": config.largest, "smallest": config.smallest, "tol": config.tol}
    kind = hessian.GaussNewtonOperator if config.gauss_newton else hessian.HessianOperator
    checkpoints = hessian_job.by_step(config.checkpoints, model)
    with strategy.scope():
        operator = kind(model, model.loss, few, **options)
        full = kind(model, model.loss, (x, y), **options) if config.compare_subset else None
    wanted = max(config.largest + config.smallest, sum(config.compare_subset))
    if wanted >= operator.shape[0]:
        raise runs.UsageError(
            f"{wanted} eigenvalues are wanted of a matrix of {operator.shape[0]} parameters."
        )
    if chief:
        begin()
    hardware.wait_for_all(strategy)
    search = {"memory": config.max_memory, "log_dir": folder / "logs", **ends}
    if checkpoints:
        history = hessian.history_of_checkpoints(
            operator, checkpoints, folder / "history", **search
        )
        hessian_job.draw_history(history, folder)
        return history
    callbacks = []
    if config.follow:
        options["check"] = False  # it has passed
        callbacks.append(
            hessian.HessianMonitor(
                few, config.follow, folder / "history", operator=options, **search
            )
        )
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
    for one in filter(None, (operator, full)):
        one.refresh()
    if not np.isfinite(operator.loss()):
        raise ValueError(
            f"The loss is {operator.loss()} after {config.train_steps} steps: training has"
            " diverged. Choose a lower --learning_rate."
        )
    if callbacks:
        history = hessian.SpectrumHistory(operator, folder / "history", **search)
        hessian_job.draw_history(history, folder)
        print(history.table(), end="\n\n", flush=True)
    resumes = config.hardware.distribution != "multi_worker"
    return hessian_job.Stages(config, folder, operator, full, chief, resumes).run()


def main(argv):
    """Flags, config, run."""
    with runs.clean_errors(argv):
        config = config_from_flags()
        folder = runs.claim(FLAGS.output_dir or "runs/hessian", config, FLAGS.overwrite)
        found = run(
            config,
            folder,
            begin=functools.partial(runs.begin, folder, config),
            verbose=runs.progress(),
        )
        print(f"{found.table()}\nAll tables and pictures are in {folder}.")


if __name__ == "__main__":
    for name, value in DEFAULTS.items():
        FLAGS.set_default(name, value)  # so that --help shows them
    app.run(main)
