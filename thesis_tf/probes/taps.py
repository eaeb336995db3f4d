"""Taps: every place of a Keras model whose activations can be measured, by name."""

import dataclasses
import fnmatch
import inspect

import keras
import tensorflow as tf

from thesis_tf._core import checks
from thesis_tf._keras.recording import watch


@dataclasses.dataclass(frozen=True)
class Tap:
    """A place of a model where a probe can be attached (thesis, section 9.3).

    Attributes:
        name: the path of layer names from the model inwards, e.g. "encoder/dense". The second
            call of a shared layer is "dense#2", the second tensor of a layer that puts out
            several is "lstm:1". The model's own inputs and outputs are "input" and "output".
        shape: the static shape with the batch axis, e.g. (None, 28, 28, 32).
        dtype: the name of the dtype, e.g. "bfloat16".
        kind: the name of the layer's or operation's class, e.g. "Conv2D"; "Model" for the inputs
            and outputs of the model itself.
    """

    name: str
    shape: tuple
    dtype: str
    kind: str


def taps(model, select="*", inputs=None):
    """Names every place of `model` that can be measured, in the order of computation.

    Works on functional, Sequential, nested, subclassed and recurrent models, with shared layers
    and `keras.ops` nodes. Places inside a loop (the cell of an LSTM) are out of reach, and so is
    what a subclassed `call` does with bare functions: only layers are seen there.

    Args:
        model: a `keras.Model`.
        select: what to keep. A name; a glob over names, e.g. "conv?_block*_add"; "class:Add" for
            all layers of a class; a layer class; a function from `Tap` to bool; or a sequence of
            these. Several names of one tensor (a nested model and its last layer; a dropout at
            inference and what feeds it) count once unless each is asked for by name.
        inputs: an example of the inputs, or `tf.TensorSpec`s with the batch axis; only needed for
            a model that was not built yet.

    Returns:
        A list of `Tap`.

    Raises:
        ValueError: no tap matches (lists the nearest names), or the model is not built.
    """
    return list(trace(model, inputs).select(select))


def trace(model, inputs=None):
    """Traces one inference pass of `model` and returns its `Trace`."""
    if not isinstance(model, keras.Layer):
        raise checks.invalid("`model`", "a keras.Model", repr(model), kind=TypeError)
    spec = input_spec(model, inputs)
    build(model, spec)

    recorders = []

    @tf.function(input_signature=[spec], autograph=False)
    def record(x):
        recorders.append(_watched_forward(model, x))

    record.get_concrete_function()
    return Trace(model, recorders[-1], spec)


class Trace:
    """What one traced inference pass of a model went through.

    Attributes:
        taps: a dict from name to `Tap`, in the order of computation.
        outputs: the taps of the model's own outputs.
        spec: the `tf.TensorSpec`s of the model's inputs, in its own structure.
    """

    def __init__(self, model, recorder, spec):
        self._model = model
        self.spec = spec
        batch = keras.tree.flatten(spec)[0].shape[0]
        self.taps, self._tensors = {}, {}
        self._classes = {path: type(o) for path, o in recorder.out_of_reach.items()}
        self._out_of_reach = [
            Tap(path, (), "", kind.__name__) for path, kind in self._classes.items()
        ]
        for place in recorder.places:
            name, tensor, operation = place.name, place.tensor, place.operation
            # A first axis that isn't the batch (a transposed kernel, say) has no examples.
            if tensor.shape.rank in (None, 0) or tensor.shape[0] != batch:
                continue
            if tensor.dtype in (tf.string, tf.bool):  # texts and masks
                continue
            kind = type(operation).__name__ if operation is not model else "Model"
            self.taps[name] = Tap(name, tuple(tensor.shape), tensor.dtype.name, kind)
            self._tensors[name] = tensor
            self._classes[name] = type(operation)
        self.outputs = [
            tap
            for tap in self.taps.values()
            if tap.kind == "Model" and tap.name.split("/")[0] == "output"
        ]

    def select(self, select):
        """Returns the list of taps that match; see `taps`."""
        wanted = select if isinstance(select, (list, tuple)) else [select]
        if not wanted:
            raise checks.invalid("`select`", "a name, glob, class or function", repr(select))
        chosen = {}
        for rule in wanted:
            name = rule.name if isinstance(rule, Tap) else rule
            if isinstance(name, str) and name in self.taps:
                chosen[name] = True
                continue
            matches = [tap.name for tap in self.taps.values() if self._matches(tap, name)]
            if not matches:
                raise ValueError(self._explain(name))
            for match in matches:
                chosen.setdefault(match, False)
        kept, seen = [], {id(self._tensors[name]) for name, asked in chosen.items() if asked}
        for name, tap in self.taps.items():
            if name not in chosen:
                continue
            if not chosen[name]:
                if id(self._tensors[name]) in seen:
                    continue
                seen.add(id(self._tensors[name]))
            kept.append(tap)
        return kept

    def _matches(self, tap, rule):
        if isinstance(rule, str):
            if rule.startswith("class:"):
                return fnmatch.fnmatchcase(tap.kind, rule.removeprefix("class:"))
            return fnmatch.fnmatchcase(tap.name, rule)
        if inspect.isclass(rule):
            return tap.kind != "Model" and issubclass(self._classes[tap.name], rule)
        if callable(rule):
            return bool(rule(tap))
        raise checks.invalid(
            "`select`",
            "a name, glob, layer class, function or a list of these",
            repr(rule),
            kind=TypeError,
        )

    def _explain(self, rule):
        text = rule if isinstance(rule, str) else getattr(rule, "__name__", repr(rule))
        message = f"No tap of model '{self._model.name}' matches {text!r}."
        is_function = not isinstance(rule, str) and not inspect.isclass(rule)
        if not is_function and any(self._matches(tap, rule) for tap in self._out_of_reach):
            return (
                f"{message} It is called inside a loop, where its tensors are out of reach: tap the"
                " recurrent layer around it (with return_sequences=True for every step)."
            )
        if text.rpartition("/")[2] in {layer.name for layer in self._model._flatten_layers()}:
            return (
                f"{message} The model has such a layer, but at inference it is either not called or"
                " run in a way of its own by the layer around it, as by TimeDistributed: tap that."
            )
        kinds = [tap.kind for tap in self.taps.values()]
        if text.startswith("class:") or inspect.isclass(rule):
            return f"{message} {checks.nearest(text.removeprefix('class:'), kinds)}"
        message = f"{message} {checks.nearest(text, self.taps)}"
        if any(not _is_functional(layer) for layer in [self._model, *_submodels(self._model)]):
            message += (
                " Inside a subclassed `call`, keras.ops and tf functions are not seen, only layers"
                " are: make the step a layer, e.g. keras.layers.Activation('relu')."
            )
        return message

    def edges(self, names):
        """Returns the data flow among taps as (parent, child) pairs of names.

        A pair stands for each way from one tap to another that meets no third one.
        """
        by_tensor = {}
        for name in names:
            by_tensor.setdefault(id(self._tensors[name]), name)
        pairs = []
        for name in names:
            start = self._tensors[name]
            if by_tensor[id(start)] != name:
                pairs.append((by_tensor[id(start)], name))
                continue
            stack, visited = list(start.op.inputs), set()
            while stack:
                tensor = stack.pop()
                if id(tensor) in visited:
                    continue
                visited.add(id(tensor))
                parent = by_tensor.get(id(tensor))
                if parent is not None:
                    pairs.append((parent, name))
                else:
                    stack.extend(tensor.op.inputs)
        order = {name: index for index, name in enumerate(names)}
        return sorted(set(pairs), key=lambda pair: (order[pair[1]], order[pair[0]]))


def forward(model, names):
    """Returns a function x -> (outputs, {name: activation}) for one inference pass of `model`.

    The pass is that of `model(x, training=False)`, but stateless: dropout is off, batch-norm uses
    its moving averages, and nothing of the model changes, not even the seed of a layer that is
    random at inference (which so draws the same numbers in every pass).
    Call it inside a `tf.function`: watching costs something at the trace and nothing afterwards.
    Activations keep the dtype in which the model computes.
    """

    def call(x):
        recorder = _watched_forward(model, x)
        tensors = {place.name: place.tensor for place in recorder.places}
        missing = [name for name in names if name not in tensors]
        if missing:
            raise ValueError(
                f"Tap {missing[0]!r} was not reached in this pass of model '{model.name}'. "
                f"{checks.nearest(missing[0], tensors)}"
            )
        return recorder.outputs, {name: tensors[name] for name in names}

    return call


def _watched_forward(model, x):
    """Runs `model` statelessly on graph tensors and returns the recorder, with `.outputs`."""
    # A call starts by clearing the losses of the one before, in a stateless scope too.
    losses = [(layer, list(layer._losses)) for layer in model._flatten_layers()]
    try:
        # `model.stateless_call` would leave out the casts and the autocast scope around `call`.
        with keras.StatelessScope(), watch(model) as recorder:
            recorder.record_root("input", x)
            recorder.outputs = model(x, training=False)
            recorder.record_root("output", recorder.outputs)
    finally:
        for layer, before in losses:
            layer._losses[:] = before
    return recorder


def input_spec(model, inputs=None):
    """Returns the `tf.TensorSpec`s of the model's inputs, in the structure that it is called with.

    The batch axis is None unless the model was made with a fixed one.

    Raises:
        ValueError: the model was never built, and no `inputs` were given.
    """
    batch = fixed_batch(model)

    def open_batch(x):
        return tf.TensorSpec((batch, *x.shape[1:]), keras.backend.standardize_dtype(x.dtype))

    if inputs is not None:
        return keras.tree.map_structure(open_batch, inputs)
    if _is_functional(model):
        # A Sequential model has no `input` before its first call, but always one of `inputs`.
        symbolic = model.inputs[0] if isinstance(model, keras.Sequential) else model.input
        return keras.tree.map_structure(open_batch, symbolic)
    config = model.get_build_config() or {}
    shape = config.get("input_shape")
    if shape and all(isinstance(n, (int, type(None))) for n in shape):
        return tf.TensorSpec((None, *shape[1:]), model.input_dtype)
    raise ValueError(
        f"The shape of the inputs of model '{model.name}' is not known: it was not built on one"
        " tensor yet. Pass an example of its inputs, e.g. taps(model, inputs=x[:1])."
    )


def fixed_batch(model):
    """Returns the number of examples that every batch of `model` must have; None if any will do."""
    if not _is_functional(model):
        return None
    if isinstance(model, keras.Sequential) and not any(
        getattr(layer, "stateful", False) for layer in model._flatten_layers()
    ):
        return None  # what it has is the size of the first batch that it was called on
    return model.inputs[0].shape[0]


def _is_functional(model):
    return bool(getattr(model, "inputs", None))


def _submodels(model):
    return [layer for layer in model._flatten_layers() if isinstance(layer, keras.Model)]


def build(model, spec):
    """Builds `model` if it is not built: an unbuilt one calls its layers in a scratch graph."""
    if isinstance(model, keras.Sequential) and not model.built and isinstance(spec, tf.TensorSpec):
        # A call would build it for batches of one size.
        model.build(tuple(spec.shape))
    if not all(layer.built for layer in model._flatten_layers()):
        one = keras.tree.map_structure(lambda s: tf.zeros([d or 1 for d in s.shape], s.dtype), spec)
        with keras.StatelessScope():
            model(one)
