"""A model and its loss as a pure function of tensors, which reads and writes no variables."""

import contextlib
import functools
from collections.abc import Iterable, Sequence
from typing import Any

import keras
import tensorflow as tf

from thesis_tf._core import checks
from thesis_tf._core.types import Loss, Structure
from thesis_tf._keras import parameter_vector
from thesis_tf._keras.inputs import build, input_spec
from thesis_tf._keras.loss import description
from thesis_tf._keras.loss.arguments import LossArguments, logits_of
from thesis_tf._keras.loss.example_loss import ExampleLoss
from thesis_tf._keras.tracing import state_changes, traced_functions
from thesis_tf._keras.tracing.float64 import in_float64

_COMPILED_BEFORE = (
    " in a function that TensorFlow has compiled before: a ConcreteFunction, or part of a"
    " SavedModel. It keeps its own weights, so the loss can't be computed as a function of these."
    " Call the Python function or a `tf.function` instead."
)
_LACKING = (
    ", so derivatives with respect to it would lack a part. A penalty on weights must be a"
    " regularizer of each of them alone."
)


class Objective:
    """The loss of a model as a function of some of its parameters.

    All layers run in inference mode: no dropout, batch normalization with its moving averages.
    Regularization is part of the loss, as in `model.fit`.

    Args:
        model: a built Keras model.
        loss: what `compile` takes: a `keras.losses.Loss`, the name of one, a function from (labels,
            outputs) to values (n,) or (n, ...), or a list or dict of one for each output; or a
            function of the labels and outputs of all outputs. None for the loss and the
            `loss_weights` of the compiled model. See `ExampleLoss`.
        parameters: which parameters it is a function of, as for `parameter_vector.select`; the
            others are constants.
        inputs: an example of the model's inputs, or `tf.TensorSpec`s with the batch axis, with
            which a model is built that isn't.

    Attributes:
        model: the model.
        variables: the Keras variables that are its parameters.
        constants: all other variables of the model.
        layout: the `parameter_vector.VectorLayout` of the parameters.
        inputs: the argument.
        example_loss: the `ExampleLoss`.
        divisors: the divisors of a whole data set, from `measure_divisors`; None for those of each
            batch.
        ends_in_probabilities: whether Keras finds logits behind all outputs; known after
            `needs_divisors`.

    Raises:
        TypeError: `loss` isn't a loss.
        ValueError: the model is not built and no `inputs` were given, or `parameters` does not fit
            it, or one of its layers is stateful.
    """

    def __init__(
        self,
        model: keras.Model,
        loss: Loss | None,
        parameters: Any = None,
        *,
        inputs: Structure | None = None,
    ) -> None:
        if not isinstance(model, keras.Model):
            received = type(model).__name__
            raise checks.invalid("`model`", "a keras.Model", received, kind=TypeError)
        state_changes.refuse_stateful(model)
        self.model, self.inputs = model, inputs
        if inputs is not None and not model.built:
            build(model, input_spec(model, inputs))
        self.variables = parameter_vector.select(model, parameters)
        self._follows_trainable = parameters is None
        self.layout = parameter_vector.VectorLayout(self.variables)
        self.example_loss = ExampleLoss(model, loss)
        self.divisors: list[tf.Tensor] | None = None
        self.ends_in_probabilities = False
        self._state_is_checked = False
        chosen = {id(variable) for variable in self.variables}
        everything = [*model.trainable_variables, *model.non_trainable_variables]
        self.constants = [v for v in everything if id(v) not in chosen]

    @property
    def loss_name(self) -> str:
        """A description that distinguishes this loss from others."""
        return description.of(self.example_loss)

    def check_trainable(self) -> None:
        """Raises ValueError if parameters are frozen now, or others are trainable by default."""
        now = {id(variable) for variable in self.model.trainable_variables}
        ours = {id(variable) for variable in self.variables}
        if ours - now or (self._follows_trainable and now - ours):
            raise checks.invalid(
                "`parameters`",
                f"the {len(ours)} variables of {self.model.name} that were trainable when this"
                " function was made",
                f"{len(ours - now)} of them frozen since, and {len(now - ours)} others trainable",
                "Make the function again" + ("." if ours - now else ", or name its `parameters`."),
            )

    def read(self, dtype: "tf.DType | None" = None) -> tuple[list["tf.Tensor"], list["tf.Tensor"]]:
        """Returns the current values of the model's variables: (parameters, constants).

        Args:
            dtype: the dtype to which floating values are converted; None for no conversion.
        """

        def value(variable: "keras.Variable") -> "tf.Tensor":
            tensor = tf.convert_to_tensor(variable.value)
            return tf.cast(tensor, dtype) if dtype and tensor.dtype.is_floating else tensor

        return [value(v) for v in self.variables], [value(v) for v in self.constants]

    def outputs(
        self,
        parameters: Sequence["tf.Tensor"],
        constants: Sequence["tf.Tensor"],
        x: Any,
        *,
        training: bool = False,
        scope: "keras.StatelessScope | None" = None,
    ) -> Any:
        """Returns the model's outputs for a batch x.

        Args:
            training: whether layers run in training mode; constants that this changes, such as the
                states of dropout layers, are changed only in `scope`.
            scope: a new `keras.StatelessScope` that collects losses, in which the model runs.
        """
        model, variables = self.model, [*self.variables, *self.constants]
        # As `stateless_call` does, which would convert float64 values to the variables' dtypes.
        scope = scope or keras.StatelessScope(collect_losses=True)
        reads = traced_functions.check_reads(
            variables, who=model.name, consequence=_COMPILED_BEFORE
        )
        with traced_functions.inlined(), reads, scope:
            for variable, value in zip(variables, [*parameters, *constants], strict=True):
                scope.add_update((variable, value))
            outputs = model(x, training=training)
            added = len(model.losses)
        if not training and not self._state_is_checked:
            changed = [
                (variable, value)
                for variable, value in zip(self.constants, constants, strict=True)
                if scope.get_current_value(variable) is not value
            ]
            if changed and tf.executing_eagerly():
                # Dependence is found in a graph.
                traced = tf.function(self.outputs, autograph=False)
                traced.get_concrete_function(parameters, constants, x)
            else:
                state_changes.check(model, changed, outputs)
            self._state_is_checked = True
        if added > sum(v.regularizer is not None for v in model.trainable_variables):
            raise ValueError(
                f"{model.name} adds losses (`add_loss` or an activity regularizer),"
                " which are not averages over examples. Put them into the function `loss` instead."
            )
        return outputs

    def example_losses(
        self, y: Any, outputs: Any, divisors: "Sequence[tf.Tensor] | None" = None
    ) -> "tf.Tensor":
        """Returns the losses (n,) of a batch's examples, without regularization.

        Args:
            y: the labels, or `WeightedLabels`.
            outputs: what `outputs` returned.
            divisors: as for `ExampleLoss`; None for the attribute `divisors`.

        Raises:
            ValueError: in a graph, the loss reads variables of the model.
        """
        divisors = self.divisors if divisors is None else divisors
        with self._check_reads("The loss"):
            return self.example_loss(y, outputs, divisors)

    def _check_reads(self, who: str) -> contextlib.AbstractContextManager[None]:
        variables = [*self.variables, *self.constants]
        return traced_functions.check_reads(variables, who=who, consequence=_LACKING)

    def loss_arguments(self, y: Any, outputs: Any) -> LossArguments:
        """Returns the tensors through which the losses depend on the parameters."""
        return LossArguments(self.example_losses, y, outputs)

    def measure_divisors(self, batches: Iterable[tuple[Any, Any]]) -> None:
        """Sets `divisors` to those of a data set, of which it needs one pass.

        Call it after the loss was traced if `example_loss.divides`; functions that were traced
        before still have the divisors of each batch. With `reduction="sum"` it makes the losses'
        mean over the data set what `evaluate` computes.
        """
        self.divisors = self.divisors_of(batches)

    def needs_divisors(self, x: Any, y: Any) -> bool:
        """Traces the losses of a batch, and returns whether they depend on its other examples."""
        x, y = tf.nest.map_structure(tf.convert_to_tensor, (x, y))
        self.entries.get_concrete_function(x, y)
        return self.example_loss.divides

    @functools.cached_property
    def entries(self) -> "tf.types.experimental.GenericFunction":
        """A compiled function (x, y) -> a list of each term's entries (n,)."""

        def entries(x: Any, y: Any) -> list[tf.Tensor]:
            outputs = self.outputs(*self.read(), x)
            flat = tf.nest.flatten(outputs)
            self.ends_in_probabilities = all(logits_of(output) is not None for output in flat)
            return self.example_loss.entries(y, outputs)

        return tf.function(entries, autograph=False, reduce_retracing=True)

    def divisors_of(self, batches: Iterable[tuple[Any, Any]]) -> "list[tf.Tensor] | None":
        """Returns the divisors of (x, y) batches without padding; None if there are none."""
        sums, examples = None, 0
        for x, y in batches:
            x, y = tf.nest.map_structure(tf.convert_to_tensor, (x, y))
            found = [tf.reduce_sum(tf.cast(e, tf.float64)) for e in self.entries(x, y)]
            sums = found if sums is None else [a + b for a, b in zip(sums, found, strict=True)]
            examples += len(tf.nest.flatten(x)[0])
        return None if sums is None else self.example_loss.divisors(sums, examples)

    def regularization(
        self, parameters: Sequence["tf.Tensor"], constants: Sequence["tf.Tensor"]
    ) -> "tf.Tensor | None":
        """Returns the sum of the variables' regularizers; None if there are none."""
        with self._check_reads("A regularizer"):
            terms = [
                variable.regularizer(value)
                for variable, value in zip(
                    [*self.variables, *self.constants], [*parameters, *constants], strict=True
                )
                if variable.trainable and variable.regularizer is not None
            ]
        return tf.add_n(terms) if terms else None

    def total(
        self,
        parameters: Sequence["tf.Tensor"],
        constants: Sequence["tf.Tensor"],
        x: Any,
        y: Any,
        weights: "tf.Tensor",
        dtype: "tf.DType | None" = None,
    ) -> "tf.Tensor":
        """Returns the sum of weights (n,) times each example's loss with regularization.

        With weights 1 / n it is what Keras computes for the batch; 1 / n of it with
        `reduction="sum"` and no `divisors`.

        Args:
            dtype: the dtype in which the examples' losses are added; None for that of the losses.
        """
        losses = self.example_losses(y, self.outputs(parameters, constants, x))
        losses = tf.cast(losses, dtype or losses.dtype)
        total = tf.reduce_sum(losses * tf.cast(weights, losses.dtype))
        added = self.regularization(parameters, constants)
        if added is not None:
            once = self.example_loss.sums and self.divisors is None
            count = tf.reduce_mean(weights) if once else tf.reduce_sum(weights)
            total += tf.cast(added, total.dtype) * tf.cast(count, total.dtype)
        return total

    def in_float64(self) -> contextlib.AbstractContextManager[None]:
        """Lets every layer compute in float64 while the block traces or runs it."""
        return in_float64(self.model)
