"""Creates a function that computes per-example gradient norms from a model and a loss."""

import functools

import keras
import numpy as np
import tensorflow as tf

from thesis_tf._core import checks
from thesis_tf._core.types import Array, Loss, Structure, TensorLike
from thesis_tf._keras import names
from thesis_tf._keras.loss import fit as loss_fit
from thesis_tf._keras.loss.example_loss import with_weights
from thesis_tf._keras.objective import Objective
from thesis_tf.gradient_norms import self_check
from thesis_tf.gradient_norms.fallback import draws
from thesis_tf.gradient_norms.passes import Pass

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
            None for all trainable parameters; if others become trainable later, calls are refused.
        per_layer: whether to also return the squared norms for each layer with parameters, by the
            names that `probes.taps` prints, without the numbers of later calls. A cell in a loop
            counts to the layer around it; parameters of the model itself have the model's name.
        regularization: whether each example's loss includes the model's regularizers. A training
            step that adds them unscaled to the mean of scaled losses needs norms without them.
        training: whether layers run in training mode, for example with dropout.
        check: whether the first call compares the norms of a few examples, the first and those of
            the largest losses, with ordinary gradients of single examples, see
            `GradientNorms.check`.
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
        self._unchecked = check
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
        if self._unchecked and tf.executing_eagerly():
            self._unchecked = not self.check(x, y)
        return losses, tf.add_n(squares), gradients

    def _measure(self, x: Structure, y: Structure) -> tuple[tf.Tensor, list[tf.Tensor], Structure]:
        """Calls the compiled function; on a CPU, chunk by chunk so that outputs fit its caches."""
        x, y = _tensors(x, y)
        found = self._in_chunks(x, y)
        if self._unchecked and tf.executing_eagerly():
            self._unchecked = not self.check(x, y)
        return found

    def _in_chunks(
        self, x: Structure, y: Structure
    ) -> tuple[tf.Tensor, list[tf.Tensor], Structure]:
        function = self._function("norms", x, y)
        first = keras.tree.flatten(x)[0]
        if not tf.executing_eagerly() or "CPU" not in first.device:
            return function(x, y)
        examples = _length(x)
        if not self._example_bytes:
            function.get_concrete_function()  # tracing sets it
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

    def check(self, x: Structure, y: Structure) -> bool:
        """Compares norms of a few examples of a batch with ordinary gradients of single examples.

        They are the first examples and those with the largest losses, once within their batch and
        once in a batch of their own. A model that draws random numbers in training mode runs in
        inference mode, since dropout would drop other units for each.

        Args:
            x, y: a batch, as for a call.

        Returns:
            Whether there was anything to compare: False if no loss, or no gradient, is finite.

        Raises:
            ValueError: a norm is wrong by more than rounding; the message names the variable.
        """
        x, y = _tensors(x, y)
        if not self._training:
            return self._compare(x, y)
        constants = self.objective.constants
        before = [tf.identity(variable.value) for variable in constants]
        try:
            if self._is_random(x, y):
                return self._in_inference_mode.check(x, y)
            return self._compare(x, y)
        finally:  # training mode may have changed them
            for variable, value in zip(constants, before, strict=True):
                variable.assign(value)

    def _is_random(self, x: Structure, y: Structure) -> bool:
        """Returns whether the model draws random numbers, by Keras' generators or by others."""
        if draws(self.objective.model):
            return True
        one, other = (_rows(self._variable_squares(x, y)) for _ in range(2))
        return not np.allclose(one, other, rtol=1e-3, atol=0, equal_nan=True)

    def _compare(self, x: Structure, y: Structure) -> bool:
        losses, squares, _ = self._in_chunks(x, y)
        examples = self_check.chosen(losses.numpy())
        if not len(examples):
            return False
        few = keras.tree.map_structure(lambda t: tf.gather(t, examples), (x, y))
        loss_fit.warn_of_misfit(self.objective, few[0], stacklevel=6)
        within, apart = _rows(squares)[examples], _rows(self._variable_squares(*few))
        plain = self._plain_squares(*few, divisors=self._divisors_of(x, y))
        known = self_check.compare(within, plain, self.objective, examples=examples)
        divisors = self._divisors_of(*few)
        if divisors is not None:
            plain = self._plain_squares(*few, divisors=divisors)
        return self_check.compare(apart, plain, self.objective, examples=examples) and known

    def _divisors_of(self, x: Structure, y: Structure) -> list[tf.Tensor] | None:
        """Returns a batch's divisors, on which its losses depend; None if they don't."""
        if self.objective.example_loss.divides and self.objective.divisors is None:
            return self.objective.divisors_of([(x, y)])
        return None

    @functools.cached_property
    def _in_inference_mode(self) -> "GradientNorms":
        return GradientNorms(
            self.objective, regularization=self._regularization, jit_compile=self._jit_compile
        )

    @functools.cached_property
    def _plain_squares(self) -> self_check.PlainSquares:
        return self_check.PlainSquares(
            self.objective, regularization=self._regularization, training=self._training
        )

    def _function(self, kind: str, *batch: Structure) -> tf.types.experimental.GenericFunction:
        self.objective.check_trainable()
        specs = keras.tree.map_structure(
            lambda t: tf.TensorSpec((None, *t.shape[1:]), t.dtype), batch
        )
        key = (kind, str(specs))
        if key not in self._functions:
            traced = self._norms if kind == "norms" else self._norms_and_gradients
            self._functions[key] = tf.function(
                traced, input_signature=specs, autograph=False, jit_compile=self._jit_compile
            )
        function = self._functions[key]
        # What depends on the batch is read from a graph, also where functions run eagerly.
        eager = tf.config.functions_run_eagerly()
        return function.get_concrete_function() if eager else function

    def _norms(self, x: Structure, y: Structure) -> tuple[tf.Tensor, list[tf.Tensor], Structure]:
        one = self._pass(x, y)
        found = one.norms()
        self._example_bytes = one.example_bytes
        return found

    def _norms_and_gradients(
        self, x: Structure, y: Structure, scales: tf.Tensor
    ) -> tuple[tf.Tensor, list[tf.Tensor], list[tf.Tensor]]:
        return self._pass(x, y).norms_and_gradients(scales)

    def _pass(self, x: Structure, y: Structure) -> Pass:
        training, regularization = self._training, self._regularization
        return Pass(self.objective, x, y, training=training, regularization=regularization)


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


def _rows(squares: list[tf.Tensor]) -> Array:
    """Returns squared norms as (examples, variables) float64."""
    return np.stack([np.asarray(square, np.float64) for square in squares], axis=1)


def _length(x: Structure) -> int:
    return len(keras.tree.flatten(x)[0])
