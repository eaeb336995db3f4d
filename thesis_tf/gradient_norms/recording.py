"""Records, while a model is traced, what its layers with weights are given and put out."""

import contextlib
import dataclasses

import keras
import tensorflow as tf

from thesis_tf._core import checks
from thesis_tf.gradient_norms.registry import rule_of


@dataclasses.dataclass(eq=False)
class Call:
    """One call of a layer.

    Attributes:
        layer: the layer.
        arguments: what it was given, (args, kwargs).
        training: whether it ran in training mode.
        outputs: what it put out, in its own structure.
        captured: {attribute: [(what the activation was given, what it returned), ...]}.
        gradients: {id of a tensor: the gradient of the sum of losses with respect to it}.
    """

    layer: keras.Operation
    arguments: tuple
    training: bool = False
    outputs: object = None
    captured: dict = dataclasses.field(default_factory=dict)
    gradients: dict = dataclasses.field(default_factory=dict)

    @property
    def inputs(self):
        """The first argument, in the dtype in which norms are computed."""
        args, kwargs = self.arguments
        return widened(args[0] if args else next(iter(kwargs.values())))

    @property
    def last_captured(self):
        """What the last captured activation was given; without captures, what was put out."""
        if self.captured:
            (uses,) = self.captured.values()
            return uses[-1][0]
        return keras.tree.flatten(self.outputs)[0]

    @property
    def gradient(self):
        """The gradient with respect to `last_captured`."""
        return self.gradient_of(self.last_captured)

    def gradient_of(self, tensor):
        """The gradient with respect to a captured tensor or an output, wide enough for sums."""
        return widened(self.gradients[id(tensor)])

    def zero_outputs_backwards(self, outputs):
        """Zeroes a backwards layer's sequence (batch, time, units) where its mask leaves out."""
        args, kwargs = self.arguments
        given = args[0] if args else next(iter(kwargs.values()))
        mask = kwargs.get("mask", args[2] if len(args) > 2 else None)
        mask = getattr(given, "_keras_mask", None) if mask is None else mask
        if mask is None:
            return outputs
        sequence, *states = outputs if isinstance(outputs, (list, tuple)) else [outputs]
        shape = [-1, sequence.shape[1], *[1] * (sequence.shape.rank - 2)]
        mask = tf.reshape(tf.reverse(tf.cast(mask, tf.bool), [1]), shape)
        zeroed = masked_like(tf.where(mask, sequence, tf.zeros_like(sequence)), sequence)
        return [zeroed, *states] if states else zeroed

    def sources(self):
        """The tensors whose gradients are needed."""
        if self.captured:
            return [given for uses in self.captured.values() for given, _ in uses]
        return [t for t in keras.tree.flatten(self.outputs) if is_floating(t)]


def widened(tensor):
    """Casts what is narrower than float32 to it, so that sums keep their digits."""
    narrow = tensor.dtype in (tf.bfloat16, tf.float16)
    return tf.cast(tensor, tf.float32) if narrow else tensor


def is_floating(tensor):
    """Whether something is a tensor of a floating dtype."""
    return isinstance(tensor, tf.Tensor) and tensor.dtype.is_floating


def masked_like(tensor, other):
    """Gives a tensor the mask that Keras attached to another, for layers that come after."""
    mask = getattr(other, "_keras_mask", None)
    if mask is not None:
        tensor._keras_mask = mask
    return tensor


class Recorder:
    """Keeps the calls that `model` makes while it is traced under `_watching.watch`.

    Args:
        tape: the `tf.GradientTape` that is to give gradients with respect to what is captured. It
            watches nothing before the first layer with weights, so that no gradient is computed
            with respect to the inputs.
        wanted: ids of the variables whose gradients are wanted.

    Attributes:
        calls: the `Call`s, in the order in which they began.
        reads: {id of a wanted variable: [the innermost `Call` at each of its reads]}.
    """

    def __init__(self, tape, wanted):
        self.calls, self.reads = [], {}
        self._tape, self._wanted = tape, wanted
        self._stack = []

    def call(self, original, operation, args, kwargs):
        """Runs one call, with what it reads and captures recorded."""
        call = Call(operation, (args, kwargs), _training(self._stack, kwargs))
        self.calls.append(call)
        self._stack.append(call)
        try:
            with self._prepared(call) as finished:
                call.outputs = finished(original(operation, *args, **kwargs))
        finally:
            self._stack.pop()
        if not call.captured and self._owns(operation):
            # Copies, so that the gradient of each is by what happens outside of the call alone: a
            # cell's output depends on the state that it puts out as well.
            call.outputs = keras.tree.map_structure(self._watched, call.outputs)
        return call.outputs

    def read(self, variable):
        """Notes that the value of a variable was read; outside of calls regularisers read it."""
        if id(variable) in self._wanted and self._stack:
            readers = self.reads.setdefault(id(variable), [])
            if self._stack[-1] not in readers:
                readers.append(self._stack[-1])

    def _watched(self, tensor):
        if is_floating(tensor):
            tensor = masked_like(tf.identity(tensor), tensor)
            self._tape.watch(tensor)
        return tensor

    def _owns(self, operation):
        return isinstance(operation, keras.layers.Layer) and any(
            id(v) in self._wanted for v in operation.trainable_variables
        )

    @contextlib.contextmanager
    def _prepared(self, call):
        """Sets a layer up for its call, and puts it back; yields what to do with its outputs."""
        layer, changed, finished = call.layer, {}, _as_they_are
        if isinstance(layer, keras.layers.RNN) and self._owns(layer) and not layer.unroll:
            if call.inputs.shape[1] is None:
                raise checks.invalid(
                    f"The input of {layer.name}",
                    "of a known number of time steps",
                    tuple(call.inputs.shape),
                    "Pad the sequences of a batch to one length.",
                )
            # Inside a loop no call can be seen.
            changed["unroll"] = True
            if layer.go_backwards and layer.zero_output_for_mask and layer.return_sequences:
                # Keras 3.15 takes the mask the wrong way round here, if unrolled.
                changed["zero_output_for_mask"] = False
                finished = call.zero_outputs_backwards
        rule = rule_of(layer) if self._owns(layer) else None
        for name in rule.captures if rule else ():
            changed[name] = self._capture(call, name, vars(layer)[name])
        before = {name: vars(layer)[name] for name in changed}
        # Past Keras' __setattr__, which would track an activation that is a layer as a new one.
        vars(layer).update(changed)
        try:
            yield finished
        finally:
            vars(layer).update(before)

    def _capture(self, call, name, function):
        def captured(x, *args, **kwargs):
            x = self._watched(x)
            result = function(x, *args, **kwargs)
            call.captured.setdefault(name, []).append((x, result))
            return result

        return captured


def _as_they_are(outputs):
    return outputs


class ReadingScope(keras.StatelessScope):
    """A stateless scope that tells a `Recorder` of every read of a variable's value."""

    def __init__(self, recorder, **options):
        super().__init__(**options)
        self._recorder = recorder

    def get_current_value(self, variable):
        """Returns the value, after telling of it."""
        self._recorder.read(variable)
        return super().get_current_value(variable)


def _training(stack, kwargs):
    given = kwargs.get("training")
    if given is None:
        return bool(stack) and stack[-1].training
    return bool(given)
