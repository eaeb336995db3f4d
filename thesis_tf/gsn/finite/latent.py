"""Generative stochastic networks with hidden units, on enumerated spaces (thesis, 5.3.4).

x has n values and h has k. `hidden` is f(h' | h, x), hidden[x, h, h'] of shape (n, k, k), or (n, k)
for f(h' | x) that doesn't look at the old h, as in a denoising auto-encoder. `reconstruction` is
P(x | h), (k, n). One step of the chain draws h' ~ f(. | h, x), then x' ~ P(. | h'). State (x, h) is
number x k + h of n k.
"""

import dataclasses

import numpy as np

from thesis_tf._core.types import Array, ArrayLike
from thesis_tf.gsn.finite import markov
from thesis_tf.gsn.finite.denoising import TOLERANCE, ChainCheck, posterior


@dataclasses.dataclass(frozen=True, eq=False)
class LatentCheck(ChainCheck):
    """What Proposition 2 says of a chain; `transition` is of states (x, h).

    Attributes:
        initial: (n, k), P(H_0 = h | X_0 = x).
        reconstruction: (k, n), P(x | h).
        joint: (n, k), the stationary distribution of (x, h).
    """

    initial: np.ndarray
    reconstruction: np.ndarray
    joint: np.ndarray


def kept_hidden(hidden: ArrayLike) -> Array:
    """Returns P(h | x), (n, k), that drawing h' ~ f(. | h, x) keeps while x is held.

    Args:
        hidden: (n, k, k) or (n, k).

    Raises:
        TypeError, ValueError: no probabilities of these shapes, or for an x several recurrent
            classes of h.
    """
    return np.stack([markov.stationary_distribution(f) for f in checked_hidden(hidden)])


def latent_transition(hidden: ArrayLike, reconstruction: ArrayLike) -> Array:
    """Returns the transition matrix over states (x, h), (n k, n k).

    Args:
        hidden: (n, k, k) or (n, k).
        reconstruction: (k, n).

    Raises:
        TypeError, ValueError: no probabilities of these shapes.
    """
    hidden = checked_hidden(hidden)
    return pair_transition(hidden, checked_latent_reconstruction(reconstruction, hidden))


def latent_chain(
    data: ArrayLike,
    hidden: ArrayLike,
    initial: ArrayLike | None = None,
    reconstruction: ArrayLike | None = None,
) -> LatentCheck:
    """Checks that x has the distribution of the data in the chain of a GSN (Proposition 2).

    With X_0 from the data, H_0 ~ P(H_0 | X_0), H_1 ~ f(. | H_0, X_0) and X_1 ~ P(. | H_1), the
    proposition has two conditions beside that the chain settles:

        "hidden": P(H_1 | X_0) = P(H_0 | X_0), which P(H_0 | X_0) = `kept_hidden(hidden)` meets;
        "posterior": P(X_1 | H_1) = P(X_0 | H_1), which exact training of P(x | h) meets.

    Then P(X_0, H_0) is the chain's stationary distribution. With "posterior" alone X_1 still has
    the distribution of the data, but the chain goes on from (X_1, H_1), which has another than
    (X_0, H_0), and drifts away.

    Args:
        data: (n,), P(X_0), which is what is expected of x.
        hidden: (n, k, k) or (n, k), f(h' | h, x).
        initial: (n, k), P(H_0 | X_0); None for `kept_hidden(hidden)`.
        reconstruction: (k, n), P(x | h); None for P(X_0 | H_1), with the data's distribution for an
            h that never occurs.

    Returns:
        `LatentCheck`.

    Raises:
        TypeError, ValueError: no probabilities of these shapes, or a chain with several recurrent
            classes.
    """
    data = markov.checked_stochastic("`data`", data, (None,))
    hidden = checked_hidden(hidden, len(data))
    shape = hidden.shape[:2]
    initial = kept_hidden(hidden) if initial is None else initial
    initial = markov.checked_stochastic("`initial`", initial, shape)
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
    """Returns what `latent_transition` does, of checked arguments, (n, k, k) and (k, n)."""
    size = hidden.shape[0] * hidden.shape[1]
    return np.einsum("xhk,ky->xhyk", hidden, reconstruction).reshape(size, size)


def checked_hidden(hidden: ArrayLike, num_states: int | None = None) -> Array:
    """Returns f(h' | h, x) as float64 of shape (n, k, k); raises TypeError or ValueError."""
    hidden = np.asarray(hidden)
    if hidden.ndim == 2:
        hidden = markov.checked_stochastic("`hidden`", hidden, (num_states, None))
        return np.repeat(hidden[:, np.newaxis], hidden.shape[1], axis=1)
    size = hidden.shape[-1] if hidden.ndim else None
    return markov.checked_stochastic("`hidden`", hidden, (num_states, size, size))


def checked_latent_reconstruction(reconstruction: ArrayLike, hidden: Array) -> Array:
    """Returns P(x | h) as float64 of shape (k, n); raises TypeError or ValueError."""
    shape = hidden.shape[1::-1]
    return markov.checked_stochastic("`reconstruction`", reconstruction, shape)
