"""Chains whose x is restricted to a set S, on enumerated spaces (thesis, 5.3.6 and 5.B).

To clamp the observed part of x, let S hold all x that agree with the observation; S may also be any
other set of values. x' is then drawn from P(x | h, x in S), which is P(x | h) [x in S] divided by
its sum over x. Shapes are the same as in `thesis_tf.gsn.finite.latent`.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from thesis_tf._core import checks
from thesis_tf._core.types import Array, ArrayLike
from thesis_tf.gsn.finite import markov
from thesis_tf.gsn.finite.denoising import TOLERANCE, ChainCheck
from thesis_tf.gsn.finite.latent import (
    checked_hidden,
    checked_latent_reconstruction,
    pair_transition,
)
from thesis_tf.reporting.tables import Cell


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class ClampedCheck(ChainCheck):
    """The stationary distribution of a clamped chain, compared with the expected one.

    The states of `transition` are the pairs (x, h) with x in S, in ascending order.

    Attributes:
        mismatch: |P(X_t, H_t) - P(X_t, H_t+1)|_1 in the stationary unclamped chain.
    """

    mismatch: float

    def _table(self) -> tuple[Sequence[str], Sequence[Sequence[Cell]]]:
        headings, rows = super()._table()
        return headings, [*rows, ("mismatch", self.mismatch)]

    def summary(self) -> dict[str, Any]:
        """Returns also the mismatch."""
        return {**super().summary(), "mismatch": self.mismatch}


def clamped_chain(hidden: ArrayLike, reconstruction: ArrayLike, allowed: ArrayLike) -> ClampedCheck:
    """Checks that a clamped chain samples pi(x | x in S).

    Here pi is the stationary distribution of the unclamped chain.

    The condition "balanced" is sufficient. It says that in the stationary unclamped chain, x has
    the same joint distribution J with H_t, from which x was drawn, as with H_t+1, which is drawn
    from x. Then drawing h preserves J(h | x), and P(x | h) is J(x | h). Both still hold when J is
    restricted to x in S, so the clamped chain preserves J(x, h | x in S). The conditions of
    Proposition 2 imply such a J; for f(h' | x), the posterior alone implies it.

    Without the condition, it does not suffice that the unclamped chain converges to pi, even if its
    steps from x to x' are reversible. For example, with h = x and an arbitrary P(x' | x), the
    clamped chain divides by the probability of remaining in S, which depends on x.

    Args:
        hidden: (n, k, k) or (n, k), f(h' | h, x).
        reconstruction: (k, n), P(x | h).
        allowed: (n,) booleans, whether x is in S.

    Returns:
        `ClampedCheck`; `expected` and `stationary` are (n,), 0 outside S.

    Raises:
        TypeError: `allowed` isn't boolean.
        ValueError: an argument doesn't hold probabilities of the given shape, S is empty or has
            probability 0, P(x | h) is 0 on all of S for some h that is drawn from an x in S, or
            the chain has several recurrent classes.
    """
    hidden = checked_hidden(hidden)
    reconstruction = checked_latent_reconstruction(reconstruction, hidden)
    shape = hidden.shape[:2]
    allowed = _checked_allowed(allowed, shape[0])
    unclamped = pair_transition(hidden, reconstruction)
    joint = markov.stationary_distribution(unclamped).reshape(shape)
    mismatch = np.abs(np.einsum("xh,xhk->xk", joint, hidden) - joint).sum()
    weight = joint[allowed].sum()
    if weight == 0:
        raise checks.invalid(
            "`allowed`", "values of x that the unclamped chain visits", "only others"
        )

    inside = hidden[allowed]
    within = _restricted(reconstruction[:, allowed], np.asarray(inside.any(axis=(0, 1))))
    transition = pair_transition(inside, within)
    settled = markov.stationary_distribution(transition).reshape(len(inside), -1)
    expected, stationary = np.zeros((2, shape[0]))
    expected[allowed] = joint[allowed].sum(axis=1) / weight
    stationary[allowed] = settled.sum(axis=1)
    conditions = {"balanced": bool(mismatch <= TOLERANCE)}
    return ClampedCheck(transition, expected, stationary, conditions, float(mismatch))


def _restricted(reconstruction: Array, drawn: Array) -> Array:
    """Returns P(x | h, x in S) from P(x | h) of x in S; uniform for an h that is never drawn."""
    total = reconstruction.sum(axis=1, keepdims=True)
    nowhere = np.flatnonzero((total[:, 0] == 0) & drawn)
    if len(nowhere):
        raise checks.invalid(
            "`allowed`",
            "such that P(x | h) > 0 for an allowed x, for each h drawn from an allowed x",
            f"h = {nowhere[0]}, for which P(x | h) is 0 for all allowed x",
            "Make each P(x | h) positive, as with a softmax.",
        )
    uniform = np.full_like(reconstruction, 1 / reconstruction.shape[1])
    return np.divide(reconstruction, total, out=uniform, where=total > 0)


def _checked_allowed(allowed: ArrayLike, num_states: int) -> Array:
    allowed = np.asarray(allowed)
    if allowed.dtype != bool:
        advice = "Convert indices of states to a mask: np.isin(np.arange(n), indices)."
        raise checks.invalid("`allowed`", "booleans", allowed.dtype, advice, kind=TypeError)
    if allowed.shape != (num_states,) or not allowed.any():
        received = f"shape {allowed.shape}, with {allowed.sum()} true values"
        raise checks.invalid("`allowed`", f"of shape ({num_states},), not all false", received)
    return allowed
