"""The common parts of the estimates of a log-likelihood from samples."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from thesis_tf import mcmc
from thesis_tf._core import arrays, checks
from thesis_tf._core.types import Array, TensorLike
from thesis_tf.reporting.results import TabularResult
from thesis_tf.reporting.tables import Cell


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class LikelihoodEstimate(TabularResult):
    """The log-likelihood of test examples, in nats.

    Attributes:
        log_likelihoods: (n,), of each test example, from the samples of all chains.
        chain_log_likelihoods: (chains,), the means over test examples from the samples of each
            chain alone. On average they are lower than the mean from all chains, especially for
            chains that are short or mix slowly.
        protocol: a text that describes how the numbers were computed, to be shown with them.
        caveats: the sentences of `warnings`.
    """

    log_likelihoods: np.ndarray
    chain_log_likelihoods: np.ndarray
    protocol: str
    caveats: tuple[str, ...] = dataclasses.field(default=(), kw_only=True)

    def warnings(self) -> list[str]:
        """Returns sentences on why the estimate can't be trusted; none if nothing says so."""
        return list(self.caveats)

    @property
    def log_likelihood(self) -> float:
        """The mean over test examples."""
        return float(np.mean(self.log_likelihoods))

    @property
    def standard_error(self) -> float:
        """The standard error of the mean over test examples, for fixed samples; NaN for n = 1."""
        return standard_error_of(self.log_likelihoods)

    @property
    def chain_standard_error(self) -> float:
        """The standard error of the mean of `chain_log_likelihoods`; NaN for one chain."""
        return standard_error_of(self.chain_log_likelihoods)

    def __repr__(self) -> str:
        """Returns the mean, its standard error and the protocol, without arrays."""
        mean, error = self.log_likelihood, self.standard_error
        return f"{type(self).__name__}({mean:.2f} +- {error:.2f} nats; {self.protocol})"

    def _table(self) -> tuple[Sequence[str], Sequence[Sequence[Cell]]]:
        rows = [
            ("all chains together", self.log_likelihood, self.standard_error),
            (
                "each chain alone",
                float(np.mean(self.chain_log_likelihoods)),
                self.chain_standard_error,
            ),
        ]
        headings = ("samples", "log-likelihood", "standard error")
        return headings, [(name, *map(in_nats, numbers)) for name, *numbers in rows]

    def table(self) -> str:
        """Returns the means and their standard errors in nats, with the protocol below."""
        return f"{super().table()}\n{self.protocol}"

    def summary(self) -> dict[str, Any]:
        """Returns a JSON-serializable dict; unknown values are None."""
        numbers = {
            "log_likelihood": self.log_likelihood,
            "standard_error": self.standard_error,
            "chain_log_likelihood": float(np.mean(self.chain_log_likelihoods)),
            "chain_standard_error": self.chain_standard_error,
        }
        known = {n: value if math.isfinite(value) else None for n, value in numbers.items()}
        return {**known, "protocol": self.protocol}


def in_nats(value: float) -> str | None:
    """Returns a number as a cell of a table, None if it is not finite."""
    return f"{value:.2f}" if math.isfinite(value) else None


def standard_error_of(values: Array) -> float:
    """Returns the standard error of the mean of values (n,); NaN for n = 1."""
    return float(np.std(values, ddof=1) / len(values) ** 0.5) if len(values) > 1 else math.nan


def chains_of(
    name: str, samples: TensorLike | mcmc.Chains, shape: Any, *, parameters: bool = False
) -> tuple[tf.Tensor, str]:
    """Checks samples and converts them to one form.

    Args:
        name: the argument as the caller wrote it.
        samples: `mcmc.Chains`; or (steps, chains, *shape); or (n, *shape), which count as one
            chain.
        shape: the shape of one sample.
        parameters: whether samples must be distribution parameters, or else states or means.

    Returns:
        (tensor (chains, steps, *shape), phrase): the phrase gives the numbers of samples, chains
        and steps.

    Raises:
        TypeError, ValueError: the samples don't have a floating dtype, aren't finite, have another
            shape, or are empty; or the chains kept something else.
    """
    if isinstance(samples, mcmc.Chains):
        output = samples.output
        if output is not None and (output == "distribution_parameters") != parameters:
            wanted = "distribution_parameters" if parameters else "mean"
            raise checks.invalid(
                name,
                f"chains that kept {wanted}",
                f"chains that kept {output}",
                f"Use sample_chain(..., output_fn=kernel.{wanted}).",
            )
        samples = samples.samples
    samples = arrays.checked_points(name, samples)
    axes = samples.shape.rank - len(shape)
    if axes not in (1, 2) or samples.shape[axes:] != shape or 0 in samples.shape[:axes]:
        one = "".join(f", {size}" for size in shape)
        raise checks.invalid(
            name,
            f"of shape (steps, chains{one}) or (n{one}), and not empty",
            f"shape {tuple(samples.shape)}",
        )
    if axes == 1:
        return samples[tf.newaxis], f"{len(samples):,} samples"
    steps, chains = samples.shape[:2]
    phrase = f"{steps * chains:,} samples (chains: {chains:,}, steps: {steps:,})"
    return tf.transpose(samples, [1, 0, *range(2, samples.shape.rank)]), phrase
