"""From a model and a loss to a function that gives losses and gradient norms an example."""

import keras
import tensorflow as tf

from thesis_tf._core import checks
from thesis_tf._keras import recording
from thesis_tf._keras.objective import Objective
from thesis_tf.gradient_norms.fallback import mapped
from thesis_tf.gradient_norms.forms import combined
from thesis_tf.gradient_norms.recording import ReadingScope, Recorder, is_floating, widened
from thesis_tf.gradient_norms.registry import rule_of

# The rules register themselves.
from thesis_tf.gradient_norms.rules import convolution, normalization, recurrent  # noqa: F401
from thesis_tf.gradient_norms.self_check import check

# Of a layer's output for all examples that are computed at once on a CPU, in bytes. A LeNet takes
# .8 of the time for 256 images so; larger outputs leave the caches, and each is a fresh mapping.
CACHE = 8 << 20
SMALLEST_CHUNK = 8


def per_example_gradient_norms(
    model,
    loss,
    *,
    per_layer=False,
    parameters=None,
    penalty=True,
    training=False,
    check=True,
    jit_compile=None,
):
    """Makes a function (x, y) -> losses, squared norms of each example's gradient.

    One forward pass, and one backward pass to what the layers with weights put out; gradients of
    weights are not formed (Prop 3). Exact for every registered layer, for layers that are called
    several times and for weights that several layers share. Weights of other layers are found by
    mapping those layers over the examples, or an error names the layer.

    Args:
        model: a built Keras model. Every batch must have its examples on the first axis, and
            outputs of one example must not depend on another.
        loss: a `keras.losses.Loss`, the name of one, or a function of (labels, outputs) with one
            value an example.
        per_layer: whether to give the squared norms layer by layer as well.
        parameters: whose gradients count: a layer, a variable, a name, a glob of paths or a list of
            these; None for all that are trainable.
        penalty: whether the weights' regularisers belong to the loss of each example. A training
            step that adds them to the mean of scaled losses, unscaled, wants norms without.
        training: whether layers run as in training, dropout for instance.
        check: whether the first call compares three of its examples with plain gradients of one
            example each; not in training mode, where those would drop out other units.
        jit_compile: of `tf.function`. On CPUs XLA makes convolutions slower.

    Returns:
        A `GradientNorms`.

    Raises:
        TypeError: `model` is no model or `loss` no loss.
        ValueError: the model is not built, or what `parameters` names is not there.
    """
    objective = Objective(model, loss, parameters)
    return GradientNorms(objective, per_layer, penalty, training, check, jit_compile)


class GradientNorms:
    """A function of batches (x, y); made by `per_example_gradient_norms`.

    Attributes:
        objective: the `Objective` whose gradients it measures.
        layers: the names of the layers whose norms `per_layer` gives.
    """

    def __init__(self, objective, per_layer, penalty, training, check, jit_compile):
        self.objective = objective
        self._per_layer, self._penalty, self._training = per_layer, penalty, training
        self._unchecked = check and not training
        self._jit_compile = jit_compile
        self._functions, self._example_bytes = {}, 0
        prefix = f"{objective.model.name}/"
        self._owners = [
            v.path.rpartition("/")[0].removeprefix(prefix) or v.path for v in objective.variables
        ]
        self.layers = tuple(dict.fromkeys(self._owners))

    def __call__(self, x, y):
        """Measures a batch.

        Args:
            x: what the model is called with: an array, a tensor or a structure of them, examples on
                the first axis.
            y: labels, likewise.

        Returns:
            (losses, squared norms), each a `tf.Tensor` (batch,) of the losses' dtype; with
            `per_layer` also {layer's name: squared norms (batch,)}, which add up to the second.

        Raises:
            ValueError: a layer has no per-example gradients, or they are not what plain gradients
                are; the message names the layer. Or x and y don't have the same examples.
            TypeError: labels are strings.
        """
        losses, squares, _ = self._measure(x, y)
        if not self._per_layer:
            return losses, tf.add_n(squares)
        layers = {name: [] for name in self.layers}
        for owner, square in zip(self._owners, squares, strict=True):
            layers[owner].append(square)
        return losses, tf.add_n(squares), {name: tf.add_n(s) for name, s in layers.items()}

    def with_outputs(self, x, y):
        """Returns (losses, squared norms, what the model puts out), of one pass."""
        losses, squares, outputs = self._measure(x, y)
        return losses, tf.add_n(squares), outputs

    def _measure(self, x, y):
        """Calls the compiled function, on a CPU for as many examples at once as suit its caches."""
        x, y = _tensors(x, y)
        if self._unchecked and tf.executing_eagerly() and _length(x):
            # Finite losses are needed; a batch of others is not held against the layers.
            self._unchecked = not check(self, x, y)
        function = self._function("norms", x, y)
        first = keras.tree.flatten(x)[0]
        if not tf.executing_eagerly() or "CPU" not in first.device:
            return function(x, y)
        examples = _length(x)
        function.get_concrete_function()  # tells what an example's activations take
        chunk = max(SMALLEST_CHUNK, CACHE // max(1, self._example_bytes))
        if examples <= chunk:
            return function(x, y)
        parts = []
        for start in range(0, examples, chunk):
            rows = slice(start, start + chunk)
            parts.append(function(*keras.tree.map_structure(lambda t: t[rows], (x, y))))  # noqa: B023
        return tf.nest.map_structure(lambda *several: tf.concat(several, axis=0), *parts)

    def with_gradients(self, x, y, scales):
        """Measures a batch and gives the gradient of its scaled mean loss, in the same pass.

        Args:
            x, y: as above.
            scales: by what each example's loss is multiplied, positive, (batch,).

        Returns:
            (losses, squared norms of the unscaled losses' gradients, gradients): the last a list of
            tensors, of mean(scales * losses) plus the penalty, as `objective.variables` are.
        """
        x, y, scales = _tensors(x, y, scales)
        if scales.shape.rank != 1:
            raise checks.invalid("`scales`", "of shape (batch,)", scales.shape)
        losses, squares, gradients = self._function("gradients", x, y, scales)(x, y, scales)
        return losses, tf.add_n(squares), gradients

    def squares(self, x, y):
        """Returns the squared norms variable by variable, a list of (batch,)."""
        return self._function("norms", x, y)(x, y)[1]

    def _function(self, kind, *batch):
        specs = keras.tree.map_structure(
            lambda t: tf.TensorSpec((None, *t.shape[1:]), t.dtype), batch
        )
        key = (kind, str(specs))
        if key not in self._functions:
            traced = self._norms if kind == "norms" else self._norms_and_gradients
            self._functions[key] = tf.function(
                traced, input_signature=specs, autograph=False, jit_compile=self._jit_compile
            )
        return self._functions[key]

    def _norms(self, x, y):
        values, constants = self.objective.read()
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            recorder, losses, outputs = self._forward(tape, values, constants, x, y)
            total = tf.reduce_sum(losses)
        calls = self._used(recorder)
        self._differentiate(tape, total, calls)
        return *self._measured(recorder, calls, values, constants, losses), outputs

    def _norms_and_gradients(self, x, y, scales):
        values, constants = self.objective.read()
        scales = tf.cast(scales, values[0].dtype)
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(values)
            recorder, losses, _ = self._forward(tape, values, constants, x, y)
            total = tf.reduce_mean(losses * tf.cast(scales, losses.dtype))
            penalty = self.objective.regularization(values, constants) if self._penalty else None
            if penalty is not None:
                total += tf.cast(penalty, total.dtype)
        calls = self._used(recorder)
        gradients = self._differentiate(tape, total, calls, values)
        # Back to the sum of losses: each example's part was scaled and divided by their number.
        factor = tf.cast(tf.shape(scales)[0], scales.dtype) / scales
        for call in calls:
            for key, gradient in call.gradients.items():
                shape = [-1, *[1] * (gradient.shape.rank - 1)]
                call.gradients[key] = gradient * tf.cast(tf.reshape(factor, shape), gradient.dtype)
        losses, squares = self._measured(recorder, calls, values, constants, losses)
        return losses, squares, gradients

    def _forward(self, tape, values, constants, x, y):
        """Runs the model with every call recorded; (the `Recorder`, losses (batch,), outputs)."""
        objective = self.objective
        recorder = Recorder(tape, {id(v) for v in objective.variables})
        scope = ReadingScope(recorder, collect_losses=True)
        with recording.recording(recorder):
            outputs = objective.outputs(values, constants, x, training=self._training, scope=scope)
        if self._training:
            for variable, value in zip(objective.constants, constants, strict=True):
                updated = scope.get_current_value(variable)
                if updated is not value:
                    variable.assign(updated)
        tensors = keras.tree.flatten([call.outputs for call in recorder.calls])
        sizes = [t.shape[1:].num_elements() or 0 for t in filter(is_floating, tensors)]
        self._example_bytes = max(sizes) * values[0].dtype.size
        return recorder, objective.example_losses(y, outputs), outputs

    def _used(self, recorder):
        """The calls that read weights whose gradients are wanted."""
        readers = {id(call) for calls in recorder.reads.values() for call in calls}
        return [call for call in recorder.calls if id(call) in readers]

    def _differentiate(self, tape, total, calls, values=()):
        """Takes the one backward pass; returns the gradients with respect to `values`."""
        sources = {id(t): t for call in calls for t in call.sources()}
        found = tape.gradient(total, [*sources.values(), *values], unconnected_gradients="zero")
        gradients = dict(zip(sources, found, strict=False))
        for call in calls:
            call.gradients = {id(t): gradients[id(t)] for t in call.sources()}
        return [tf.convert_to_tensor(g) for g in found[len(sources) :]]

    def _measured(self, recorder, calls, values, constants, losses):
        """(losses, [squared norms of each variable's gradients]), the penalty included."""
        variables = self.objective.variables
        numbers = {id(v): i for i, v in enumerate(variables)}
        forms = [[] for _ in variables]
        for call in calls:
            needed = {
                key for key, readers in recorder.reads.items() if any(r is call for r in readers)
            }
            rule = rule_of(call.layer) if isinstance(call.layer, keras.layers.Layer) else None
            if rule is not None:
                for variable, form in rule.gradients(call):
                    if id(variable) in needed:
                        forms[numbers[id(variable)]].append(form)
                        needed.remove(id(variable))
            if needed:
                rest = sorted(numbers[key] for key in needed)
                found = mapped(call, [variables[i] for i in rest], [values[i] for i in rest])
                for i, (_, form) in zip(rest, found, strict=True):
                    forms[i].append(form)
        dtype = losses.dtype
        shifts, penalty = self._penalties(values, constants)
        squares = []
        for several, shift in zip(forms, shifts, strict=True):
            square = tf.zeros_like(losses)
            if several:
                form = combined(several)
                square = tf.cast(form.squared_norm(), dtype)
                if shift is not None:
                    # |g + r|^2 without forming g.
                    square += 2 * tf.cast(form.inner(widened(shift)), dtype)
            if shift is not None:
                square += tf.cast(tf.reduce_sum(tf.square(shift)), dtype)
            squares.append(tf.maximum(square, 0))
        if penalty is not None:
            losses += tf.cast(penalty, dtype)
        return losses, squares

    def _penalties(self, values, constants):
        """([the regularisers' gradient with respect to each value, or None], the penalty)."""
        if not self._penalty:
            return [None] * len(values), None
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(values)
            penalty = self.objective.regularization(values, constants)
        if penalty is None:
            return [None] * len(values), None
        return tape.gradient(penalty, values), penalty


def _tensors(x, y, *more):
    """Turns a batch into tensors that have the same examples."""
    batch = tuple(map(_as_tensors, (x, y, *more)))
    if any(t.dtype == tf.string for t in keras.tree.flatten(batch[1])):
        raise checks.invalid(
            "`y`", "numbers", "strings", "Map names of classes to integers first.", TypeError
        )
    shapes = [t.shape for t in keras.tree.flatten(batch)]
    lengths = {shape[0] for shape in shapes if shape.rank} - {None}
    if len(lengths) > 1 or 0 in lengths:
        raise checks.invalid(
            "A batch",
            "of arrays with one and the same first axis, of one example or more",
            ", ".join(map(str, shapes)),
        )
    return batch


def _as_tensors(part):
    leaves = keras.tree.flatten(part)
    if isinstance(part, (list, tuple)) and not any(hasattr(leaf, "shape") for leaf in leaves):
        return tf.convert_to_tensor(part)  # lists of numbers, not of arrays
    return keras.tree.map_structure(tf.convert_to_tensor, part)


def _length(x):
    return len(keras.tree.flatten(x)[0])
