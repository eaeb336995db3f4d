"""Chains of which x is held within a set, on enumerated spaces (thesis, 5.3.6 and 5.B).

With x split into what is known and what isn't, the set holds all x of which the known part is as
observed; any other set of values will do. x' is then drawn from P(x | h, x in S), that is
P(x | h) [x in S] over its sum. Shapes are those of `finite_latent`.
"""

import dataclasses

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


@dataclasses.dataclass(frozen=True, eq=False)
class ClampedCheck(ChainCheck):
    """Where a clamped chain settles; `transition` is of states (x, h) with x in S, in their order.

    Attributes:
        mismatch: |P(X_t, H_t) - P(X_t, H_t+1)|_1 in the unclamped chain once it has settled.
    """

    mismatch: float


def clamped_chain(hidden: ArrayLike, reconstruction: ArrayLike, allowed: ArrayLike) -> ClampedCheck:
    """Checks that a clamped chain samples pi(x | x in S), pi being that of the unclamped chain.

    The condition "balanced" is enough: in the settled unclamped chain, x has the same joint
    distribution J with the h that it was drawn from, H_t, as with the h that is drawn from it,
    H_t+1. Then drawing h keeps J(h | x), and P(x | h) is J(x | h). Neither is lost where J is
    restricted to x in S, so the clamped chain keeps J(x, h | x in S). The conditions of Proposition
    2 give such a J, and with f(h' | x) the posterior does.

    That the chain settles to pi is not enough without it, not even if its steps from x to x' are
    reversible: with h = x and any P(x' | x), the clamped chain divides by how often x would have
    stayed in S, which differs from x to x.

    Args:
        hidden: (n, k, k) or (n, k), f(h' | h, x).
        reconstruction: (k, n), P(x | h).
        allowed: (n,) booleans, whether x is in S.

    Returns:
        `ClampedCheck`; `expected` and `stationary` are (n,), 0 outside S.

    Raises:
        TypeError: `allowed` isn't boolean.
        ValueError: no probabilities of these shapes, nothing is allowed, S has no probability, an h
            drawn from x in S leads nowhere in S, or a chain with several recurrent classes.
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
            "`allowed`", "values of x that the unclamped chain visits", "others alone"
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
            "such that each h drawn from an allowed x can be reconstructed as one",
            f"h = {nowhere[0]}, of which P(x | h) is 0 for all of them",
            "Make each P(x | h) positive, as with a softmax.",
        )
    uniform = np.full_like(reconstruction, 1 / reconstruction.shape[1])
    return np.divide(reconstruction, total, out=uniform, where=total > 0)


def _checked_allowed(allowed: ArrayLike, num_states: int) -> Array:
    allowed = np.asarray(allowed)
    if allowed.dtype != bool:
        advice = "Turn numbers of states into a mask: np.isin(np.arange(n), numbers)."
        raise checks.invalid("`allowed`", "booleans", allowed.dtype, advice, TypeError)
    if allowed.shape != (num_states,) or not allowed.any():
        received = f"shape {allowed.shape}, {allowed.sum()} of them true"
        raise checks.invalid("`allowed`", f"of shape ({num_states},), some true", received)
    return allowed
