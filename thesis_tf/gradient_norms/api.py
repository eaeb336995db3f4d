"""Creates a function that computes per-example gradient norms from a model and a loss."""

import functools
from collections.abc import Sequence

import keras
import numpy as np
import tensorflow as tf

from thesis_tf._core import checks
from thesis_tf._core.types import Loss, Structure, TensorLike
from thesis_tf._keras import loss_fit, names, recording
from thesis_tf._keras.example_loss import with_weights
from thesis_tf._keras.objective import Objective
from thesis_tf.gradient_norms import self_check
from thesis_tf.gradient_norms.fallback import mapped
from thesis_tf.gradient_norms.forms import Form, combined
from thesis_tf.gradient_norms.recording import (
    GradientRecorder,
    LayerCall,
    ReadingScope,
    is_floating,
    widened,
)
from thesis_tf.gradient_norms.registry import rule_of

# The rules register themselves.
from thesis_tf.gradient_norms.rules import convolution, normalization, recurrent  # noqa: F401

# On a CPU, the most bytes of the largest layer output of one chunk of a batch. Larger outputs don't
# fit in the caches, and each needs a new memory mapping: a LeNet takes 0.8 of the time for 256
# images if they are divided into chunks.
CACHE = 8 << 20
SMALLEST_CHUNK = 8


def per_example_gradient_norms(
    model: keras.Model,
    loss: Loss | None,
    *,
    parameters: object = None,
    per_layer: bool = False,
    regularization: bool = True,
    training: bool = False,
    check: bool = True,
    jit_compile: bool | None = None,
    inputs: Structure | None = None,
) -> "GradientNorms":
    """Returns a function (x, y) -> losses and squared gradient norms, one of each per example.

    It needs one forward pass, and one backward pass to the outputs of the layers with parameters;
    gradients with respect to parameters are not computed (Prop 3). The norms are exact for every
    registered layer, for layers that are called several times and for parameters that several
    layers share. A layer without a rule is mapped over the examples; if this is impossible, an
    error names the layer.

    Args:
        model: a Keras model. Every batch must have its examples on the first axis, and the
            outputs for one example must not depend on another.
        loss: what `compile` takes, or a function of all labels and outputs -> (batch,); None for
            the loss and `loss_weights` of the compiled model.
        parameters: the parameters whose gradients are used: a layer, a layer's name as printed by
            `probes.taps`, a variable, a variable's path or a glob of paths, or a list of these;
            None for all trainable parameters.
        per_layer: whether to also return the squared norms for each layer with parameters, by the
            names that `probes.taps` prints, without the numbers of later calls. A cell in a loop
            counts to the layer around it; parameters of the model itself have the model's name.
        regularization: whether each example's loss includes the model's regularizers. A training
            step that adds them unscaled to the mean of scaled losses needs norms without them.
        training: whether layers run in training mode, for example with dropout.
        check: whether the first call compares the norms of three examples with ordinary gradients
            of single examples. This is never done in training mode, where dropout masks would
            differ.
        jit_compile: as for `tf.function`. On CPUs, XLA makes convolutions slower.
        inputs: an example of the inputs, or `tf.TensorSpec`s with the batch axis; only needed for
            a model that is not built yet.

    Returns:
        A `GradientNorms`.

    Raises:
        TypeError: `model` isn't a Keras model, or `loss` isn't a loss.
        ValueError: the model is not built and has no `inputs`, or a name doesn't match.
    """
    return GradientNorms(
        Objective(model, loss, parameters, inputs=inputs),
        per_layer=per_layer,
        regularization=regularization,
        training=training,
        check=check,
        jit_compile=jit_compile,
    )


class GradientNorms:
    """A function of batches (x, y); made by `per_example_gradient_norms`.

    Args:
        objective: the `Objective` whose per-example gradients are measured.
        per_layer, regularization, training, check, jit_compile: see `per_example_gradient_norms`.

    Attributes:
        objective: the `Objective`.
    """

    def __init__(
        self,
        objective: Objective,
        *,
        per_layer: bool = False,
        regularization: bool = True,
        training: bool = False,
        check: bool = True,
        jit_compile: bool | None = None,
    ) -> None:
        self.objective = objective
        self._per_layer, self._regularization = per_layer, regularization
        self._training, self._jit_compile = training, jit_compile
        self._unchecked = check and not training
        self._functions: dict[tuple[str, str], tf.types.experimental.GenericFunction] = {}
        self._example_bytes = 0
        self._owners: list[str] = []  # the names of the variables' layers, once they are known

    @property
    def layers(self) -> tuple[str, ...]:
        """The names of the layers whose norms `per_layer` returns."""
        return tuple(dict.fromkeys(self._layers_of_variables(self.objective.inputs)))

    def _layers_of_variables(self, inputs: Structure | None) -> list[str]:
        objective = self.objective
        if not self._owners:
            self._owners = names.of_variables(objective.model, objective.variables, inputs)
        return self._owners

    def __call__(
        self, x: Structure, y: Structure, *, sample_weight: Structure | None = None
    ) -> tuple[tf.Tensor, tf.Tensor] | tuple[tf.Tensor, tf.Tensor, dict[str, tf.Tensor]]:
        """Measures a batch.

        Args:
            x: inputs of the model: an array, a tensor or a structure of them, with examples on the
                first axis.
            y: labels, likewise.
            sample_weight: weights of the examples, as for `fit`: (batch,), or of the shape of the
                losses; losses and norms are those of the weighted losses.

        Returns:
            (losses, squared norms): tensors (batch,) of the losses' dtype. The mean of the losses
            is what `evaluate` computes for the batch; their sum, with `reduction="sum"`. With
            `per_layer` also {layer name: squared norms (batch,)}, whose sum is the second.

        Raises:
            ValueError: a layer has no per-example gradients, or the self-check found wrong norms
                (the message names the layer); or x and y have different numbers of examples.
            TypeError: labels are strings.
        """
        x, y = _tensors(*with_weights((x, y, sample_weight)))
        losses, squares, _ = self._measure(x, y)
        if not self._per_layer:
            return losses, tf.add_n(squares)
        layers: dict[str, list[tf.Tensor]] = {}
        for name, square in zip(self._layers_of_variables(x), squares, strict=True):
            layers.setdefault(name, []).append(square)
        return losses, tf.add_n(squares), {name: tf.add_n(s) for name, s in layers.items()}

    def with_outputs(self, x: Structure, y: Structure) -> tuple[tf.Tensor, tf.Tensor, Structure]:
        """Returns (losses, squared norms, the model's outputs) of a batch, from one pass."""
        losses, squares, outputs = self._measure(x, y)
        return losses, tf.add_n(squares), outputs

    def with_gradients(
        self, x: Structure, y: Structure, scales: TensorLike
    ) -> tuple[tf.Tensor, tf.Tensor, list[tf.Tensor]]:
        """Measures a batch, and computes the gradient of its scaled mean loss in the same pass.

        Args:
            x, y: a batch, as for a call.
            scales: (batch,) positive factors of the examples' losses.

        Returns:
            (losses, squared norms, gradients). The norms are those of the unscaled losses. The
            gradients are a list of tensors, one for each of `objective.variables`, of
            mean(scales * losses) plus the regularization; of the sum, with `reduction="sum"`.
        """
        x, y, scales = _tensors(x, y, scales)
        if scales.shape.rank != 1:
            raise checks.invalid("`scales`", "of shape (batch,)", scales.shape)
        losses, squares, gradients = self._function("gradients", x, y, scales)(x, y, scales)
        return losses, tf.add_n(squares), gradients

    def _measure(self, x: Structure, y: Structure) -> tuple[tf.Tensor, list[tf.Tensor], Structure]:
        """Calls the compiled function; on a CPU, chunk by chunk so that outputs fit its caches."""
        x, y = _tensors(x, y)
        if self._unchecked and tf.executing_eagerly() and _length(x):
            # Only finite losses can be compared, so the check waits for a batch with finite losses.
            self._unchecked = not self._check(x, y)
        function = self._function("norms", x, y)
        first = keras.tree.flatten(x)[0]
        if not tf.executing_eagerly() or "CPU" not in first.device:
            return function(x, y)
        examples = _length(x)
        function.get_concrete_function()  # tracing sets `_example_bytes`
        chunk = max(SMALLEST_CHUNK, CACHE // max(1, self._example_bytes))
        loss = self.objective.example_loss
        # The divisors of masked losses are those of the whole batch.
        whole = loss.divides and self.objective.divisors is None
        if examples <= chunk or whole:
            return function(x, y)
        parts = []
        for start in range(0, examples, chunk):
            rows = slice(start, start + chunk)
            parts.append(function(*keras.tree.map_structure(lambda t: t[rows], (x, y))))  # noqa: B023
        return tf.nest.map_structure(lambda *several: tf.concat(several, axis=0), *parts)

    def _variable_squares(self, x: Structure, y: Structure) -> list[tf.Tensor]:
        """Returns the squared norms for each variable, a list of (batch,)."""
        return self._function("norms", x, y)(x, y)[1]

    @functools.cached_property
    def _plain_squares(self) -> tf.types.experimental.GenericFunction:
        return self_check.plain_squares(self.objective, regularization=self._regularization)

    def _check(self, x: Structure, y: Structure) -> bool:
        """Runs the self-check on the first examples; returns whether they could be compared."""
        few = keras.tree.map_structure(lambda t: t[: self_check.EXAMPLES], (x, y))
        loss_fit.warn_of_misfit(self.objective, few[0], stacklevel=5)
        found = np.stack([np.asarray(s, np.float64) for s in self._variable_squares(*few)], axis=1)
        loss, divisors = self.objective.example_loss, None
        if loss.divides and self.objective.divisors is None:
            divisors = self.objective.divisors_of([few])
        expected = []
        for i in range(len(found)):
            single = keras.tree.map_structure(lambda t: t[i : i + 1], (x, y))  # noqa: B023
            expected.append(np.asarray(self._plain_squares(*single, divisors), np.float64))
        return self_check.compare(found, np.stack(expected), self.objective)

    def _function(self, kind: str, *batch: Structure) -> tf.types.experimental.GenericFunction:
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

    def _norms(self, x: Structure, y: Structure) -> tuple[tf.Tensor, list[tf.Tensor], Structure]:
        values, constants = self.objective.read()
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            recorder, losses, outputs = self._forward(tape, values, constants, x, y)
            total = tf.reduce_sum(losses)
        calls = self._used(recorder)
        self._differentiate(tape, total, calls)
        return *self._measured(recorder, calls, values, constants, losses), outputs

    def _norms_and_gradients(
        self, x: Structure, y: Structure, scales: tf.Tensor
    ) -> tuple[tf.Tensor, list[tf.Tensor], list[tf.Tensor]]:
        values, constants = self.objective.read()
        scales = tf.cast(scales, values[0].dtype)
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(values)
            recorder, losses, _ = self._forward(tape, values, constants, x, y)
            sums = self.objective.example_loss.sums
            total = tf.reduce_sum(losses * tf.cast(scales, losses.dtype))
            if not sums:
                total /= tf.cast(tf.shape(scales)[0], total.dtype)
            added = None
            if self._regularization:
                added = self.objective.regularization(values, constants)
            if added is not None:
                total += tf.cast(added, total.dtype)
        calls = self._used(recorder)
        gradients = self._differentiate(tape, total, calls, values)
        # Undoes the scaling of each example's term and the division by the batch size.
        factor = (1.0 if sums else tf.cast(tf.shape(scales)[0], scales.dtype)) / scales
        for call in calls:
            for key, gradient in call.gradients.items():
                shape = [-1, *[1] * (gradient.shape.rank - 1)]
                call.gradients[key] = gradient * tf.cast(tf.reshape(factor, shape), gradient.dtype)
        losses, squares = self._measured(recorder, calls, values, constants, losses)
        return losses, squares, gradients

    def _forward(
        self,
        tape: tf.GradientTape,
        values: list[tf.Tensor],
        constants: list[tf.Tensor],
        x: Structure,
        y: Structure,
    ) -> tuple[GradientRecorder, tf.Tensor, Structure]:
        """Runs the model and records every call; returns (recorder, losses (batch,), outputs)."""
        objective = self.objective
        recorder = GradientRecorder(tape, {id(v) for v in objective.variables})
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

    def _used(self, recorder: GradientRecorder) -> list[LayerCall]:
        """Returns the calls that read variables whose gradients are requested."""
        readers = {id(call) for calls in recorder.reads.values() for call in calls}
        return [call for call in recorder.calls if id(call) in readers]

    def _differentiate(
        self,
        tape: tf.GradientTape,
        total: tf.Tensor,
        calls: list[LayerCall],
        values: Sequence[tf.Tensor] = (),
    ) -> list[tf.Tensor]:
        """Runs the backward pass; returns the gradients with respect to `values`."""
        sources = {id(t): t for call in calls for t in call.sources()}
        found = tape.gradient(total, [*sources.values(), *values], unconnected_gradients="zero")
        gradients = dict(zip(sources, found, strict=False))
        for call in calls:
            call.gradients = {id(t): gradients[id(t)] for t in call.sources()}
        return [tf.convert_to_tensor(g) for g in found[len(sources) :]]

    def _measured(
        self,
        recorder: GradientRecorder,
        calls: list[LayerCall],
        values: list[tf.Tensor],
        constants: list[tf.Tensor],
        losses: tf.Tensor,
    ) -> tuple[tf.Tensor, list[tf.Tensor]]:
        """Returns (losses, squared norms for each variable), regularization included."""
        variables = self.objective.variables
        numbers = {id(v): i for i, v in enumerate(variables)}
        forms: list[list[Form]] = [[] for _ in variables]
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
        shifts, added = self._regularization_of(values, constants)
        squares = []
        for several, shift in zip(forms, shifts, strict=True):
            square = tf.zeros_like(losses)
            if several:
                form = combined(several)
                square = tf.cast(form.squared_norm(), dtype)
                if shift is not None:
                    # |g + r|^2 without computing g.
                    square += 2 * tf.cast(form.inner(widened(shift)), dtype)
            if shift is not None:
                square += tf.cast(tf.reduce_sum(tf.square(shift)), dtype)
            squares.append(tf.maximum(square, 0))
        if added is not None:
            losses += tf.cast(added, dtype)
        return losses, squares

    def _regularization_of(
        self, values: list[tf.Tensor], constants: list[tf.Tensor]
    ) -> tuple[list[tf.Tensor | None], tf.Tensor | None]:
        """Returns (gradient with respect to each value, value); a missing gradient is None."""
        if not self._regularization:
            return [None] * len(values), None
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(values)
            added = self.objective.regularization(values, constants)
        if added is None:
            return [None] * len(values), None
        return tape.gradient(added, values), added


def _tensors(x: Structure, y: Structure, *more: Structure) -> tuple[tf.Tensor, ...]:
    """Returns a batch as tensors; raises unless all have the same number of examples."""
    batch = tuple(map(_as_tensors, (x, y, *more)))
    if any(t.dtype == tf.string for t in keras.tree.flatten(batch[1])):
        raise checks.invalid(
            "`y`", "numbers", "strings", "Map names of classes to integers first.", kind=TypeError
        )
    shapes = [t.shape for t in keras.tree.flatten(batch)]
    lengths = {shape[0] for shape in shapes if shape.rank} - {None}
    if len(lengths) > 1 or 0 in lengths:
        raise checks.invalid(
            "A batch",
            "of arrays with equal first axes, of at least one example",
            ", ".join(map(str, shapes)),
        )
    return batch


def _as_tensors(part: Structure) -> Structure:
    leaves = keras.tree.flatten(part)
    if isinstance(part, (list, tuple)) and not any(hasattr(leaf, "shape") for leaf in leaves):
        return tf.convert_to_tensor(part)  # lists of numbers, not of arrays
    return keras.tree.map_structure(tf.convert_to_tensor, part)


def _length(x: Structure) -> int:
    return len(keras.tree.flatten(x)[0])
