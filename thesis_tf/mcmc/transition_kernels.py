"""Transition kernels whose next state depends only on the current state and a seed."""

import abc
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from thesis_tf._core import checks
from thesis_tf.persistence import fingerprint

# A tensor (chains, ...), or a nest of them whose first part is what a user sees.
State: TypeAlias = Any
Seed: TypeAlias = "tf.Tensor"


class SimpleKernel(tfp.mcmc.TransitionKernel):
    """A kernel that keeps no results between steps: a subclass defines `step`.

    It may also define `initial_state(x)`, which returns the state of chains that begin at x, and
    `check(x)`, which raises unless x (chains, ...) can be the visible part of a state.

    `sample_chain` passes the seed fold_in(seed, n) to step n of a piece of the chains, which
    depends only on the chains' seed and the step. Other kernels get the same seeds as from
    `tfp.mcmc.sample_chain`, which splits the seed at each step.
    """

    @abc.abstractmethod
    def step(self, state: State, seed: Seed) -> State:
        """Returns the next state; the same seed, a pair of int32, gives the same state."""

    @property
    def is_calibrated(self) -> bool:
        """True: there is no correction to apply."""
        return True

    @property
    def parameters(self) -> dict[str, Any]:
        """The arguments of the constructor."""
        return {}

    def bootstrap_results(self, init_state: State) -> tuple[()]:
        """Returns (): nothing is kept."""
        return ()

    def one_step(
        self, current_state: State, previous_kernel_results: tuple[()], seed: Any = None
    ) -> tuple[State, tuple[()]]:
        """Returns (next state, ()), as required by `tfp.mcmc`."""
        return self.step(current_state, tfp.random.sanitize_seed(seed)), ()


class FunctionKernel(SimpleKernel):
    """The kernel of a function (state, seed) -> state.

    Args:
        function: returns a state with the structure, shapes and dtypes of its argument. The seed is
            a pair of int32, for `tf.random.stateless_*`.

    Raises:
        TypeError: the function can't be called.
    """

    def __init__(self, function: Callable[[State, Seed], State]) -> None:
        if not callable(function):
            received = type(function).__name__
            raise checks.invalid(
                "`function`", "a function (state, seed) -> state", received, kind=TypeError
            )
        self._function = function

    @property
    def parameters(self) -> dict[str, Any]:
        """The arguments of the constructor."""
        return {"function": self._function}

    def step(self, state: State, seed: Seed) -> State:
        """Returns the result of the function."""
        return self._function(state, seed)


def visible(state: State) -> "tf.Tensor":
    """Returns the part of a state that a user sees: the first, or the whole of a single tensor."""
    return state[0] if isinstance(state, tuple | list) else state


def with_visible(state: State, function: Callable[["tf.Tensor"], "tf.Tensor"]) -> State:
    """Returns the state with a function applied to its visible part."""
    if not isinstance(state, tuple | list):
        return function(state)
    first = function(state[0])
    fields = getattr(state, "_fields", None)
    return type(state)(first, *state[1:]) if fields else type(state)((first, *state[1:]))


def inner_kernels(kernel: Any) -> list[Any]:
    """Returns a kernel and those that it wraps, from the outermost to the innermost."""
    found = []
    while kernel is not None:
        found.append(kernel)
        kernel = getattr(kernel, "inner_kernel", None)
    return found


def settings(kernel: Any) -> list[list[Any]]:
    """Returns [name, numbers and strings among its parameters] of a kernel and those in it."""
    return [
        [
            type(one).__name__,
            {k: v for k, v in one.parameters.items() if isinstance(v, int | float | str)},
        ]
        for one in inner_kernels(kernel)
    ]


def model_values(kernel: Any, state: State, after: State) -> np.ndarray:
    """Returns a few numbers that distinguish a kernel's model from others with the same settings.

    They may differ by rounding on another machine.

    Args:
        kernel: one that may have a method `model_values(state)` to compute them.
        state: where the chains begin.
        after: the state after one step, whose last floating part is used for other kernels. For a
            network it is the distribution parameters, which vary smoothly with its weights.
    """
    innermost = inner_kernels(kernel)[-1]
    if hasattr(innermost, "model_values"):
        return np.asarray(innermost.model_values(state), np.float64)
    floating = [value for value in tf.nest.flatten(after) if value.dtype.is_floating]
    last = np.asarray(floating[-1], np.float64).ravel() if floating else np.zeros(1)
    return last[:: -(-last.size // 64)]


def numbers_read(function: Callable[..., Any], *arguments: Any) -> str:
    """Hashes the floating variables, tensors and constants that a function reads, exactly.

    Args:
        function: a function of tensors, which is traced and not run.
        arguments: nests of tensors.
    """
    traced = tf.function(function, autograph=False).get_concrete_function(*arguments)
    variables = {id(v.handle): v for v in traced.graph.variables if hasattr(v, "handle")}
    held = [variables.get(id(value), value) for value in traced.captured_inputs]
    graph = traced.graph.as_graph_def()
    inner = [node for function in graph.library.function for node in function.node_def]
    constants = [
        tf.make_ndarray(node.attr["value"].tensor)
        for node in [*graph.node, *inner]
        if node.op == "Const" and tf.as_dtype(node.attr["dtype"].type).is_floating
    ]
    # Functions inside of the graph have no order that is the same in all processes.
    hashes = sorted(fingerprint.of_arrays([value]) for value in constants)
    values = [np.asarray(value.numpy()) for value in held if value.dtype.is_floating]
    return fingerprint.of_json([fingerprint.of_arrays(values), hashes])
