"""The conservative estimate of a log-likelihood: the mean of P(x | h) over states of chains."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from thesis_tf import mcmc
from thesis_tf._core import arrays, checks
from thesis_tf._core.types import Array, TensorLike, Verbose
from thesis_tf.gsn.likelihood import base, log_mean
from thesis_tf.gsn.likelihood.log_mean import Exponent
from thesis_tf.reporting.tables import Cell

_PARTS = (8, 4, 2, 1)  # the first eighth, quarter and half of each chain's steps, and all of them


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class ConservativeEstimate(base.LikelihoodEstimate):
    """The conservative log-likelihood of test examples, in nats.

    Attributes:
        sample_counts: (k,), the numbers of samples in the first eighth, quarter and half of the
            chains, and in the whole chains.
        growth: (k,), the log-likelihood from each of these numbers of samples. If it still rises at
            the end, more samples are needed.
        baseline: (n,), of each test example if all values were independent, with the means of
            training examples; None if these are unknown.
    """

    sample_counts: np.ndarray
    growth: np.ndarray
    baseline: np.ndarray | None = dataclasses.field(default=None, kw_only=True)

    def warnings(self) -> list[str]:
        """Returns a sentence if the estimate is not better than `baseline`, else an empty list.

        It must be better by two standard errors: of the mean difference over test examples, and of
        the mean over chains.
        """
        said = super().warnings()
        if self.baseline is None:
            return said
        gain = self.log_likelihoods - self.baseline
        errors = [base.standard_error_of(gain), self.chain_standard_error]
        if not np.mean(gain) > 2 * math.hypot(*(e for e in errors if math.isfinite(e))):
            said.append(
                f"The log-likelihood, {self.log_likelihood:.2f} nats, is not better beyond its"
                " error than that of independent values with the means of the training data,"
                f" {np.mean(self.baseline):.2f} nats: the network has not learned how values depend"
                " on one another, or the chains are too few or too short."
            )
        return said

    def _table(self) -> tuple[Sequence[str], Sequence[Sequence[Cell]]]:
        headings, rows = super()._table()
        if self.baseline is not None:
            error = base.standard_error_of(self.baseline)
            mean = float(np.mean(self.baseline))
            rows = [*rows, ("independent values", *map(base.in_nats, (mean, error)))]
        pairs = zip(self.sample_counts[:-1].tolist(), self.growth[:-1].tolist(), strict=True)
        return headings, [
            *rows,
            *((f"the first {count:,}", f"{mean:.2f}", None) for count, mean in pairs),
        ]

    def summary(self) -> dict[str, Any]:
        """Returns a JSON-serializable dict; unknown values are None."""
        growth = dict(zip(map(str, self.sample_counts), map(float, self.growth), strict=True))
        found = {**super().summary(), "growth": growth}
        if self.baseline is not None:
            found["baseline_log_likelihood"] = float(np.mean(self.baseline))
        return found


def conservative_log_likelihood(
    outputs: TensorLike | mcmc.Chains,
    test: tf.Tensor,
    reconstruction: Any,
    *,
    train: TensorLike | None = None,
    verbose: Verbose = "auto",
) -> ConservativeEstimate:
    """Estimates the log-likelihood of a GSN from the states of its chains (chapter 5).

    The estimate is the mean over `test` of log P^(x), where P^(x) = mean_i P(x | h_i). P^ has no
    bandwidth to choose, and its expectation over chains that have mixed is the model's P(x). By
    Jensen's inequality, log P^(x) is on average below log P(x); the difference decreases with the
    number of samples.

    For a discrete distribution this is the log of a probability. For gray pixels under `Bernoulli`
    it is a cross-entropy: it can compare such models with one another, but not with a density.

    Args:
        outputs: the `mcmc.Chains` of `sample_chain(..., output_fn=kernel.distribution_parameters)`.
            Or an array (steps, chains, ...) or (n, ...) of the network's outputs for P(x | h) in
            states h, such as logits; of an array nobody can tell whether it holds means or states
            instead, except for `Bernoulli`. The last axes are the shape of an example, followed by
            `reconstruction.size` if there is more than one parameter per value.
        test: (m, ...) of a floating dtype.
        reconstruction: an object of `thesis_tf.gsn.reconstruction`, or any object with a method
            `pairwise_log_prob(outputs, x)` from (n, ...) and (m, ...) to log P(x_j | h_i), (n, m).
        train: (k, ...) training examples, for the log-likelihood of independent values with their
            means, which `warnings` of the result compares with the estimate. `reconstruction` needs
            a method `independent_log_prob(train, x)` for it.
        verbose: "auto" shows a progress bar on a terminal; 0: no output; 1: a progress bar; 2: one
            line at the end.

    Returns:
        `ConservativeEstimate`. P(x | h) is computed in float64, except for `Bernoulli` without data
        of float64, in float32.

    Raises:
        TypeError: the data don't have a floating dtype, or `reconstruction` doesn't have the
            method.
        ValueError: the data are empty, not finite or differ in shape, examples are outside the
            distribution's support, log-likelihoods aren't finite, or outputs are recognizably means
            or states instead of parameters.

    #### References

    Y. Bengio, L. Yao, K. Cho. Bounding the test log-likelihood of generative models. 2013.
    """
    test = arrays.checked_points("`test`", test, at_least=1)
    if not callable(getattr(reconstruction, "pairwise_log_prob", None)):
        raise checks.invalid(
            "`reconstruction`",
            "an object with pairwise_log_prob(outputs, x), such as Bernoulli()",
            repr(reconstruction),
            kind=TypeError,
        )
    if train is not None and not callable(getattr(reconstruction, "independent_log_prob", None)):
        raise checks.invalid(
            "`reconstruction`",
            "an object with independent_log_prob(train, x)",
            repr(reconstruction),
            "Or leave out `train`.",
            kind=TypeError,
        )
    if hasattr(reconstruction, "check"):
        reconstruction.check(test)
    size = getattr(reconstruction, "size", 1)
    shape = test.shape[1:] + ([size] if size > 1 else [])
    outputs, phrase = base.chains_of("`outputs`", outputs, shape, parameters=True)
    if hasattr(reconstruction, "check_outputs"):
        reconstruction.check_outputs(outputs)
    dtype = tf.float64 if tf.float64 in (outputs.dtype, test.dtype) else tf.float32
    outputs, test = tf.cast(outputs, dtype), tf.cast(test, dtype)
    baseline = None
    if train is not None:
        examples = arrays.checked_points("`train`", train, at_least=1)
        if examples.shape[1:] != test.shape[1:]:
            expected = f"of shape (k, {', '.join(map(str, test.shape[1:]))}), as `test`"
            raise checks.invalid("`train`", expected, f"shape {tuple(examples.shape)}")
        baseline = np.asarray(reconstruction.independent_log_prob(examples, test))

    chains, steps = outputs.shape[:2]
    ends = sorted({steps // part for part in _PARTS} - {0})
    pieces = [
        log_mean.SampleBlocks(outputs[:, start:end])
        for start, end in zip([0, *ends], ends, strict=False)
    ]
    dtypes: list[str] = []
    exponent, scales = _exponent(reconstruction, dtypes), np.ones((chains, 1))
    log_p, alone = np.empty((len(ends), len(test))), np.zeros(chains)
    for place, block in log_mean.point_blocks(test, chains, verbose=verbose):
        total: Array = np.array(-np.inf)
        for number, (end, piece) in enumerate(zip(ends, pieces, strict=True)):
            means = piece.log_mean_exp(exponent, block, scales)[:, 0, : place.stop - place.start]
            bad = np.flatnonzero(~np.isfinite(means).all(axis=0))
            if len(bad):
                received = f"NaN or infinity for example {place.start + bad[0]}"
                raise checks.invalid("log P(x | h)", "finite for some h of each chain", received)
            total = np.logaddexp(total, means + np.log(piece.steps))
            log_p[number, place] = log_mean.over_chains(total - np.log(end))
        alone += (total - np.log(steps)).sum(axis=1)
    return ConservativeEstimate(
        log_p[-1],
        alone / len(test),
        f"Conservative: mean of P(x | h) by {type(reconstruction).__name__} over {phrase},"
        f" {len(test):,} test examples of {np.prod(test.shape[1:]):,} values, {dtypes[0]}",
        chains * np.array(ends),
        log_p.mean(axis=1),
        baseline=baseline,
    )


def _exponent(reconstruction: Any, dtypes: list[str]) -> Exponent:
    """Returns `pairwise_log_prob`, compiled and checked, which notes the dtypes of its results."""
    compiled = tf.function(reconstruction.pairwise_log_prob, reduce_retracing=True, autograph=False)

    def exponent(outputs: tf.Tensor, x: tf.Tensor) -> tf.Tensor:
        values = compiled(outputs, x)
        if values.shape != [len(outputs), len(x)]:
            raise checks.invalid(
                "log P(x_j | h_i) of `reconstruction.pairwise_log_prob`",
                f"of shape {(len(outputs), len(x))}, (outputs, examples)",
                f"shape {tuple(values.shape)}",
            )
        dtypes.append(values.dtype.name)
        return values

    return exponent
