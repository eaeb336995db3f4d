"""Runs Markov chains of any transition kernel in pieces, which can be resumed after a kill.

A run of chains is computed in at most 20 pieces of equal length, each a compiled loop. After each
piece, the progress bar is updated, Ctrl-C takes effect and, with a folder, states, kernel results
and samples are saved. Piece n has the seed fold_in(seed, n), so the same seed gives the same
chains.
"""

import dataclasses
import operator
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from thesis_tf._core import arrays, checks, seeds
from thesis_tf._core.types import Array, Path, Verbose
from thesis_tf.mcmc import transition_kernels
from thesis_tf.mcmc.chains import Chains
from thesis_tf.mcmc.clamping import checked_clamp
from thesis_tf.mcmc.diagnostics import diagnose, random_projections
from thesis_tf.mcmc.folders import ChainFolder
from thesis_tf.mcmc.transition_kernels import State
from thesis_tf.persistence import fingerprint
from thesis_tf.reporting import progress

_PIECES = 20
_STREAMS = 1 << 32

fold_in = tf.random.experimental.stateless_fold_in


def sample_chain(
    kernel: tfp.mcmc.TransitionKernel,
    initial_state: State,
    num_results: int,
    *,
    num_burnin_steps: int = 0,
    num_steps_between_results: int = 0,
    seed: int = 0,
    clamp: Callable[[tf.Tensor], tf.Tensor] | None = None,
    output_fn: Callable[[State], tf.Tensor] | None = None,
    statistics: Callable[[Array], Array] | None = random_projections,
    jit_compile: bool = False,
    verbose: Verbose = "auto",
    folder: Path | None = None,
) -> Chains:
    """Runs chains of a transition kernel, as `tfp.mcmc.sample_chain` does.

    Args:
        kernel: a `tfp.mcmc.TransitionKernel`, such as `model.transition_kernel()` of a network of
            `thesis_tf.gsn`, or `FunctionKernel(function)`. Its results are passed from step to
            step, also between pieces and after a kill.
        initial_state: where the chains begin: a tensor (chains, ...), a nest of them, or x
            (chains, ...) for a kernel that has a method `initial_state(x)`. With a clamp, such a
            kernel takes NaN for unknown values: `clamp=MaskClamp(~np.isnan(x), x)`.
        num_results: the number of kept states per chain.
        num_burnin_steps: the number of steps before the first result. The first result is the state
            after step number num_burnin_steps + num_steps_between_results + 1.
        num_steps_between_results: the number of skipped steps before each result.
        seed: an integer >= 0 that determines the chains.
        clamp: a projection of x onto the set to which chains are restricted, such as
            `MaskClamp(mask, values)`; clamped values are bit-identical at every step. It requires
            a kernel that keeps no results between steps.
        output_fn: a function of a state whose value, a tensor (chains, ...), is kept; for example
            `kernel.mean` of a network keeps E[x | h], images without the noise of drawing x. None
            keeps the state, or the first part of a state with several parts.
        statistics: a function from samples (results, chains, ...) to summary statistics (results,
            chains, k) for which diagnostics are computed; None uses each value of a state.
        jit_compile: whether XLA compiles a piece of the chains; this is faster for small states,
            but slower for large matrix products on a CPU.
        verbose: "auto" shows a progress bar on a terminal; 0: no output; 1: a progress bar; 2: one
            line at the end.
        folder: where to save the chains in pieces, so that after a kill the same call continues and
            returns the same samples; None saves nothing.

    Returns:
        `Chains`.

    Raises:
        ValueError, TypeError: a number is out of range, states aren't finite or change their shape,
            the clamp isn't a projection, or the folder holds other chains.
    """
    _check_kernel(kernel)
    lengths = _Lengths.of(num_results, num_burnin_steps, num_steps_between_results)
    progress.checked_verbose(verbose)
    pair = arrays.stateless_seed(seed)
    state = _checked_state(kernel, initial_state, clamp)
    results = tf.nest.map_structure(tf.convert_to_tensor, kernel.bootstrap_results(state))
    if clamp is not None and tf.nest.flatten(results):
        expected, received = "None for a kernel with results", type(kernel).__name__
        advice = "Results that it keeps would not be those of the clamped state."
        raise checks.invalid("`clamp`", expected, received, advice)
    _check_step(kernel, state, results)
    loop = _Loop(kernel, state, results, clamp, output_fn, jit_compile)
    pieces, final = _run(
        loop, state, results, lengths, pair, verbose, _open_folder(folder, loop, lengths, pair)
    )
    samples = np.concatenate(pieces["samples"])[: lengths.num_results]
    acceptance = None
    if "accepted" in pieces:
        steps = len(pieces["accepted"]) * lengths.piece * lengths.thin
        acceptance = np.sum(pieces["accepted"], axis=0) / steps
    seen = samples if statistics is None else np.asarray(statistics(samples), np.float64)
    if seen.shape[:2] != samples.shape[:2]:
        shape = f"({samples.shape[0]}, {samples.shape[1]}, ...), results and chains"
        raise checks.invalid("The result of `statistics`", f"of shape {shape}", seen.shape)
    output = "state" if output_fn is None else getattr(output_fn, "__name__", None)
    output = None if output == "<lambda>" else output
    return Chains(samples, diagnose(seen, acceptance=acceptance), final, output=output)


def stream_seed(seed: int, stream: int) -> int:
    """Returns a seed for one of several calls that share a seed and must be independent.

    The streams of seed 0 are the seeds below 2^32: stream_seed(0, n) == n.

    Args:
        seed: an integer >= 0.
        stream: an integer in [0, 2^32), the number of the call.
    """
    if not 0 <= seeds.checked_seed(stream) < _STREAMS:
        raise checks.invalid("`stream`", "below 2^32", stream)
    return seeds.checked_seed(seed) * _STREAMS + stream


@dataclasses.dataclass(frozen=True)
class _Lengths:
    """The lengths of chains: `thin` steps per result, `piece` results per piece."""

    num_results: int
    thin: int
    num_burnin_steps: int
    piece: int

    @classmethod
    def of(cls, num_results: Any, num_burnin_steps: Any, between: Any) -> "_Lengths":
        kept = checks.positive_integer("`num_results`", num_results)
        burn_in = _natural("`num_burnin_steps`", num_burnin_steps)
        thin = _natural("`num_steps_between_results`", between) + 1
        return cls(kept, thin, burn_in, -(-kept // _PIECES))


class _Loop:
    """Steps of chains as compiled functions of flat states and kernel results."""

    def __init__(
        self,
        kernel: Any,
        state: State,
        results: Any,
        clamp: Callable[[tf.Tensor], tf.Tensor] | None,
        output_fn: Callable[[State], tf.Tensor] | None,
        jit_compile: bool,
    ) -> None:
        self.kernel, self.state, self.results = kernel, state, results
        self._clamp, self._jit_compile = clamp, jit_compile
        self.output_fn = transition_kernels.visible if output_fn is None else output_fn
        self._folds = isinstance(kernel, transition_kernels.SimpleKernel)
        self._num_parts = len(tf.nest.flatten(state))

    def one(self, state: State, results: Any, seed: Any) -> tuple[State, Any]:
        """Returns the state and the results after a step."""
        state, results = self.kernel.one_step(state, results, seed=seed)
        return (
            state if self._clamp is None else transition_kernels.with_visible(state, self._clamp)
        ), results

    def result(self, state: State, results: Any, seed: Any) -> tuple[State, tf.Tensor]:
        """Returns the state after a step, and what would be kept of it."""
        state, _ = self.one(state, results, seed)
        return state, self.output_fn(state)

    def burn_in(self, count: int) -> Callable[..., Any]:
        """Returns a compiled function (flat values, seed) -> flat values after `count` steps."""

        @tf.function(jit_compile=self._jit_compile, autograph=False)
        def piece(flat: list[tf.Tensor], seed: tf.Tensor) -> Any:
            seed = self._first_seed(seed)
            return self._steps(count, tf.constant(0), seed, self._no_counts(), *flat)[3:]

        return piece

    def piece(self, count: int, thin: int) -> Callable[..., Any]:
        """Returns a compiled function (flat values, seed) -> (flat values, what is kept, a dict).

        It takes `count` results with `thin` steps for each.
        """

        @tf.function(jit_compile=self._jit_compile, autograph=False)
        def piece(flat: list[tf.Tensor], seed: tf.Tensor) -> Any:
            seed = self._first_seed(seed)
            output = tf.convert_to_tensor(self.output_fn(self._packed(flat)[0]))
            samples = tf.TensorArray(output.dtype, count, element_shape=output.shape)

            def body(number: Any, samples: Any, *rest: Any) -> Any:
                rest = self._steps(thin, *rest)
                output = self.output_fn(self._packed(rest[3:])[0])
                return number + 1, samples.write(number, output), *rest

            zero = tf.constant(0)
            _, samples, _, _, accepted, *flat = tf.while_loop(
                lambda number, *_: number < count,
                body,
                (zero, samples, zero, seed, self._no_counts(), *flat),
                maximum_iterations=count,
            )
            kept = {"samples": samples.stack()}
            if self._is_accepted(self.results) is not None:
                kept["accepted"] = accepted
            return flat, kept

        return piece

    def _first_seed(self, seed: tf.Tensor) -> tf.Tensor:
        if self._folds:
            return seed
        return tfp.random.sanitize_seed(seed, salt="mcmc.sample_chain")  # as TFP does

    def _steps(self, count: int, first: Any, seed: Any, accepted: Any, *flat: Any) -> Any:
        """Takes `count` steps, from step number `first` of the piece."""

        def body(number: Any, seed: Any, accepted: Any, *flat: Any) -> Any:
            if self._folds:
                step_seed, next_seed = fold_in(seed, number), seed
            else:
                step_seed, next_seed = tfp.random.split_seed(seed, n=2)
            state, results = self.one(*self._packed(flat), step_seed)
            is_accepted = self._is_accepted(results)
            if is_accepted is not None:
                accepted += tf.cast(is_accepted, tf.int32)
            after = [*tf.nest.flatten(state), *tf.nest.flatten(results)]
            for value, before in zip(after, flat, strict=True):
                value.set_shape(before.shape)
            return number + 1, next_seed, accepted, *after

        return tf.while_loop(
            lambda number, *_: number < first + count,
            body,
            (first, seed, accepted, *flat),
            maximum_iterations=count,
        )

    def flattened(self, state: State, results: Any) -> list[tf.Tensor]:
        """Returns the tensors of a state and of kernel results."""
        return [*tf.nest.flatten(state), *tf.nest.flatten(results)]

    def _packed(self, flat: Any) -> tuple[State, Any]:
        flat = list(flat)
        return (
            tf.nest.pack_sequence_as(self.state, flat[: self._num_parts]),
            tf.nest.pack_sequence_as(self.results, flat[self._num_parts :]),
        )

    def _no_counts(self) -> tf.Tensor:
        return tf.zeros(tf.shape(transition_kernels.visible(self.state))[:1], tf.int32)

    @staticmethod
    def _is_accepted(results: Any) -> Any:
        """Returns which chains accepted their proposal, (chains,); None without proposals."""
        while results is not None:
            if hasattr(results, "is_accepted"):
                return results.is_accepted
            results = getattr(results, "inner_results", None)
        return None


def _run(
    loop: _Loop,
    state: State,
    results: Any,
    lengths: _Lengths,
    seed: tf.Tensor,
    verbose: Verbose,
    folder: ChainFolder | None,
) -> tuple[dict[str, list[Array]], State]:
    """Runs chains piece by piece.

    Returns:
        ({name: [array of each piece]}, the state after the last).

    Raises:
        ValueError: a state is not finite.
    """
    burn_in = loop.burn_in(lengths.num_burnin_steps)
    step = loop.piece(lengths.piece, lengths.thin)
    flat = loop.flattened(state, results)
    num_parts = len(tf.nest.flatten(state))
    number_of_pieces = -(-lengths.num_results // lengths.piece)
    steps = lengths.piece * lengths.thin
    kept: dict[str, list[Array]] = {}
    with progress.bar(verbose, total=number_of_pieces * steps, unit="step") as bar:
        for number in range(number_of_pieces):
            done = None if folder is None else folder.read(number)
            if done is None:
                if number == 0 and lengths.num_burnin_steps:
                    flat = burn_in(flat, fold_in(seed, -1))
                flat, found = step(flat, fold_in(seed, number))
                done = {f"state_{i}": value.numpy() for i, value in enumerate(flat)}
                if not all(np.isfinite(done[f"state_{i}"]).all() for i in range(num_parts)):
                    advice = "Use a smaller step, or adjusted steps."
                    raise ValueError(f"The chains have diverged to NaN or infinity. {advice}")
                done.update({name: value.numpy() for name, value in found.items()})
                if folder is not None:
                    folder.write(number, done)
            else:
                flat = [tf.constant(done[f"state_{i}"]) for i in range(len(flat))]
            for name, value in done.items():
                if not name.startswith("state_"):
                    kept.setdefault(name, []).append(value)
            bar.update(steps)
    return kept, tf.nest.pack_sequence_as(state, flat[:num_parts])


def _open_folder(
    folder: Path | None, loop: _Loop, lengths: _Lengths, seed: tf.Tensor
) -> ChainFolder | None:
    if folder is None:
        return None
    state = loop.state
    first = (state, loop.results, tf.constant([0, 1]))
    after, output = loop.result(*first)
    output = np.asarray(output)
    settings = {
        "initial_state": fingerprint.of_arrays([v.numpy() for v in tf.nest.flatten(state)]),
        "steps": [lengths.num_results, lengths.thin, lengths.num_burnin_steps],
        "seed": seed.numpy().tolist(),
        "kernel": transition_kernels.settings(loop.kernel),
        "weights": transition_kernels.numbers_read(loop.result, *first),
        "output_fn": [getattr(loop.output_fn, "__qualname__", ""), list(output.shape)],
    }
    values = {
        "model": transition_kernels.model_values(loop.kernel, state, after),
        # Two functions may have one name: all lambdas of a function do.
        "output": output.astype(np.float64).ravel()[:: -(-output.size // 64) or 1],
    }
    return ChainFolder(folder, settings, values)


def _natural(name: str, value: Any) -> int:
    try:
        number = operator.index(value)
    except TypeError:
        expected = "an integer of at least 0"
        raise checks.invalid(name, expected, repr(value), kind=TypeError) from None
    if number < 0:
        raise checks.invalid(name, "an integer of at least 0", number)
    return number


def _check_kernel(kernel: Any) -> None:
    if not isinstance(kernel, tfp.mcmc.TransitionKernel):
        raise checks.invalid(
            "`kernel`",
            "a tfp.mcmc.TransitionKernel, such as model.transition_kernel()",
            type(kernel).__name__,
            "Wrap a function (state, seed) -> state: FunctionKernel(function).",
            kind=TypeError,
        )


def _checked_state(kernel: Any, state: Any, clamp: Any) -> State:
    if hasattr(kernel, "initial_state") and not isinstance(state, tuple):
        x = tf.convert_to_tensor(state)
        unknown = x.dtype.is_floating and clamp is not None
        known = tf.where(tf.math.is_nan(x), tf.zeros_like(x), x) if unknown else x
        arrays.checked_points("`initial_state`", known)
        state = kernel.initial_state(x)
    state = tf.nest.map_structure(tf.convert_to_tensor, state)
    for part in tf.nest.flatten(state):
        if (
            part.shape.rank < 1
            or part.shape[0] < 1
            or part.shape[0] != transition_kernels.visible(state).shape[0]
        ):
            expected = "of shape (chains, ...), with at least one chain"
            raise checks.invalid("`initial_state`", expected, f"shape {tuple(part.shape)}")
        if part.dtype.is_floating and not tf.reduce_all(tf.math.is_finite(part)):
            raise checks.invalid("`initial_state`", "finite", "NaN or infinity")
    if clamp is not None:
        state = transition_kernels.with_visible(state, lambda x: checked_clamp(clamp, x))
    if hasattr(kernel, "check"):
        kernel.check(transition_kernels.visible(state))
    return state


def _check_step(kernel: Any, state: State, results: Any) -> None:
    """Takes a step outside of any graph, so that models can create variables at first use."""
    after, _ = kernel.one_step(state, results, seed=tf.constant([0, 0]))
    tf.nest.assert_same_structure(state, after)
    for before, then in zip(tf.nest.flatten(state), tf.nest.flatten(after), strict=True):
        if before.shape != then.shape or before.dtype != then.dtype:
            raise checks.invalid(
                "The state that `kernel` returns",
                f"like that before, {before.dtype.name} of shape {tuple(before.shape)}",
                f"{then.dtype.name} of shape {tuple(then.shape)}",
            )
