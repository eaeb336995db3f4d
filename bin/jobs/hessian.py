"""The runs of `bin.hessian`: over training, or in stages for one set of weights."""

import dataclasses
import pathlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from bin.common import contents, ends, model_fit, runs, training
from bin.jobs import checkpoint_files
from thesis_tf import hardware, hessian
from thesis_tf.persistence import files
from thesis_tf.plotting import style
from thesis_tf.reporting import tables
from thesis_tf.reporting.results import TabularResult

if TYPE_CHECKING:
    import keras

    from bin.hessian import Config
    from thesis_tf.datasets import Splits

SUFFIXES = ("png", "svg")
HISTORY = "history"  # the folder of the eigenvalues over training
Operator: TypeAlias = hessian.HessianOperator | hessian.GaussNewtonOperator


def run(
    config: "Config",
    folder: pathlib.Path,
    *,
    begin: runs.Begin = runs.no_folder,
    warn: ends.Warn = ends.unheard,
    verbose: int = 0,
) -> hessian.Eigenpairs | hessian.SpectrumHistory:
    """Computes the results of `config`, writes to `folder`, and returns the eigenvalues.

    `begin` is called after all checks of the arguments; `warn` if eigenpairs have not converged.
    """
    splits = config.data.load(config.model)
    strategy = hardware.configure(config.hardware)
    chief = hardware.is_chief(strategy)
    with strategy.scope():
        classes = splits.num_classes if config.model.weights == "none" else None
        model = config.model.build(splits, classes)
        model_fit.check(model, splits)
        training.compile_for(model, config.training)
    if config.train_steps:
        training.planned_steps(splits, config.training, config.train_steps)
    subset = subset_of(config, splits)
    checkpoints = checkpoint_files.by_step(config.checkpoints, model)
    with strategy.scope():
        operator, full = operators(config, model, subset, splits)
    if chief:
        begin(contents.of_splits(splits))
    hardware.wait_for_all(strategy)
    if checkpoints:
        history = of_checkpoints(config, folder, operator, checkpoints)
        warn_of(history, config, warn)
        return history
    training.train(
        model,
        splits,
        config.training,
        folder,
        total=config.train_steps,
        seed=config.hardware.seed,
        chief=chief,
        callbacks=[monitor(config, folder, subset)] if config.at_steps else [],
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
        warn_of(show_history(config, folder, operator), config, warn)
    resumes = config.hardware.distribution != "multi_worker"
    return Stages(config, folder, operator, full, chief, resumes, warn).run()


def warn_of(result: TabularResult, config: "Config", warn: ends.Warn) -> None:
    """Passes on a result's sentences on eigenpairs that have not converged, with advice."""
    advice = f"Rounding, or too dense an end of the spectrum for --tol={config.tol}: raise it."
    if "16" in config.hardware.precision:
        advice = f"Products in {config.hardware.precision} are too coarse; use float32."
    for sentence in result.warnings():
        warn(f"{sentence} {advice}" if "not converged" in sentence else sentence)


def subset_of(config: "Config", splits: "Splits") -> tuple[Any, Any]:
    """Returns the training examples whose loss is used; raises UsageError."""
    x, y = splits.train.x, splits.train.y
    fraction = config.subset if config.subset <= 1 else min(1.0, config.subset / len(y))
    if config.compare_subset and fraction == 1:
        raise runs.UsageError(f"--subset is all of the {len(y)} examples: nothing to compare.")
    return hessian.fixed_subset(x, y, fraction=fraction, seed=config.hardware.seed)


def operators(
    config: "Config", model: "keras.Model", subset: tuple[Any, Any], splits: "Splits"
) -> tuple[Operator, Operator | None]:
    """Returns the operators of the subset and, for a comparison, of all training examples.

    Raises:
        UsageError: more eigenvalues are requested than the matrix has.
    """
    options = operator_options(config)
    make = options.gauss_newton if config.gauss_newton else options.hessian
    operator = make(model, None, subset)
    everything = splits.train.x, splits.train.y
    full = make(model, None, everything) if config.compare_subset else None
    compared = config.compared if config.compare_subset else (0, 0)
    wanted = max(config.largest + config.smallest, sum(compared))
    if wanted >= operator.shape[0]:
        raise runs.UsageError(
            f"{wanted} eigenvalues are requested of a matrix of {operator.shape[0]} parameters."
        )
    return operator, full


def operator_options(config: "Config") -> hessian.OperatorOptions:
    """Returns the options of the operators of a run."""
    return hessian.OperatorOptions(
        mode=config.product_mode,
        parameters=list(config.parameters) or None,
        batch_size=config.hessian_batch_size,
        check=config.check,
        memory_limit=config.memory_limit << 20,
    )


def search_options(config: "Config") -> hessian.SearchOptions:
    """Returns the options of the searches, except for their solver."""
    return hessian.SearchOptions(memory_limit=config.memory_limit << 20)


def of_checkpoints(
    config: "Config", folder: pathlib.Path, operator: Operator, checkpoints: dict[int, str]
) -> hessian.SpectrumHistory:
    """Computes and draws the eigenvalues at the weights of files, {step: path}."""
    history = hessian.history_of_checkpoints(
        operator,
        checkpoints,
        folder=folder / HISTORY,
        largest=config.largest,
        smallest=config.smallest,
        tol=config.tol,
        search=search_options(config),
        log_dir=folder / "logs",
    )
    draw_history(history, folder, checkpoint_files.unit(checkpoints.values()))
    return history


def monitor(
    config: "Config", folder: pathlib.Path, subset: tuple[Any, Any]
) -> hessian.HessianMonitor:
    """Returns the callback that computes eigenvalues during training."""
    return hessian.HessianMonitor(
        subset,
        folder=folder / HISTORY,
        at_steps=config.at_steps,
        # The self-check has passed.
        operator=dataclasses.replace(operator_options(config), check=False),
        largest=config.largest,
        smallest=config.smallest,
        tol=config.tol,
        search=search_options(config),
        log_dir=folder / "logs",
    )


def show_history(
    config: "Config", folder: pathlib.Path, operator: Operator
) -> hessian.SpectrumHistory:
    """Draws, prints and returns the eigenvalues that the monitor computed."""
    tracker = hessian.SpectrumTracker(
        operator,
        folder=folder / HISTORY,
        largest=config.largest,
        smallest=config.smallest,
        tol=config.tol,
        search=search_options(config),
    )
    draw_history(tracker.history, folder)
    print(tracker.history.table(), end="\n\n", flush=True)
    return tracker.history


@dataclasses.dataclass(frozen=True)
class Stages:
    """The stages and their common arguments.

    Attributes:
        config: the settings of the run.
        folder: the folder of the results.
        operator: the operator of the subset.
        full: the operator of all examples, or None.
        chief: whether this process writes files.
        resumes: whether searches are saved; with several processes they can't be.
        warn: called if eigenpairs have not converged.
    """

    config: "Config"
    folder: pathlib.Path
    operator: Operator
    full: Operator | None
    chief: bool
    resumes: bool
    warn: ends.Warn = ends.unheard

    def run(self) -> hessian.Eigenpairs:
        """Runs the stages of the config; returns the eigenpairs."""
        config = self.config
        pairs = self.eigenpairs()
        warn_of(pairs, config, self.warn)
        density = self.density() if config.density else None
        self.draw(pairs, density)
        print(
            f"The loss is {self.operator.loss():.5g}; {pairs.products} products with the Hessian."
        )
        if config.line_search:
            steps = self.line_searches(pairs)
            print(best_steps_table(pairs.values, steps), flush=True)
        if self.full is not None:
            compared = self.compare(self.full)
            warn_of(compared, config, self.warn)
            print(compared.table(), end="\n\n", flush=True)
        print("Eigenvalues lambda with their residuals |Hv - lambda v|:")
        return pairs

    def eigenpairs(self) -> hessian.Eigenpairs:
        """Computes and writes the extreme eigenpairs."""
        path, config = self.folder / "eigenpairs.npz", self.config
        if path.exists():
            return hessian.Eigenpairs.load(path)
        pairs = hessian.extreme_eigenpairs(
            self.operator,
            largest=config.largest,
            smallest=config.smallest,
            tol=config.tol,
            search=dataclasses.replace(search_options(config), solver=config.solver),
            folder=self.folder / "search" if self.resumes else None,
        )
        loss = self.operator.loss()  # all processes compute it together
        if self.chief:
            values = {
                "eigenvalues": pairs.values.tolist(),
                "residuals": pairs.residuals.tolist(),
                "converged": pairs.converged.tolist(),
                "confirmed": bool(pairs.confirmed),
                "products": pairs.products,
                "loss": loss,
                "parameters": self.operator.shape[0],
                "warnings": pairs.warnings(),
            }
            files.write_json(self.folder / "eigenvalues.json", values)
            pairs.save(path)  # last: a folder that has it skips this stage
            files.remove(self.folder / "search")
        return pairs

    def density(self) -> hessian.SpectralDensity:
        """Estimates and writes the density of the whole spectrum, and the trace."""
        config = self.config
        density = hessian.spectral_density(
            self.operator,
            num_steps=config.density_steps,
            num_vectors=config.density_vectors,
            seed=config.hardware.seed,
        )
        mean, size = density.mean_of(lambda x: x), self.operator.shape[0]
        if self.chief:
            density.save(self.folder / "density.npz")
            trace = {"trace": mean.value * size, "standard_error": mean.standard_error * size}
            files.write_json(self.folder / "trace.json", trace)
        print(f"trace {mean.value * size:.5g} +- {mean.standard_error * size:.2g}", flush=True)
        return density

    def line_searches(self, pairs: hessian.Eigenpairs) -> list[hessian.BestStep]:
        """Searches along all eigenvectors, and writes the loss along the two extreme ones."""
        steps, searches = along_eigenvectors(self.operator, pairs)
        if self.chief:
            rows = [
                {"eigenvalue": value, **step.summary()}
                for value, step in zip(pairs.values.tolist(), steps, strict=True)
            ]
            files.write_json(self.folder / "best_steps.json", rows)
            title = style.heading(None, pairs.warnings(), width=60)
            for suffix in SUFFIXES:
                path = self.folder / f"line_searches.{suffix}"
                hessian.draw_line_searches(searches, path, title=title)
                path = self.folder / f"best_steps.{suffix}"
                hessian.draw_best_steps(steps, path, title=title)
        return steps

    def compare(self, full: Operator) -> hessian.SubsetComparison:
        """Compares all training examples with the subset (section 11.D)."""
        largest, smallest = self.config.compared
        found = hessian.compare_subset(
            full,
            self.operator,
            largest=largest,
            smallest=smallest,
            tol=self.config.tol,
            search=search_options(self.config),
        )
        if self.chief:
            ends = {"largest": found.largest, "smallest": found.smallest}
            rows: dict[str, Any] = {
                name: {field: value.tolist() for field, value in vars(end).items()}
                for name, end in ends.items()
            }
            files.write_json(self.folder / "subset.json", {**rows, "warnings": found.warnings()})
            files.write_text(self.folder / "subset.txt", found.table() + "\n")
        return found

    def draw(self, pairs: hessian.Eigenpairs, density: hessian.SpectralDensity | None) -> None:
        """Draws the spectrum."""
        if self.chief:
            for suffix in SUFFIXES:
                path = self.folder / f"spectrum.{suffix}"
                hessian.draw_eigenvalues(pairs, path, density=density)


def along_eigenvectors(
    operator: Operator, pairs: hessian.Eigenpairs
) -> tuple[list[hessian.BestStep], dict[str, hessian.LineSearch]]:
    """Finds the best step along every eigenvector, and the loss along the two extreme ones.

    Args:
        operator: the operator of the eigenpairs.
        pairs: its eigenpairs.

    Returns:
        (the best steps in the order of the eigenvalues; the line searches "smallest" and "largest",
        from below zero to twice the best step).
    """
    gradient = operator.gradient()
    steps = [
        hessian.best_step(operator, vector, gradient=gradient, curvature=value)
        for value, vector in zip(pairs.values, pairs.vectors.T, strict=True)
    ]
    searches = {}
    for name, i in (("smallest", 0), ("largest", len(steps) - 1)):
        alpha = steps[i].alpha if steps[i].displacement else 1 / abs(pairs.values[i])
        searches[name] = hessian.line_search(
            operator,
            pairs.vectors[:, i],
            np.linspace(-0.75, 2, 34) * alpha,
            gradient=gradient,
            curvature=pairs.values[i],
        )
    return steps, searches


def best_steps_table(values: np.ndarray, steps: Sequence[hessian.BestStep]) -> str:
    """Returns a text table, the largest eigenvalue first."""
    rows = [
        (f"{value:.5g}", f"{1 / step.alpha if step.alpha else np.inf:.5g}", f"{step.decrease:.3g}")
        for value, step in sorted(zip(values, steps, strict=True), key=lambda row: -row[0])
    ]
    return (
        "The best step -alpha* (g'v) v along each eigenvector, and its decrease of the loss"
        " (alpha* < 0 ascends the gradient):\n"
        f"{tables.text(['eigenvalue', '1 / alpha*', 'decrease'], rows, left=())}\n"
    )


def draw_history(
    history: hessian.SpectrumHistory, folder: pathlib.Path, xlabel: str = "training step"
) -> None:
    """Draws and writes the eigenvalues over training."""
    files.write_text(folder / "history.txt", history.table() + "\n")
    for suffix in SUFFIXES:
        hessian.draw_history(history, folder / f"history.{suffix}", xlabel=xlabel)
