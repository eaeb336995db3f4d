"""Per-example gradients of tensors that don't depend on the batch: positions, tokens, tables.

Such a tensor meets the batch in an operation that broadcasts it to all examples, adds it to each or
multiplies each with it. There, each example's gradient is a row of the gradient with respect to the
operation's output; nothing has to be mapped over the examples.
"""

from __future__ import annotations

import dataclasses

import tensorflow as tf

from thesis_tf.gradient_norms.batch_axis import BatchAxis
from thesis_tf.gradient_norms.examplewise import examplewise
from thesis_tf.gradient_norms.forms import Form, Full, Outer, Rows, combined, with_places
from thesis_tf.gradient_norms.recording import widened

_BROADCASTS = {"BroadcastTo", "Tile", "Add", "AddV2", "BiasAdd", "Sub", "Mul", "SelectV2"}
_PRODUCTS = {"MatMul", "BatchMatMulV2"}
_LOOKUPS = {"GatherV2"}


@dataclasses.dataclass(frozen=True)
class Meeting:
    """An operation of a graph in which a constant tensor meets the batch.

    Attributes:
        op: the operation.
        place: the number of the operation's input that is constant.
    """

    op: tf.Operation
    place: int

    @property
    def constant(self) -> tf.Tensor:
        """The constant tensor."""
        return self.op.inputs[self.place]

    @property
    def output(self) -> tf.Tensor:
        """The operation's output, one row for each example."""
        return self.op.outputs[0]

    def form(self, gradient: tf.Tensor) -> Form:
        """Returns the per-example gradients of `constant`, from those of `output`."""
        kind = self.op.type
        if kind in _PRODUCTS:
            other = widened(self.op.inputs[0])
            a, d = with_places(other), with_places(gradient)
            flag = "transpose_b" if kind == "MatMul" else "adj_y"
            if kind == "MatMul":  # rank 2: one place
                a, d = other[:, tf.newaxis], gradient[:, tf.newaxis]
            return Outer(d, a) if self.op.get_attr(flag) else Outer(a, d)
        if kind in _LOOKUPS:
            ids = with_places(self.op.inputs[1][..., tf.newaxis])[..., 0]
            return Rows(ids, with_places(gradient), self.constant.shape[0])
        if kind == "Sub" and self.place:
            gradient = -gradient
        elif kind == "Mul":
            gradient *= widened(self.op.inputs[1 - self.place])
        elif kind == "SelectV2":
            zeros = tf.zeros_like(gradient)
            picked = (gradient, zeros) if self.place == 1 else (zeros, gradient)
            gradient = tf.where(self.op.inputs[0], *picked)
        shape = self.constant.shape.as_list()
        leading = gradient.shape.rank - len(shape)
        spread = [1] * leading + shape
        axes = [a for a in range(1, len(spread)) if spread[a] == 1]
        summed = tf.reduce_sum(gradient, axis=axes) if axes else gradient
        return Full(tf.reshape(summed, [tf.shape(gradient)[0], *shape]))


def meetings(tensor: tf.Tensor, batch: BatchAxis) -> list[Meeting] | None:
    """Returns where a constant tensor, or what is computed from it alone, meets the batch.

    Returns None if it isn't constant, or a gradient may pass an operation of another kind.
    """
    if not batch.is_in_graph(tensor) or not batch.is_constant(tensor):
        return None
    found: dict[tuple[tf.Operation, int], Meeting] = {}
    seen, waiting = {tensor.name}, [tensor]
    while waiting:
        constant = waiting.pop()
        for op in constant.consumers():
            if not any(t.dtype.is_floating or t.dtype.is_complex for t in op.outputs):
                continue  # no gradient passes
            if batch.is_constant(op.outputs[0]):
                waiting += [t for t in op.outputs if t.name not in seen]
                seen.update(t.name for t in op.outputs)
                continue
            for place, given in enumerate(op.inputs):
                if given is constant:
                    meeting = Meeting(op, place)
                    if not _is_known(meeting, batch):
                        return None
                    found[op, place] = meeting
    return list(found.values())


def _is_known(meeting: Meeting, batch: BatchAxis) -> bool:
    op, constant = meeting.op, meeting.constant
    shape, output = constant.shape, meeting.output.shape
    if not shape.is_fully_defined() or not batch.holds_examples(meeting.output):
        return False
    if op.type in _PRODUCTS:
        other = op.inputs[0]
        flag = "transpose_a" if op.type == "MatMul" else "adj_x"
        plain = meeting.place == 1 and shape.rank == 2 and not op.get_attr(flag)
        return plain and batch.holds_examples(other)
    if op.type in _LOOKUPS:
        axis = tf.get_static_value(op.inputs[2])
        plain = (
            meeting.place == 0 and shape.rank == 2 and axis == 0 and not op.get_attr("batch_dims")
        )
        return plain and batch.holds_examples(op.inputs[1])
    if op.type not in _BROADCASTS or (op.type == "SelectV2" and meeting.place == 0):
        return False
    if op.type == "BiasAdd" and op.get_attr("data_format") != b"NHWC":
        return False
    if op.type == "Tile" and not (shape.rank == output.rank and shape[1:] == output[1:]):
        return False
    # An axis of size 1 in front, or none, is what is broadcast to the examples.
    return shape.rank < output.rank or shape[0] == 1


def gradients_by_example(
    tensor: tf.Tensor,
    places: list[Meeting],
    gradients: dict[int, tf.Tensor],
    tape: tf.GradientTape,
) -> Form | None:
    """Returns the per-example gradients of a constant tensor; None if the batch doesn't meet it.

    Args:
        tensor: the tensor, watched by the tape.
        places: its `meetings`.
        gradients: {id of a meeting's output: the gradients with respect to it}.
        tape: a persistent tape, which recorded what happened to the tensor.
    """
    forms = []
    for meeting in places:
        form = meeting.form(widened(gradients[id(meeting.output)]))
        if meeting.constant is not tensor:
            form = Full(_pulled_back(tensor, meeting.constant, form.dense(), tape))
        forms.append(form)
    return combined(forms) if forms else None


def _pulled_back(
    start: tf.Tensor, end: tf.Tensor, gradients: tf.Tensor, tape: tf.GradientTape
) -> tf.Tensor:
    """Returns gradients with respect to `start`, from those of `end`, which is computed from it."""
    while end is not start and end.op.type in {"Identity", "Cast", "Reshape", "ExpandDims"}:
        end = end.op.inputs[0]
        gradients = tf.reshape(gradients, [tf.shape(gradients)[0], *end.shape])
    if end is start:
        return gradients

    def one(gradient: tf.Tensor) -> list[tf.Tensor]:
        found = tape.gradient(end, start, output_gradients=gradient, unconnected_gradients="zero")
        return [tf.convert_to_tensor(found)]

    result = tf.TensorSpec(start.shape, start.dtype)
    (found,) = examplewise(one, tf.cast(gradients, end.dtype), [result])
    return widened(tf.ensure_shape(found, [None, *start.shape]))
