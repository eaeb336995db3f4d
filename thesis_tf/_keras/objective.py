"""A model and its loss as a pure function of tensors, which reads and writes no variables."""

import contextlib
from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from thesis_tf._core import checks
from thesis_tf._core.types import Loss, Structure
from thesis_tf._keras import parameter_vector, traced_functions
from thesis_tf._keras.float64 import in_float64
from thesis_tf._keras.inputs import build, input_spec


class Objective:
    """The loss of a model as a function of some of its parameters.

    All layers run in inference mode: no dropout, batch normalization with its moving averages.
    Regularization is part of the loss, as in `model.fit`.

    Args:
        model: a built Keras model.
        loss: a `keras.losses.Loss`, the name of one, or a function from (labels, outputs) to one
            value per example, shape (n,) or (n, ...); further axes are averaged over. The
            `reduction` of a Keras loss is ignored: losses are averaged over examples.
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

    Raises:
        TypeError: `loss` isn't a loss.
        ValueError: the model is not built and no `inputs` were given, or `parameters` does not fit
            it.
    """

    def __init__(
        self,
        model: keras.Model,
        loss: Loss,
        parameters: Any = None,
        *,
        inputs: Structure | None = None,
    ) -> None:
        if not isinstance(model, keras.Model):
            received = type(model).__name__
            raise checks.invalid("`model`", "a keras.Model", received, kind=TypeError)
        self.model, self.inputs = model, inputs
        if inputs is not None and not model.built:
            build(model, input_spec(model, inputs))
        self.variables = parameter_vector.select(model, parameters)
        self.layout = parameter_vector.VectorLayout(self.variables)
        self._loss: Any = keras.losses.get(loss) if isinstance(loss, str) else loss
        if not callable(self._loss):
            raise checks.invalid(
                "`loss`",
                "a Keras loss, its name, or a function of (labels, outputs)",
                repr(loss),
                "For a model with several outputs, pass a function that adds up their losses.",
                kind=TypeError,
            )
        chosen = {id(variable) for variable in self.variables}
        everything = [*model.trainable_variables, *model.non_trainable_variables]
        self.constants = [v for v in everything if id(v) not in chosen]

    @property
    def loss_name(self) -> str:
        """A description that distinguishes this loss from others."""
        if isinstance(self._loss, keras.losses.Loss):
            return f"{type(self._loss).__name__} {self._loss.get_config()}"
        return str(getattr(self._loss, "__qualname__", type(self._loss).__name__))

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
        with traced_functions.inlined(), traced_functions.check_reads(model, variables), scope:
            for variable, value in zip(variables, [*parameters, *constants], strict=True):
                scope.add_update((variable, value))
            outputs = model(x, training=training)
            added = len(model.losses)
        for variable, value in zip(self.constants, constants, strict=True):
            if not training and scope.get_current_value(variable) is not value:
                raise ValueError(
                    f"{variable.path} changes when {model.name} is called with training=False: its"
                    " layer was added to the model with training=True. The loss of such a model"
                    " isn't a function of its parameters; build the model without it."
                )
        if added > sum(v.regularizer is not None for v in model.trainable_variables):
            raise ValueError(
                f"{model.name} adds losses (`add_loss` or an activity regularizer),"
                " which are not averages over examples. Put them into the function `loss` instead."
            )
        return outputs

    def example_losses(self, y: Any, outputs: Any) -> "tf.Tensor":
        """Returns the losses (n,) of a batch's examples, without regularization."""
        if any(getattr(o, "_keras_mask", None) is not None for o in keras.tree.flatten(outputs)):
            raise ValueError(
                f"The outputs of {self.model.name} have a mask, with which Keras would weight the"
                " loss. Pass a function of (labels, outputs) that applies the mask."
            )
        if isinstance(self._loss, keras.losses.Loss):
            # Like its `__call__`, but in the outputs' dtype and without the reduction.
            single = isinstance(outputs, tf.Tensor)
            if not single and len(keras.tree.flatten(outputs)) > 1:
                raise checks.invalid(
                    "`loss`",
                    "a function of (labels, outputs), as the model has several outputs",
                    type(self._loss).__name__,
                    "It must add up their losses.",
                )
            values = self._loss.call(tf.cast(y, outputs.dtype) if single else y, outputs)
        else:
            values = self._loss(y, outputs)
        values = tf.convert_to_tensor(values)
        if values.shape.rank == 0:
            raise checks.invalid(
                "`loss`",
                "a function that returns one value per example, shape (n,)",
                "one that returns a scalar",
                "Remove its reduction: losses are averaged later.",
            )
        return tf.reduce_mean(values, axis=list(range(1, values.shape.rank)))

    def regularization(
        self, parameters: Sequence["tf.Tensor"], constants: Sequence["tf.Tensor"]
    ) -> "tf.Tensor | None":
        """Returns the sum of the variables' regularizers; None if there are none."""
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

        Args:
            dtype: the dtype in which the examples' losses are added; None for that of the losses.
        """
        losses = self.example_losses(y, self.outputs(parameters, constants, x))
        losses = tf.cast(losses, dtype or losses.dtype)
        total = tf.reduce_sum(losses * tf.cast(weights, losses.dtype))
        added = self.regularization(parameters, constants)
        if added is not None:
            total += tf.cast(added, total.dtype) * tf.cast(tf.reduce_sum(weights), total.dtype)
        return total

    def in_float64(self) -> contextlib.AbstractContextManager[None]:
        """Lets every layer compute in float64 while the block traces or runs it."""
        return in_float64(self.model)
