"""Generative stochastic networks with hidden units, on enumerated spaces (thesis, 5.3.4).

x has n values and h has k values. `hidden` is f(h' | h, x): hidden[x, h, h'] of shape (n, k, k), or
(n, k) for an f(h' | x) that doesn't depend on the old h, as in a denoising auto-encoder.
`reconstruction` is P(x | h), (k, n). One step of the chain draws h' ~ f(. | h, x), then
x' ~ P(. | h'). The state (x, h) has index x k + h, from 0 to n k - 1.
"""

import dataclasses

import numpy as np

from thesis_tf._core.types import Array, ArrayLike
from thesis_tf.gsn.finite import markov
from thesis_tf.gsn.finite.denoising import TOLERANCE, ChainCheck, posterior


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class LatentCheck(ChainCheck):
    """A check of Proposition 2 on one chain; the states of `transition` are pairs (x, h).

    Attributes:
        initial: (n, k), P(H_0 = h | X_0 = x).
        reconstruction: (k, n), P(x | h).
        joint: (n, k), the stationary distribution of (x, h).
    """

    initial: np.ndarray
    reconstruction: np.ndarray
    joint: np.ndarray


def kept_hidden(hidden: ArrayLike) -> Array:
    """Returns P(h | x), (n, k), which drawing h' ~ f(. | h, x) with fixed x leaves unchanged.

    Args:
        hidden: (n, k, k) or (n, k).

    Raises:
        TypeError, ValueError: `hidden` doesn't hold probabilities of this shape, or for some x
            there are several recurrent classes of h.
    """
    return np.stack([markov.stationary_distribution(f) for f in checked_hidden(hidden)])


def latent_transition(hidden: ArrayLike, reconstruction: ArrayLike) -> Array:
    """Returns the transition matrix over states (x, h), (n k, n k).

    Args:
        hidden: (n, k, k) or (n, k).
        reconstruction: (k, n).

    Raises:
        TypeError, ValueError: an argument doesn't hold probabilities of the given shape.
    """
    hidden = checked_hidden(hidden)
    return pair_transition(hidden, checked_latent_reconstruction(reconstruction, hidden))


def latent_chain(
    data: ArrayLike,
    hidden: ArrayLike,
    *,
    initial: ArrayLike | None = None,
    reconstruction: ArrayLike | None = None,
) -> LatentCheck:
    """Checks that x has the distribution of the data in the chain of a GSN (Proposition 2).

    Let X_0 be drawn from the data, H_0 ~ P(H_0 | X_0), H_1 ~ f(. | H_0, X_0) and X_1 ~ P(. | H_1).
    Apart from convergence of the chain, the proposition has two conditions:

        "hidden": P(H_1 | X_0) = P(H_0 | X_0), true for P(H_0 | X_0) = `kept_hidden(hidden)`;
        "posterior": P(X_1 | H_1) = P(X_0 | H_1), true if P(x | h) is trained exactly.

    Then P(X_0, H_0) is the chain's stationary distribution. If only "posterior" holds, X_1 still
    has the distribution of the data, but (X_1, H_1), from which the chain continues, is distributed
    differently from (X_0, H_0), and the chain drifts away from the data.

    Args:
        data: (n,), P(X_0), the expected distribution of x.
        hidden: (n, k, k) or (n, k), f(h' | h, x).
        initial: (n, k), P(H_0 | X_0); None for `kept_hidden(hidden)`.
        reconstruction: (k, n), P(x | h); None for P(X_0 | H_1), which is replaced by the data's
            distribution for an h that never occurs.

    Returns:
        `LatentCheck`.

    Raises:
        TypeError, ValueError: an argument doesn't hold probabilities of the given shape, or the
            chain has several recurrent classes.
    """
    data = markov.checked_stochastic("`data`", data, shape=(None,))
    hidden = checked_hidden(hidden, num_states=len(data))
    shape = hidden.shape[:2]
    initial = kept_hidden(hidden) if initial is None else initial
    initial = markov.checked_stochastic("`initial`", initial, shape=shape)
    after = np.einsum("xh,xhk->xk", initial, hidden)
    exact = posterior(data, after)
    reconstruction = exact if reconstruction is None else reconstruction
    reconstruction = checked_latent_reconstruction(reconstruction, hidden)
    occurs, inside = data @ after > 0, data > 0
    transition = pair_transition(hidden, reconstruction)
    joint = markov.stationary_distribution(transition).reshape(shape)
    return LatentCheck(
        transition=transition,
        expected=data,
        stationary=joint.sum(axis=1),
        conditions={
            "hidden": np.allclose(after[inside], initial[inside], rtol=0, atol=TOLERANCE),
            "posterior": np.allclose(reconstruction[occurs], exact[occurs], rtol=0, atol=TOLERANCE),
        },
        initial=initial,
        reconstruction=reconstruction,
        joint=joint,
    )


def pair_transition(hidden: Array, reconstruction: Array) -> Array:
    """Does the same as `latent_transition`, for checked arguments (n, k, k) and (k, n)."""
    size = hidden.shape[0] * hidden.shape[1]
    return np.einsum("xhk,ky->xhyk", hidden, reconstruction).reshape(size, size)


def checked_hidden(hidden: ArrayLike, *, num_states: int | None = None) -> Array:
    """Returns f(h' | h, x) as float64 of shape (n, k, k), or raises TypeError or ValueError."""
    hidden = np.asarray(hidden)
    if hidden.ndim == 2:
        hidden = markov.checked_stochastic("`hidden`", hidden, shape=(num_states, None))
        return np.repeat(hidden[:, np.newaxis], hidden.shape[1], axis=1)
    size = hidden.shape[-1] if hidden.ndim else None
    return markov.checked_stochastic("`hidden`", hidden, shape=(num_states, size, size))


def checked_latent_reconstruction(reconstruction: ArrayLike, hidden: Array) -> Array:
    """Returns P(x | h) as float64 of shape (k, n), or raises TypeError or ValueError."""
    shape = hidden.shape[1::-1]
    return markov.checked_stochastic("`reconstruction`", reconstruction, shape=shape)
