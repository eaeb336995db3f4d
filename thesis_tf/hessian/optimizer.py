"""An optimizer that also steps along directions of negative curvature (thesis, section 11.E)."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self

import keras
import numpy as np
import tensorflow as tf

from thesis_tf._core import checks
from thesis_tf._core.seeds import checked_seed
from thesis_tf._core.types import Structure, TensorLike
from thesis_tf._keras.loss.example_loss import with_weights
from thesis_tf._keras.objective import Objective
from thesis_tf.hessian.products import modes
from thesis_tf.hessian.products.fallback import traced_with_fallback

LARGEST_EVERY = 10  # updates of v per update of the largest eigenvalue, which changes less


@keras.saving.register_keras_serializable("thesis_tf")
class NegativeCurvature(keras.optimizers.Optimizer):
    """Wraps an optimizer and adds steps along the direction of most negative curvature.

        optimizer = NegativeCurvature("rmsprop")
        model.compile(optimizer, loss)
        optimizer.attach(model)
        model.fit(x, y)

    It keeps a unit vector v and minimizes v'Hv on minibatches, by gradient descent with momentum.
    The rate is scaled by a running estimate of the largest eigenvalue from a power iteration. If
    the running average of v'Hv is negative, the parameters move by -alpha [g'v] v. Of several
    values of alpha, the one that lowers the minibatch's loss most is used; if none lowers it, there
    is no move. The thesis describes such a method without trying it; see docs/hessian.md.

    `attach` replaces `model.train_step`, since Keras passes only gradients to an optimizer, and
    this one needs the loss and the batch. `compile` doesn't change `train_step`. So call `attach`
    after each `compile` with such an optimizer and after `keras.models.load_model`, and `del
    model.train_step` before using another optimizer. For products, the model runs in inference
    mode; sample and class weights are used.

    Args:
        base_optimizer: a `keras.optimizers.Optimizer` or its name, for the usual steps.
        update_every: steps between updates of v; an update costs about as much as two gradients.
        rate: the rate of the descent, in units of 1 / largest eigenvalue; up to 2 it is stable, and
            a lower rate averages over more minibatches.
        momentum: the momentum of the descent.
        average: the factor by which an update multiplies the running averages of eigenvalues.
        step_sizes: candidates for alpha, in units of 1 / |v'Hv|; () only tracks the curvature.
        mode: how products are computed, as for `HessianOperator`.
        seed: the seed of the initial v.
        name: the name of the optimizer.

    Attributes:
        direction: v, a variable (d,).
        curvature: the running average of v'Hv, a variable; in the logs of `fit`.
        largest: the running estimate of the largest eigenvalue, a variable.
        taken: the number of steps along v, a variable.

    Raises:
        ValueError: a setting is invalid; or, in `attach`, the model is not compiled with this
            optimizer, or is on several devices.
    """

    def __init__(
        self,
        base_optimizer: Any = "rmsprop",
        *,
        update_every: int = 1,
        rate: float = 0.1,
        momentum: float = 0.9,
        average: float = 0.9,
        step_sizes: Sequence[float] = (1.0, 10.0, 100.0, 1000.0),
        mode: str = "forward_over_reverse",
        seed: int = 0,
        name: str = "negative_curvature",
    ) -> None:
        super().__init__(learning_rate=0.0, name=name)
        self.base_optimizer = keras.optimizers.get(base_optimizer)
        self.update_every = checks.positive_integer("`update_every`", update_every)
        if not 0 < rate <= 2:
            raise checks.invalid("`rate`", "above 0 and at most 2", rate)
        for setting, value in (("`momentum`", momentum), ("`average`", average)):
            if not 0 <= value < 1:
                raise checks.invalid(setting, "at least 0 and below 1", value)
        self.rate, self.momentum, self.average = rate, momentum, average
        self.step_sizes = tuple(float(size) for size in step_sizes)
        if not all(0 < size < np.inf for size in self.step_sizes):
            raise checks.invalid("`step_sizes`", "positive and finite", step_sizes)
        if isinstance(self.base_optimizer, NegativeCurvature):
            raise checks.invalid("`base_optimizer`", "another optimizer", "a NegativeCurvature")
        self.mode = checks.one_of("`mode`", mode, modes.HESSIAN.modes)
        self.seed = checked_seed(seed)
        self._objective: Objective | None = None

    def attach(self, model: keras.Model, *, inputs: Structure | None = None) -> keras.Model:
        """Lets `model.fit` update v and step along it; returns the model.

        Args:
            model: a model that is compiled with this optimizer.
            inputs: an example of the inputs, or `tf.TensorSpec`s with the batch axis; only needed
                for a model that is not built yet.
        """
        if getattr(model, "optimizer", None) is not self:
            raise checks.invalid(
                "`model`", "compiled with this optimizer", model.name, "Call compile first."
            )
        if model.distribute_strategy.num_replicas_in_sync > 1:
            devices = model.distribute_strategy.num_replicas_in_sync
            raise checks.invalid("`model`", "on one device", f"{model.name} on {devices}")
        self._objective = Objective(model, None, inputs=inputs)
        if not self.built:
            self.build(model.trainable_variables)
        plain = model.train_step
        # Products need a graph, even if `fit` runs eagerly.
        follow = tf.function(self._follow, autograph=False)

        def train_step(data: Any) -> dict[str, Any]:
            logs = plain(data)
            x, y, weights = keras.utils.unpack_x_y_sample_weight(data)
            due = tf.equal((self.iterations.value - 1) % self.update_every, 0)
            tf.cond(due, lambda: follow(x, y, weights), lambda: tf.constant(False))
            followed = {"curvature": self.curvature, "largest": self.largest}
            return logs | {name: tf.identity(v.value) for name, v in followed.items()}

        model.train_step = train_step
        model.train_function = None
        return model

    def build(self, variables: Sequence["keras.Variable"]) -> None:
        """Creates the variables, including those of the base optimizer."""
        if self.built:
            return
        self.base_optimizer.build(variables)
        super().build(variables)
        size = sum(int(tf.size(v)) for v in variables)

        def add(name: str, shape: tuple[int, ...] = (), initial: Any = "zeros") -> "keras.Variable":
            return self.add_variable(shape, initial, name=name, dtype=variables[0].dtype)

        def random(seed: int) -> "keras.Initializer":
            return keras.initializers.RandomNormal(0.0, size**-0.5, seed=seed)

        self.direction = add("direction", (size,), random(2 * self.seed))
        self.velocity = add("velocity", (size,))
        self.top = add("top", (size,), random(2 * self.seed + 1))
        self.curvature, self.largest, self.taken = add("curvature"), add("largest"), add("taken")

    @property
    def variables(self) -> list["keras.Variable"]:
        """All variables, including those of the base optimizer."""
        return [*self._variables, *self.base_optimizer.variables]

    @property
    def learning_rate(self) -> Any:
        """The base optimizer's learning rate."""
        return self.base_optimizer.learning_rate

    @learning_rate.setter
    def learning_rate(self, value: Any) -> None:
        if hasattr(self, "base_optimizer"):
            self.base_optimizer.learning_rate = value

    def warm_start(self, direction: TensorLike) -> None:
        """Sets v (d,), for example to an eigenvector; its norm doesn't matter.

        Raises:
            RuntimeError: `attach` was not called before.
            ValueError: it has another length, is zero, or is not finite.
        """
        if self._objective is None:
            raise RuntimeError("Call optimizer.attach(model) before warm_start.")
        direction = tf.cast(tf.reshape(direction, [-1]), self.direction.dtype)
        if direction.shape != self.direction.shape:
            expected = f"of shape {tuple(self.direction.shape)}"
            raise checks.invalid("`direction`", expected, tuple(direction.shape))
        norm = float(tf.norm(direction))
        if not 0 < norm < np.inf:
            raise checks.invalid("`direction`", "finite and not zero", f"one of norm {norm}")
        self.direction.assign(direction / norm)
        self.velocity.assign(tf.zeros_like(direction))

    def apply(
        self,
        grads: Sequence["tf.Tensor"],
        trainable_variables: Sequence["keras.Variable"] | None = None,
    ) -> None:
        """Takes the base optimizer's step."""
        if self._objective is None:
            raise RuntimeError(
                f"{type(self).__name__} needs the model's loss: call optimizer.attach(model) after"
                " model.compile."
            )
        self.base_optimizer.apply(grads, trainable_variables)
        self._iterations.assign_add(1)

    def _follow(self, x: Any, y: Any, sample_weights: "tf.Tensor | None") -> "tf.Tensor":
        """Updates v on a minibatch and steps along it; returns whether a step was taken."""
        objective = self._objective
        assert objective is not None  # set by `attach`
        parameters, constants = objective.read()
        examples = tf.shape(tf.nest.flatten(x)[0])[0]
        weights = tf.fill([examples], 1.0 / tf.cast(examples, tf.float32))
        batch = (*with_weights((x, y, sample_weights)), weights)
        specs = tf.nest.map_structure(
            lambda t: tf.TensorSpec(t.shape, t.dtype),
            (self.direction.value, parameters, constants, batch),
        )
        _, keep, product = traced_with_fallback(
            modes.HESSIAN, self.mode, objective, specs, stacklevel=2
        )
        kept = keep(parameters, constants, *batch)

        def times(w: "tf.Tensor") -> "tf.Tensor":
            return product(w, parameters, constants, kept)

        update = (self.iterations.value - 1) // self.update_every
        # A power iteration from a random vector starts far below the largest eigenvalue.
        early = update < LARGEST_EVERY
        tf.cond(
            early | tf.equal(update % LARGEST_EVERY, 0),
            lambda: self._power_iteration(times, early),
            lambda: tf.constant(False),
        )
        v = tf.math.l2_normalize(self.direction.value)
        hv = times(v)
        curvature = tf.tensordot(v, hv, 1)
        self._average(self.curvature, curvature, tf.equal(update, 0))
        largest = tf.maximum(self.largest.value, tf.norm(hv))
        descent = (hv - curvature * v) * self.rate / tf.maximum(largest, 1e-12)
        velocity = self.momentum * self.velocity.value - descent
        moved = v + velocity
        self.velocity.assign(velocity - v * tf.tensordot(v, velocity, 1))
        self.direction.assign(moved / tf.norm(moved))
        if not self.step_sizes:
            return tf.constant(False)
        return tf.cond(
            self.curvature.value < 0,
            lambda: self._step(objective, parameters, constants, batch),
            lambda: tf.constant(False),
        )

    def _power_iteration(
        self, times: Callable[["tf.Tensor"], "tf.Tensor"], early: "tf.Tensor"
    ) -> "tf.Tensor":
        """Updates the largest eigenvalue and its direction; returns True."""
        u = tf.math.l2_normalize(self.top.value)
        hu = times(u)
        self._average(self.largest, tf.norm(hu), early)
        # Shifted, so that the iteration finds the upper end for any lower end.
        self.top.assign(tf.math.l2_normalize(hu + self.largest.value * u))
        return tf.constant(True)

    def _average(self, variable: "keras.Variable", value: "tf.Tensor", first: "tf.Tensor") -> None:
        kept = self.average * variable.value + (1 - self.average) * value
        variable.assign(tf.where(first, value, kept))

    def _step(
        self,
        objective: Objective,
        parameters: modes.Tensors,
        constants: modes.Tensors,
        batch: modes.Batch,
    ) -> "tf.Tensor":
        """Takes the step along v with the smallest minibatch loss; 0 is a candidate."""
        layout = objective.layout
        v = tf.identity(self.direction.value)
        # Copies: a variable's own tensor would be read again where it is watched.
        parameters = [tf.identity(p) for p in parameters]
        with tf.GradientTape() as tape:
            tape.watch(parameters)
            initial = objective.total(parameters, constants, *batch)
        gradient = [
            tf.zeros_like(p) if g is None else tf.convert_to_tensor(g)
            for g, p in zip(tape.gradient(initial, parameters), parameters, strict=True)
        ]
        slope = tf.tensordot(layout.pack(gradient), v, 1)
        scale = slope / tf.maximum(-self.curvature.value, 1e-12)
        theta, losses = layout.pack(parameters), [initial]
        for size in self.step_sizes:
            moved = layout.unpack(theta - size * scale * v)
            losses.append(objective.total(moved, constants, *batch))
        losses = tf.stack(losses)
        losses = tf.where(tf.math.is_finite(losses), losses, losses.dtype.max)
        best = tf.argmin(losses)
        size = tf.gather(tf.constant([0.0, *self.step_sizes], scale.dtype), best)
        for variable, change in zip(
            objective.variables, layout.unpack(size * scale * v), strict=True
        ):
            variable.assign_sub(change)
        took = best > 0
        self.taken.assign_add(tf.cast(took, self.taken.dtype))
        return took

    def get_config(self) -> dict[str, Any]:
        """Returns all settings, without the model to which it is attached."""
        return {
            "base_optimizer": keras.optimizers.serialize(self.base_optimizer),
            "every": self.update_every,  # the key of saved models
            "rate": self.rate,
            "momentum": self.momentum,
            "average": self.average,
            "step_sizes": self.step_sizes,
            "mode": self.mode,
            "seed": self.seed,
            "name": self.name,
        }

    @classmethod
    def from_config(
        cls, config: Mapping[str, Any], custom_objects: Mapping[str, Any] | None = None
    ) -> Self:
        """Returns an optimizer from the result of `get_config`."""
        settings = dict(config)
        base = keras.optimizers.deserialize(settings.pop("base_optimizer"), custom_objects)
        return cls(base, update_every=settings.pop("every"), **settings)
