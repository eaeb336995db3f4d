"""The stages of `bin.hessian` for one set of weights; eigenpairs are computed only once."""

import dataclasses
import pathlib
import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from thesis_tf import hessian
from thesis_tf.persistence import files
from thesis_tf.reporting import tables

if TYPE_CHECKING:
    import keras

    from bin.hessian import Config

SUFFIXES = ("png", "svg")
Operator: TypeAlias = hessian.HessianOperator | hessian.GaussNewtonOperator


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
    """

    config: "Config"
    folder: pathlib.Path
    operator: Operator
    full: Operator | None
    chief: bool
    resumes: bool

    def run(self) -> hessian.Eigenpairs:
        """Runs the stages of the config; returns the eigenpairs."""
        config = self.config
        pairs = self.eigenpairs()
        density = self.density() if config.density else None
        self.draw(pairs, density)
        print(
            f"The loss is {self.operator.loss():.5g}; {pairs.products} products with the Hessian."
        )
        if not pairs.converged.all():
            print(self.why_not(pairs))
        if config.line_search:
            steps = self.line_searches(pairs)
            print(best_steps_table(pairs.values, steps), flush=True)
        if self.full is not None:
            print(self.compare(self.full).table(), end="\n\n", flush=True)
        print("Eigenvalues lambda with their residuals |Hv - lambda v|:")
        return pairs

    def why_not(self, pairs: hessian.Eigenpairs) -> str:
        """Returns a sentence that explains why eigenpairs have not converged."""
        why = (
            f"{np.sum(~pairs.converged)} eigenpairs have not converged to --tol={self.config.tol}: "
        )
        if "16" in self.config.hardware.precision:
            return (
                why + f"products in {self.config.hardware.precision} are too coarse; use float32."
            )
        return why + "rounding, or an end of the spectrum that is too dense. Raise --tol."

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
            search=hessian.SearchOptions(
                solver=config.solver, memory_limit=config.memory_limit << 20
            ),
            folder=self.folder / "search" if self.resumes else None,
        )
        loss = self.operator.loss()  # all processes compute it together
        if self.chief:
            values = {
                "eigenvalues": pairs.values.tolist(),
                "residuals": pairs.residuals.tolist(),
                "converged": pairs.converged.tolist(),
                "products": pairs.products,
                "loss": loss,
                "parameters": self.operator.shape[0],
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
            for suffix in SUFFIXES:
                hessian.draw_line_searches(searches, self.folder / f"line_searches.{suffix}")
                hessian.draw_best_steps(pairs.values, steps, self.folder / f"best_steps.{suffix}")
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
            search=hessian.SearchOptions(memory_limit=self.config.memory_limit << 20),
        )
        if self.chief:
            ends = {"largest": found.largest, "smallest": found.smallest}
            rows = {
                name: {field: value.tolist() for field, value in vars(end).items()}
                for name, end in ends.items()
            }
            files.write_json(self.folder / "subset.json", rows)
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


def by_step(paths: Iterable[str], model: "keras.Model") -> dict[int, str]:
    """Returns {step: path} of files with weights that fit the model; their names have the step."""
    found: dict[int, str] = {}
    for path in paths:
        numbers = re.findall(r"\d+", pathlib.Path(path).name.split(".")[0])
        if not pathlib.Path(path).is_file():
            raise ValueError(f"--checkpoints must be existing files. Received: {path}.")
        if not numbers:
            raise ValueError(
                f"--checkpoints must have their steps in their names. Received: {path}."
            )
        if int(numbers[-1]) in found:
            raise ValueError(f"--checkpoints names step {int(numbers[-1])} twice.")
        hessian.load_weights(model, path)
        found[int(numbers[-1])] = path
    return found


def draw_history(history: hessian.SpectrumHistory, folder: pathlib.Path) -> None:
    """Draws and writes the eigenvalues over training."""
    files.write_text(folder / "history.txt", history.table() + "\n")
    for suffix in SUFFIXES:
        hessian.draw_history(history, folder / f"history.{suffix}")
