"""The result of chains: samples, diagnostics of mixing, and the final state."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from thesis_tf._core import checks
from thesis_tf._core.types import Array, Path
from thesis_tf.mcmc.diagnostics import Diagnostics
from thesis_tf.persistence import arrays
from thesis_tf.reporting.results import TabularResult
from thesis_tf.reporting.tables import Cell


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Chains(TabularResult):
    """Markov chains that have run.

    Attributes:
        samples: (results, chains, ...) array of the results that were kept.
        diagnostics: `Diagnostics` of the samples, or of summary statistics of them.
        final_state: the state after the last step, from which chains can continue.
        output: what samples are, the name of the function `output_fn` of `mcmc.sample_chain`, such
            as "mean" or "distribution_parameters"; "state" for states, None if it is unknown.
    """

    samples: Array
    diagnostics: Diagnostics
    final_state: Any
    _: dataclasses.KW_ONLY
    output: str | None = None

    @property
    def acceptance(self) -> float | None:
        """The fraction of all proposals that was accepted; None for kernels without proposals."""
        rates = self.diagnostics.acceptance
        return None if rates is None else float(rates.mean())

    def warnings(self) -> list[str]:
        """Returns sentences on why the samples can't be trusted, those of the diagnostics."""
        return self.diagnostics.warnings()

    def __repr__(self) -> str:
        """Returns the shape of the samples and the worst diagnostics."""
        numbers = ", ".join(
            f"{name}={'unknown' if value is None else format(value, '.4g')}"
            for name, value in self.diagnostics.summary().items()
        )
        return f"Chains(samples={self.samples.dtype.name} {self.samples.shape}, {numbers})"

    def _table(self) -> tuple[Sequence[str], Sequence[Sequence[Cell]]]:
        summary = self.summary()
        rows = [
            ("results of each chain", summary["num_results"]),
            ("chains", summary["num_chains"]),
            ("smallest effective sample size", summary["effective_sample_size"]),
            ("largest R-hat", summary["r_hat"]),
        ]
        if "constant_values" in summary:
            rows.append(("values that never change", summary["constant_values"]))
        if self.diagnostics.acceptance is not None:
            rows.append(("acceptance", summary["acceptance"]))
        return ("property", "value"), rows

    def summary(self) -> dict[str, int | float | None]:
        """Returns the numbers of results and chains and the worst diagnostics, a plain dict."""
        results, chains = self.samples.shape[:2]
        return {"num_results": results, "num_chains": chains, **self.diagnostics.summary()}

    def save(self, path: Path) -> None:
        """Writes the chains to an .npz file."""
        diagnosed = {
            field.name: getattr(self.diagnostics, field.name)
            for field in dataclasses.fields(self.diagnostics)
        }
        parts = {f"final_state_{i}": v for i, v in enumerate(tf.nest.flatten(self.final_state))}
        named = {"samples": self.samples, "output": self.output, **diagnosed, **parts}
        arrays.save(path, {k: np.asarray(v) for k, v in named.items() if v is not None})

    @classmethod
    def load(cls, path: Path, *, like: Any = None) -> "Chains":
        """Reads a file of `save`.

        Args:
            path: an .npz file.
            like: a state with the structure of `final_state`, such as the initial state; None for a
                tensor, or a tuple of tensors if there were several parts.

        Raises:
            FileNotFoundError, ValueError: there is no such file, or it holds something else.
        """
        found = arrays.load(path)
        parts: list[tf.Tensor] = []
        while f"final_state_{len(parts)}" in found:
            parts.append(tf.constant(found[f"final_state_{len(parts)}"]))
        if not {"samples", "effective_sample_size", "r_hat"} <= found.keys() or not parts:
            raise checks.invalid("`path`", "a file that Chains.save wrote", path)
        if like is not None:
            state = tf.nest.pack_sequence_as(like, parts)
        else:
            state = parts[0] if len(parts) == 1 else tuple(parts)
        diagnostics = Diagnostics(
            found["effective_sample_size"],
            found["r_hat"],
            acceptance=found.get("acceptance"),
            stuck_chains=int(found.get("stuck_chains", 0)),
        )
        output = str(found["output"]) if "output" in found else None
        return cls(found["samples"], diagnostics, state, output=output)
