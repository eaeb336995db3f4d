"""The modes of computing a batch's products with the Hessian or the Gauss-Newton matrix.

Each mode has two functions of tensors: `keep` computes the values that all products with a batch
need, and `product` computes one product from these values.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Protocol, TypeAlias

import tensorflow as tf

from thesis_tf._keras.parameter_vector import VectorLayout
from thesis_tf.hessian.products import forward_mode

Tensors: TypeAlias = Sequence["tf.Tensor"]
# (x, y, weights): structures of tensors, and (n,).
Batch: TypeAlias = tuple[Any, Any, "tf.Tensor"]


class Function(Protocol):
    """A function of parameters whose second derivatives are taken, such as an `Objective`.

    Attributes:
        layout: the layout of its parameters in one vector.
    """

    layout: VectorLayout

    def total(
        self, parameters: Tensors, constants: Tensors, x: Any, y: Any, weights: "tf.Tensor"
    ) -> "tf.Tensor":
        """Returns the scalar whose Hessian is computed."""


class Mode(Protocol):
    """How products with one batch are computed.

    Attributes:
        objective: the function that is differentiated.
    """

    objective: Any

    def keep(
        self, parameters: Tensors, constants: Tensors, x: Any, y: Any, weights: "tf.Tensor"
    ) -> Tensors:
        """Returns the values that all products with this batch need."""

    def product(
        self, vector: "tf.Tensor", parameters: Tensors, constants: Tensors, kept: Tensors
    ) -> "tf.Tensor":
        """Returns one product (d,) from the result of `keep`; must be traced after `keep`."""


def _gradient(
    objective: Function,
    parameters: Tensors,
    constants: Tensors,
    x: Any,
    y: Any,
    weights: "tf.Tensor",
) -> tuple[Tensors, list["tf.Operation"]]:
    """Returns the gradient, a list of tensors, and the graph's operations that computed it."""
    graph = tf.compat.v1.get_default_graph()
    before = len(graph.get_operations())
    with tf.GradientTape() as tape:
        tape.watch(parameters)
        total = objective.total(parameters, constants, x, y, weights)
    gradient = _dense(tape.gradient(total, parameters), parameters)
    return gradient, graph.get_operations()[before:]


def gradient(
    objective: Function, parameters: Tensors, constants: Tensors, batch: Batch
) -> "tf.Tensor":
    """Returns the sum of the gradients of a batch's losses, a vector (d,).

    Its derivative with respect to the parameters, along v, is the product Hv.
    """
    tensors, _ = _gradient(objective, parameters, constants, *batch)
    return objective.layout.pack(tensors)


def frozen_gradient(
    objective: Any, parameters: Tensors, frozen: Tensors, constants: Tensors, batch: Batch
) -> "tf.Tensor":
    """Returns the gradient with the Jacobian of the outputs frozen at other parameters.

    Its derivative with respect to `parameters` at `frozen`, along v, is the Gauss-Newton product.
    """
    x, y, weights = batch
    arguments = objective.loss_arguments(y, objective.outputs(parameters, constants, x))
    moved = arguments.tensors
    with tf.GradientTape() as tape:
        tape.watch(moved)
        losses = objective.example_losses(y, arguments.outputs(moved))
        total = tf.reduce_sum(losses * tf.cast(weights, losses.dtype))
    slopes = _dense(tape.gradient(total, moved), moved)
    with tf.GradientTape() as tape:
        tape.watch(frozen)
        outputs = objective.loss_arguments(y, objective.outputs(frozen, constants, x)).tensors
    result = _dense(tape.gradient(outputs, frozen, output_gradients=slopes), frozen)
    added = _regularization_gradient(objective, parameters, constants, weights)
    if added is not None:
        result = [a + b for a, b in zip(result, added, strict=True)]
    return objective.layout.pack(result)


def traced(
    mode: Mode, specs: tuple[Any, Any, Any, Any]
) -> tuple["tf.types.experimental.ConcreteFunction", "tf.types.experimental.ConcreteFunction"]:
    """Traces both functions of a new object of a mode.

    Args:
        specs: `tf.TensorSpec`s (vector, parameters, constants, (x, y, weights)).

    Returns:
        keep(parameters, constants, x, y, weights) -> kept, and product(vector, parameters,
        constants, kept) -> (d,).
    """
    vector, parameters, constants, batch = specs
    keep = tf.function(mode.keep, autograph=False).get_concrete_function(
        parameters, constants, *batch
    )
    kept = [tf.TensorSpec(t.shape, t.dtype) for t in keep.structured_outputs]
    product = tf.function(mode.product, autograph=False).get_concrete_function(
        vector, parameters, constants, kept
    )
    return keep, product


def _dense(gradients: Sequence[Any], parameters: Tensors) -> list["tf.Tensor"]:
    """Returns gradients as tensors: zeros for None, dense for `tf.IndexedSlices`."""
    return [
        tf.zeros_like(p) if g is None else tf.convert_to_tensor(g)
        for g, p in zip(gradients, parameters, strict=True)
    ]


def _regularization_gradient(
    objective: Any, parameters: Tensors, constants: Tensors, weights: "tf.Tensor"
) -> list["tf.Tensor"] | None:
    """Returns the gradient of the regularizers, counted once per example; None without any."""
    with tf.GradientTape() as tape:
        tape.watch(parameters)
        added = objective.regularization(parameters, constants)
        if added is None:
            return None
        added *= tf.cast(tf.reduce_sum(weights), added.dtype)
    return _dense(tape.gradient(added, parameters), parameters)


class _Linearized:
    """Products by forward mode along operations whose values are kept."""

    def __init__(self, objective: Any) -> None:
        self.objective = objective

    def _record(
        self, parameters: Tensors, constants: Tensors, x: Any, y: Any, weights: "tf.Tensor"
    ) -> None:
        """Builds the operations that are differentiated in forward mode."""
        raise NotImplementedError

    def _tangents(self, vectors: Tensors, lookup: forward_mode.Lookup) -> Tensors:
        """Returns the product with a direction, both as tensors of the parameters' shapes."""
        raise NotImplementedError

    def keep(
        self, parameters: Tensors, constants: Tensors, x: Any, y: Any, weights: "tf.Tensor"
    ) -> Tensors:
        """Returns the values of one batch's computation that tangents need."""
        self._recording = forward_mode.Recording()
        self._inputs = [*parameters, *constants]
        self._record(parameters, constants, x, y, weights)
        # A trial run, whose outputs are never fetched, records the values that tangents need.
        self._tangents(parameters, self._recording)
        given = {tensor.ref() for tensor in self._inputs}
        self._kept = [t for t in self._recording.tensors if t.ref() not in given]
        return self._kept

    def product(
        self, vector: "tf.Tensor", parameters: Tensors, constants: Tensors, kept: Tensors
    ) -> "tf.Tensor":
        """Returns the product (d,) with one batch; to be traced after `keep`."""
        pairs = zip([*self._inputs, *self._kept], [*parameters, *constants, *kept], strict=True)
        lookup = forward_mode.Supplied(self._recording, pairs)
        layout = self.objective.layout
        return layout.pack(self._tangents(layout.unpack(vector), lookup))


class ForwardOverReverse(_Linearized):
    """The derivative of the gradient along v: forward mode over the tape's reverse mode."""

    name: ClassVar[str] = "forward_over_reverse"

    def _record(
        self, parameters: Tensors, constants: Tensors, x: Any, y: Any, weights: "tf.Tensor"
    ) -> None:
        self._parameters = parameters
        self._gradient, self._operations = _gradient(
            self.objective, parameters, constants, x, y, weights
        )

    def _tangents(self, vectors: Tensors, lookup: forward_mode.Lookup) -> Tensors:
        tangents = _seeded(self._parameters, vectors)
        forward_mode.push(self._operations, tangents, lookup)
        return _collected(self._gradient, tangents)


class GaussNewton(_Linearized):
    """J' (the loss' Hessian with respect to the outputs) J v: forward, across, and back."""

    name: ClassVar[str] = "forward_over_reverse"

    def _record(
        self, parameters: Tensors, constants: Tensors, x: Any, y: Any, weights: "tf.Tensor"
    ) -> None:
        graph, objective = tf.compat.v1.get_default_graph(), self.objective
        marks = [len(graph.get_operations())]
        with tf.GradientTape() as tape:
            tape.watch(parameters)
            arguments = objective.loss_arguments(y, objective.outputs(parameters, constants, x))
            flat = [tf.identity(t) for t in arguments.tensors]
        marks.append(len(graph.get_operations()))
        with tf.GradientTape() as loss_tape:
            loss_tape.watch(flat)
            losses = objective.example_losses(y, arguments.outputs(flat))
            total = tf.reduce_sum(losses * tf.cast(weights, losses.dtype))
        slopes = _dense(loss_tape.gradient(total, flat), flat)
        marks.append(len(graph.get_operations()))
        # J'c, linear in c: its tangent along c is J' times the direction, for any c.
        cotangents = [tf.identity(slope) for slope in slopes]
        back_from = len(graph.get_operations())
        back = tape.gradient(flat, parameters, output_gradients=cotangents)
        operations = graph.get_operations()
        self._forward = operations[marks[0] : marks[1]]
        self._across = operations[marks[1] : marks[2]]
        self._back = operations[back_from:]
        self._parameters, self._outputs, self._slopes = parameters, flat, slopes
        self._cotangents, self._result = cotangents, _dense(back, parameters)
        first = len(graph.get_operations())
        self._pull = _regularization_gradient(objective, parameters, constants, weights)
        self._regularization = graph.get_operations()[first:]

    def _tangents(self, vectors: Tensors, lookup: forward_mode.Lookup) -> Tensors:
        forward = _seeded(self._parameters, vectors)
        forward_mode.push(self._forward, forward, lookup)
        across = _seeded(self._outputs, _collected(self._outputs, forward))
        forward_mode.push(self._across, across, lookup)
        back = _seeded(self._cotangents, _collected(self._slopes, across))
        forward_mode.push(self._back, back, lookup)
        result = _collected(self._result, back)
        if self._pull is not None:
            # The Hessian of the regularizers, which do not depend on the outputs.
            tangents = _seeded(self._parameters, vectors)
            forward_mode.push(self._regularization, tangents, lookup)
            added = _collected(self._pull, tangents)
            result = [a + b for a, b in zip(result, added, strict=True)]
        return result


def _seeded(tensors: Tensors, tangents: Tensors) -> dict[Any, "tf.Tensor"]:
    """Returns {tensor.ref(): tangent} for `forward_mode.push`."""
    return {t.ref(): v for t, v in zip(tensors, tangents, strict=True)}


def _collected(tensors: Tensors, tangents: dict[Any, "tf.Tensor"]) -> list["tf.Tensor"]:
    """Returns the tangents of tensors, zeros where `forward_mode.push` found none."""
    found = [tangents.get(tensor.ref()) for tensor in tensors]
    return [
        tf.zeros(t.shape, t.dtype) if f is None else f for t, f in zip(tensors, found, strict=True)
    ]


class _Recomputed:
    """Products that run the model each time; only the batch is kept."""

    def __init__(self, objective: Any) -> None:
        self.objective = objective

    def _product(
        self, vectors: Tensors, parameters: Tensors, constants: Tensors, batch: Batch
    ) -> Tensors:
        """Returns the product as tensors of the parameters' shapes."""
        raise NotImplementedError

    def keep(
        self, parameters: Tensors, constants: Tensors, x: Any, y: Any, weights: "tf.Tensor"
    ) -> Tensors:
        """Returns the batch."""
        self._structure = (x, y, weights)
        return tf.nest.flatten(self._structure)

    def product(
        self, vector: "tf.Tensor", parameters: Tensors, constants: Tensors, kept: Tensors
    ) -> "tf.Tensor":
        """Returns the product (d,) with one batch."""
        batch = tf.nest.pack_sequence_as(self._structure, kept)
        layout = self.objective.layout
        vectors = layout.unpack(vector)
        return layout.pack(self._product(vectors, parameters, constants, batch))


class ForwardAccumulator(_Recomputed):
    """The derivative of the gradient along v, by `tf.autodiff.ForwardAccumulator`."""

    name: ClassVar[str] = "forward_accumulator"

    def _product(
        self, vectors: Tensors, parameters: Tensors, constants: Tensors, batch: Batch
    ) -> Tensors:
        with tf.autodiff.ForwardAccumulator(parameters, vectors) as accumulator:
            gradient, _ = _gradient(self.objective, parameters, constants, *batch)
        return accumulator.jvp(gradient, unconnected_gradients="zero")


class ReverseOverReverse(_Recomputed):
    """The gradient of gradient'v, for models without forward mode, such as models with loops."""

    name: ClassVar[str] = "reverse_over_reverse"

    def _product(
        self, vectors: Tensors, parameters: Tensors, constants: Tensors, batch: Batch
    ) -> Tensors:
        with tf.GradientTape() as tape:
            tape.watch(parameters)
            gradient, _ = _gradient(self.objective, parameters, constants, *batch)
        product = tape.gradient(gradient, parameters, output_gradients=vectors)
        return _dense(product, parameters)


class GaussNewtonReverseOverReverse(_Recomputed):
    """The Gauss-Newton product by reverse mode only."""

    name: ClassVar[str] = "reverse_over_reverse"

    def _product(
        self, vectors: Tensors, parameters: Tensors, constants: Tensors, batch: Batch
    ) -> Tensors:
        x, y, weights = batch
        objective = self.objective
        with tf.GradientTape(persistent=True) as tape:
            tape.watch(parameters)
            arguments = objective.loss_arguments(y, objective.outputs(parameters, constants, x))
            outputs = [tf.identity(t) for t in arguments.tensors]
            cotangents = [tf.zeros_like(o) for o in outputs]
            tape.watch(cotangents)
            # J'c is linear in c: the derivative with respect to c of (J'c)'v is J v.
            back = tape.gradient(outputs, parameters, output_gradients=cotangents)
            back = _dense(back, parameters)
        moved = tape.gradient(back, cotangents, output_gradients=vectors)
        moved = _dense(moved, outputs)
        with tf.GradientTape() as second:
            second.watch(outputs)
            with tf.GradientTape() as first:
                first.watch(outputs)
                losses = objective.example_losses(y, arguments.outputs(outputs))
                total = tf.reduce_sum(losses * tf.cast(weights, losses.dtype))
            slopes = _dense(first.gradient(total, outputs), outputs)
        across = _dense(second.gradient(slopes, outputs, output_gradients=moved), outputs)
        result = _dense(tape.gradient(outputs, parameters, output_gradients=across), parameters)
        with tf.GradientTape() as second:
            second.watch(parameters)
            pull = _regularization_gradient(objective, parameters, constants, weights)
        if pull is None:
            return result
        extra = second.gradient(pull, parameters, output_gradients=vectors)
        return [a + b for a, b in zip(result, _dense(extra, parameters), strict=True)]


def _gradient_of_hessian(
    objective: Any, parameters: Tensors, frozen: Tensors, constants: Tensors, batch: Batch
) -> "tf.Tensor":
    return gradient(objective, parameters, constants, batch)


@dataclasses.dataclass(frozen=True, eq=False)
class MatrixKind:
    """A matrix of second derivatives.

    Attributes:
        modes: {name: class} of the modes in which its products can be computed.
        differentiated: (objective, parameters, frozen, constants, batch) -> (d,); the matrix is its
            derivative with respect to `parameters`, where they equal `frozen`.
    """

    modes: Mapping[str, Callable[[Any], Mode]]
    differentiated: Callable[..., "tf.Tensor"]


HESSIAN = MatrixKind(
    {mode.name: mode for mode in (ForwardOverReverse, ForwardAccumulator, ReverseOverReverse)},
    _gradient_of_hessian,
)
GAUSS_NEWTON = MatrixKind(
    {mode.name: mode for mode in (GaussNewton, GaussNewtonReverseOverReverse)}, frozen_gradient
)
