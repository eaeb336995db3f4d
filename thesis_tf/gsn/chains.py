"""Markov chains of any transition operator: thousands side by side, clamped or free (5.3.4, 5.3.6).

A transition is a function (state, seed) -> state. A state is a tensor x (chains, ...), or a tuple
whose first element is that, as a `State`; a seed is a pair of int32. Seeds are a function of the
chains' seed and the step, so the same seed gives the same chains, whatever is kept of them.
"""

import dataclasses

import numpy as np
import tensorflow as tf

from thesis_tf._core import arrays, checks
from thesis_tf.gsn.network import State
from thesis_tf.mcmc import pieces
from thesis_tf.mcmc.clamping import checked_clamp
from thesis_tf.mcmc.diagnostics import Diagnostics, diagnose
from thesis_tf.persistence import fingerprint

OUTPUTS = ("sample", "mean", "parameters")
_STATISTICS = 16  # random projections of x, by default


@dataclasses.dataclass(frozen=True, eq=False)
class Chains:
    """Markov chains that have run.

    Attributes:
        samples: (steps, chains, ...) array of what was kept of the visible units.
        diagnostics: `Diagnostics` of summary statistics of the samples.
        final_state: the state after the last step, from which chains may go on.
    """

    samples: np.ndarray
    diagnostics: Diagnostics
    final_state: object


def sample_chain(
    transition,
    initial_state,
    num_steps,
    seed,
    burn_in=0,
    thin=1,
    clamp=None,
    *,
    output="sample",
    statistics=None,
    jit_compile=False,
    progress=False,
    folder=None,
):
    """Runs chains of a transition operator.

    Args:
        transition: a function (state, seed) -> state, such as `model.transition()`.
        initial_state: where the chains begin: a state, or x (chains, ...) for a transition that
            makes a state of it.
        num_steps: steps of each chain after `burn_in`; of every `thin` of them one is kept.
        seed: an integer or a pair of them.
        burn_in: steps before the first that counts.
        thin: steps for each sample that is kept.
        clamp: a function that projects x onto the set that chains are to stay in, such as
            `MaskClamp(mask, values)`; clamped values are the same bits at every step.
        output: "sample" keeps what is drawn; of a network's `transition()`, "mean" keeps E[x | h]
            of the same steps, pictures without the noise of the draw, and "parameters" those of
            P(x | h).
        statistics: a function from samples (steps, chains, ...) to summary statistics
            (steps, chains, k) that diagnostics are of; None takes the mean of the values and 16
            random projections.
        jit_compile: whether XLA compiles a piece of the chains; it is faster for small states, and
            on CPU slower for large matrix products.
        progress: whether a terminal shows a bar.
        folder: where to keep the chains piece by piece, so that the same call goes on after a kill
            and ends with the same samples; None keeps nothing.

    Returns:
        `Chains`.

    Raises:
        ValueError, TypeError: numbers that aren't positive, states that aren't finite or change
            their shape, a clamp that is no projection, a folder of other chains.
    """
    lengths = pieces.Lengths.of(num_steps, burn_in, thin)
    checks.one_of("`output`", output, OUTPUTS)
    seed = arrays.checked_seed(seed)
    state = _checked_state(transition, initial_state, clamp)
    if output != "sample" and not (isinstance(state, State) and hasattr(transition, "mean")):
        expected = '"sample" for a transition that is not a network\'s'
        raise checks.invalid("`output`", expected, repr(output))
    step = _Steps(transition, state, clamp, output, jit_compile)
    kept, final = pieces.run(
        pieces.Pieces(
            step.compiled(1, lengths.burn_in, keep=False),
            step.compiled(lengths.piece, lengths.thin),
        ),
        tf.nest.flatten(state),
        lengths,
        seed,
        progress=progress,
        folder=_open_folder(folder, state, step, lengths, seed, output),
    )
    samples = np.concatenate(kept["samples"])[: lengths.kept]
    final_state = tf.nest.pack_sequence_as(state, [tf.constant(v) for v in final])
    return Chains(samples, _diagnosed(samples, statistics), final_state)


class _Steps:
    """Steps of chains as compiled functions of a flat state."""

    def __init__(self, transition, state, clamp, output, jit_compile):
        self._transition, self._like, self._clamp = transition, state, clamp
        self._output, self._jit_compile = output, jit_compile

    def one(self, state, seed):
        """Returns the state after a step."""
        after = self._transition(state, seed)
        return after if self._clamp is None else _with_visible(after, self._clamp)

    def compiled(self, count, thin, keep=True):
        """Returns a function (flat state, seed) -> flat state, and with `keep` the samples too."""
        like, fold = self._like, tf.random.experimental.stateless_fold_in

        def steps(state, seed, first):
            def body(number, *flat):
                state = tf.nest.pack_sequence_as(like, flat)
                state = self.one(state, fold(seed, first + number))
                return number + 1, *tf.nest.flatten(state)

            loop = (tf.constant(0), *state)
            return tf.while_loop(
                lambda number, *_: number < thin, body, loop, maximum_iterations=thin
            )[1:]

        @tf.function(jit_compile=self._jit_compile, autograph=False)
        def piece(state, seed):
            if not keep:
                return list(steps(state, seed, 0))
            visible = self._visible(tf.nest.pack_sequence_as(like, state))
            samples = tf.TensorArray(visible.dtype, count, element_shape=visible.shape)

            def body(number, samples, *state):
                state = steps(state, seed, number * thin)
                seen = self._visible(tf.nest.pack_sequence_as(like, state))
                return number + 1, samples.write(number, seen), *state

            loop = (tf.constant(0), samples, *state)
            _, samples, *state = tf.while_loop(
                lambda number, *_: number < count, body, loop, maximum_iterations=count
            )
            return list(state), {"samples": samples.stack()}

        return piece

    def _visible(self, state):
        if self._output == "parameters":
            return state.parameters
        if self._output == "sample":
            return _x_of(state)
        mean = self._transition.mean(state)
        return mean if self._clamp is None else self._clamp(mean)


def _x_of(state):
    return state[0] if isinstance(state, tuple | list) else state


def _with_visible(state, function):
    """Applies a function to the visible units of a state."""
    if isinstance(state, State):
        return state._replace(x=function(state.x))
    if isinstance(state, tuple | list):
        return type(state)((function(state[0]), *state[1:]))
    return function(state)


def _checked_state(transition, state, clamp):
    if not callable(transition):
        expected = "a function (state, seed) -> state, such as model.transition()"
        received = type(transition).__name__
        raise checks.invalid("`transition`", expected, received, kind=TypeError)
    if hasattr(transition, "initial_state") and not isinstance(state, tuple):
        state = transition.initial_state(arrays.checked_points("`initial_state`", state))
    state = tf.nest.map_structure(tf.convert_to_tensor, state)
    for part in tf.nest.flatten(state):
        if part.shape.rank < 1 or part.shape[0] < 1 or part.shape[0] != _x_of(state).shape[0]:
            expected = "of shape (chains, ...), with a chain at least"
            raise checks.invalid("`initial_state`", expected, f"shape {tuple(part.shape)}")
    if clamp is not None:
        state = _with_visible(state, lambda x: checked_clamp(clamp, x))
    after = transition(state, tf.constant([0, 0]))
    tf.nest.assert_same_structure(state, after)
    before, after = tf.nest.flatten(state), tf.nest.flatten(after)
    for part, then in zip(before, after, strict=True):
        if part.shape != then.shape or part.dtype != then.dtype:
            raise checks.invalid(
                "What `transition` returns",
                f"a state like that before, {part.dtype.name} of shape {tuple(part.shape)}",
                f"{then.dtype.name} of shape {tuple(then.shape)}",
            )
    return state


def _open_folder(folder, state, steps, lengths, seed, output):
    if folder is None:
        return None
    after = tf.nest.flatten(steps.one(state, tf.constant([0, 1])))
    settings = {
        "initial_state": fingerprint.of_arrays([v.numpy() for v in tf.nest.flatten(state)]),
        "steps": [lengths.kept, lengths.thin, lengths.burn_in],
        "seed": seed.numpy().tolist(),
        "output": output,
    }
    # What tells one transition, or clamp, from another: a part of the means, which vary smoothly.
    seen = [np.asarray(v, np.float64).ravel() for v in after if v.dtype.is_floating] or [[0.0]]
    return pieces.ChainFolder(
        folder, settings, {"transition": seen[-1][:: -(-seen[-1].size // 64)]}
    )


def _diagnosed(samples, statistics):
    if statistics is not None:
        return diagnose(np.asarray(statistics(samples), np.float64))
    flat = samples.reshape(*samples.shape[:2], -1)
    size = flat.shape[-1]
    if size <= _STATISTICS:
        return diagnose(flat.astype(np.float64))
    # In units of a value's mean, and of a random direction; made by a seed of their own.
    directions = np.random.default_rng(0).standard_normal((size, _STATISTICS)) / size**0.5
    directions = np.column_stack([np.full(size, 1 / size), directions]).astype(flat.dtype)
    return diagnose((flat @ directions).astype(np.float64))
