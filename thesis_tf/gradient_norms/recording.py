"""Records the inputs and outputs of layers with parameters while a model is traced."""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import keras
import tensorflow as tf

from thesis_tf._core import checks
from thesis_tf._core.types import Structure
from thesis_tf.gradient_norms.registry import Rule, rule_of


@dataclasses.dataclass(eq=False)
class LayerCall:
    """One call of a layer.

    Attributes:
        layer: the layer.
        arguments: its arguments, (args, kwargs).
        training: whether it ran in training mode.
        outputs: its outputs.
        captured: {attribute: [(input, output) of each call of the activation function]}.
        gradients: {id of a tensor: the gradient of the sum of losses with respect to it}.
        values: {id of a variable: the watched copies of its value that the layer read}; only of a
            layer without a rule.
    """

    layer: keras.Operation
    arguments: tuple[tuple[Any, ...], dict[str, Any]]
    _: dataclasses.KW_ONLY
    training: bool = False
    outputs: Structure | None = None
    captured: dict[str, list[tuple[tf.Tensor, tf.Tensor]]] = dataclasses.field(default_factory=dict)
    gradients: dict[int, tf.Tensor] = dataclasses.field(default_factory=dict)
    values: dict[int, list[tf.Tensor]] = dataclasses.field(default_factory=dict)

    @property
    def rule(self) -> Rule | None:
        """The rule that holds for this call, if there is one."""
        if not isinstance(self.layer, keras.layers.Layer) or self._has_own_logits:
            return None
        return rule_of(self.layer)

    @property
    def _has_own_logits(self) -> bool:
        """Whether a loss sees what came before the output, so that no rule of the output holds."""
        outputs = {id(t) for t in keras.tree.flatten(self.outputs)}
        return not self.captured and any(id(t) not in outputs for t in self.sources())

    @property
    def inputs(self) -> tf.Tensor:
        """The first argument, in the dtype in which norms are computed."""
        args, kwargs = self.arguments
        return widened(args[0] if args else next(iter(kwargs.values())))

    @property
    def last_captured(self) -> tf.Tensor:
        """The input of the last captured activation; without captures, the layer's output."""
        if self.captured:
            (uses,) = self.captured.values()
            return uses[-1][0]
        return keras.tree.flatten(self.outputs)[0]

    @property
    def gradient(self) -> tf.Tensor:
        """The gradient with respect to `last_captured`."""
        return self.gradient_of(self.last_captured)

    def gradient_of(self, tensor: tf.Tensor) -> tf.Tensor:
        """Returns the gradient with respect to a captured tensor or an output, at least float32."""
        return widened(self.gradients[id(tensor)])

    def zero_outputs_backwards(self, outputs: Structure) -> Structure:
        """Zeroes the masked steps of a backwards layer's sequence (batch, time, units)."""
        args, kwargs = self.arguments
        given = args[0] if args else next(iter(kwargs.values()))
        mask = kwargs.get("mask", args[2] if len(args) > 2 else None)
        mask = getattr(given, "_keras_mask", None) if mask is None else mask
        if mask is None:
            return _without_logits(outputs)
        sequence: tf.Tensor
        sequence, *states = outputs if isinstance(outputs, (list, tuple)) else [outputs]
        shape = [-1, sequence.shape[1], *[1] * (sequence.shape.rank - 2)]
        mask = tf.reshape(tf.reverse(tf.cast(mask, tf.bool), [1]), shape)
        zeroed = masked_like(tf.where(mask, sequence, tf.zeros_like(sequence)), sequence)
        return [zeroed, *states] if states else zeroed

    def sources(self) -> list[tf.Tensor]:
        """Returns the tensors whose gradients are needed."""
        if self.captured:
            return [given for uses in self.captured.values() for given, _ in uses]
        return exits(self.outputs)


def widened(tensor: tf.Tensor) -> tf.Tensor:
    """Casts a tensor narrower than float32 to float32, so that sums keep their digits."""
    narrow = tensor.dtype in (tf.bfloat16, tf.float16)
    return tf.cast(tensor, tf.float32) if narrow else tensor


def is_floating(tensor: object) -> bool:
    """Returns whether an object is a tensor of a floating dtype."""
    return isinstance(tensor, tf.Tensor) and tensor.dtype.is_floating


def exits(outputs: Structure) -> list[tf.Tensor]:
    """Returns the floating tensors by which a loss can depend on a call's outputs.

    Keras computes cross-entropies from the logits of a softmax or sigmoid, not from its output: it
    takes the output's `_keras_logits` or, in a graph, the input of the operation.
    """
    found = []
    for tensor in filter(is_floating, keras.tree.flatten(outputs)):
        logits = getattr(tensor, "_keras_logits", None)
        if logits is None and _is_of_logits(tensor):
            found.append(tensor.op.inputs[0])
        else:
            found += [tensor] if logits is None else [tensor, logits]
    return found


def _is_of_logits(tensor: tf.Tensor) -> bool:
    return tf.is_symbolic_tensor(tensor) and tensor.op.type in _OF_LOGITS


_OF_LOGITS = {
    "Softmax": lambda logits: tf.raw_ops.Softmax(logits=logits),
    "Sigmoid": lambda logits: tf.raw_ops.Sigmoid(x=logits),
}


def masked_like(tensor: tf.Tensor, other: tf.Tensor) -> tf.Tensor:
    """Copies the mask that Keras attached to another tensor, for later layers."""
    mask = getattr(other, "_keras_mask", None)
    if mask is not None:
        tensor._keras_mask = mask
    return tensor


class GradientRecorder:
    """Records the layer calls whose inputs, outputs and gradients the rules need.

    Pass it to `_keras.recording.recording` while the model is traced.

    Args:
        tape: the `tf.GradientTape` that computes gradients with respect to the captured tensors. It
            watches nothing before the first layer with parameters, so no gradient is computed with
            respect to the inputs.
        wanted: ids of the variables whose gradients are requested.

    Attributes:
        calls: the `LayerCall`s, in the order in which they began.
        reads: {id of such a variable: [the innermost `LayerCall` at each of its reads]}.
    """

    def __init__(self, tape: tf.GradientTape, wanted: set[int]) -> None:
        self.calls: list[LayerCall] = []
        self.reads: dict[int, list[LayerCall]] = {}
        self._tape, self._wanted = tape, wanted
        self._stack: list[LayerCall] = []

    def call(
        self,
        original: Callable[..., Structure],
        operation: keras.Operation,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Structure:
        """Runs one call, and records its reads and captures."""
        call = LayerCall(operation, (args, kwargs), training=_training(self._stack, kwargs))
        self.calls.append(call)
        self._stack.append(call)
        try:
            with self._prepared(call) as finished:
                call.outputs = finished(original(operation, *args, **kwargs))
        finally:
            self._stack.pop()
        if not call.captured and self._owns(operation):
            # Copies, so that the gradient of each comes only from outside of the call: a cell's
            # output is also one of its states.
            call.outputs = keras.tree.map_structure(self._copied, call.outputs)
        return call.outputs

    def read(self, variable: keras.Variable, value: Any) -> Any:
        """Records that a call read a variable; returns the value, or a copy that it watches.

        Outside of calls, regularizers read variables.
        """
        if id(variable) not in self._wanted or not self._stack:
            return value
        call = self._stack[-1]
        readers = self.reads.setdefault(id(variable), [])
        if call not in readers:
            readers.append(call)
        if isinstance(call.layer, keras.layers.Layer) and rule_of(call.layer):
            return value
        value = self._watched(value)
        call.values.setdefault(id(variable), []).append(value)
        return value

    def _watched(self, tensor: Any) -> Any:
        if is_floating(tensor):
            tensor = masked_like(tf.identity(tensor), tensor)
            self._tape.watch(tensor)
        return tensor

    def _copied(self, tensor: Any) -> Any:
        """Returns a watched copy from which a loss finds the logits as from the tensor itself."""
        if not is_floating(tensor):
            return tensor
        logits = getattr(tensor, "_keras_logits", None)
        if logits is None and _is_of_logits(tensor):
            copy = _OF_LOGITS[tensor.op.type](self._watched(tensor.op.inputs[0]))
            return masked_like(copy, tensor)
        copy = self._watched(tensor)
        if logits is not None:
            copy._keras_logits = self._watched(logits)
        return copy

    def _owns(self, operation: keras.Operation) -> bool:
        return isinstance(operation, keras.layers.Layer) and any(
            id(v) in self._wanted for v in operation.trainable_variables
        )

    @contextlib.contextmanager
    def _prepared(self, call: LayerCall) -> Iterator[Callable[[Structure], Structure]]:
        """Changes a layer for its call, and restores it; yields a function for its outputs."""
        layer, finished = call.layer, _as_they_are
        changed: dict[str, Any] = {}
        if isinstance(layer, keras.layers.RNN) and self._owns(layer) and not layer.unroll:
            if call.inputs.shape[1] is None:
                raise checks.invalid(
                    f"The input of {layer.name}",
                    "of a known number of time steps",
                    tuple(call.inputs.shape),
                    "Pad the sequences of a batch to one length.",
                )
            # Calls inside a TensorFlow loop can't be recorded.
            changed["unroll"] = True
            finished = _without_logits
            if layer.go_backwards and layer.zero_output_for_mask and layer.return_sequences:
                # When it unrolls such a layer, Keras 3.15 applies the mask in the wrong order.
                changed["zero_output_for_mask"] = False
                finished = call.zero_outputs_backwards
        rule = rule_of(layer) if self._owns(layer) else None
        for name in rule.captures if rule else ():
            changed[name] = self._capture(call, name, vars(layer)[name])
        before = {name: vars(layer)[name] for name in changed}
        # Bypasses Keras' `__setattr__`, which would track an activation that is a layer.
        vars(layer).update(changed)
        try:
            yield finished
        finally:
            vars(layer).update(before)

    def _capture(
        self, call: LayerCall, name: str, function: Callable[..., Any]
    ) -> Callable[..., Any]:
        def captured(x: tf.Tensor, *args: Any, **kwargs: Any) -> Any:
            x = self._watched(x)
            result = function(x, *args, **kwargs)
            call.captured.setdefault(name, []).append((x, result))
            return result

        return captured


def _as_they_are(outputs: Structure) -> Structure:
    return outputs


def _without_logits(outputs: Structure) -> Structure:
    """Returns copies, as a loop would: a loss can't see that they come from a softmax."""
    return keras.tree.map_structure(
        lambda t: masked_like(tf.identity(t), t) if isinstance(t, tf.Tensor) else t, outputs
    )


class ReadingScope(keras.StatelessScope):
    """A stateless scope that reports every read of a variable to a `GradientRecorder`."""

    def __init__(self, recorder: GradientRecorder, *, collect_losses: bool = False) -> None:
        super().__init__(collect_losses=collect_losses)
        self._recorder = recorder

    def get_current_value(self, variable: keras.Variable) -> Any:
        """Returns the variable's value, and reports the read."""
        return self._recorder.read(variable, super().get_current_value(variable))


def _training(stack: list[LayerCall], kwargs: dict[str, Any]) -> bool:
    given = kwargs.get("training")
    if given is None:
        return bool(stack) and stack[-1].training
    return bool(given)
