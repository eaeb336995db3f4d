"""Generative stochastic networks as Keras models: training by walkback, and the chain they define.

A network has visible units x, whose shape is an example's, and hidden units, a tuple of tensors
that is empty for a denoising auto-encoder. One step of its Markov chain corrupts x, draws hidden
units H' = f(x~, H, Z) and draws x' ~ P(x | H') (5.3.4).
"""

from collections.abc import Sequence
from typing import Any, Self

import keras
import numpy as np
import tensorflow as tf

from thesis_tf._core import arrays, checks
from thesis_tf._core.types import TensorLike
from thesis_tf._keras.noisy_model import NoisyModel, added_losses, all_true
from thesis_tf.corruption import Corruption, SaltAndPepper
from thesis_tf.gsn.kernel import NetworkKernel, State, known_or_neutral
from thesis_tf.gsn.reconstruction import Bernoulli, Reconstruction
from thesis_tf.gsn.walkback import Hidden, Walkback, walkback_losses

SALT_AND_PEPPER = SaltAndPepper(0.4)  # the corruption in the thesis' experiments with digits (5.4)


class GenerativeStochasticNetwork(NoisyModel):
    """A Keras model that `fit` trains to bring a chain back to the data (thesis, 5.3).

    A subclass implements `zero_hidden` and `update`.

    Data are examples x (n, ...). With `initial_hidden="stored"` they are pairs (x, rows), where
    rows holds the indices of the examples in the training set, in [0, num_remembered).

    Args:
        corruption: the corruption of x at every step, an object of `thesis_tf.corruption`; None for
            no corruption.
        walkback: a `Walkback`, or a number of steps.
        scaling: whether to learn a factor alpha_k for each step k of walkback (5.3.3); alpha_1 is
            fixed to 1, since the scale of the weights already determines it.
        reconstruction: P(x | h), an object of `thesis_tf.gsn.reconstruction`.
        initial_hidden: the hidden units at the first round of a training step: "zeros", "stored"
            (the hidden units from the last time the example was used), or a number of burn-in
            steps with x fixed (5.3.4).
        num_remembered: the number of training examples, for `initial_hidden="stored"`. Stored
            hidden units aren't saved with the model; a loaded one begins with zeros again.
        seed: an integer >= 0 that determines all noise in training.
        **kwargs: `name`, `dtype` and other arguments of `keras.Model`.
    """

    def __init__(
        self,
        *,
        corruption: Corruption | None = SALT_AND_PEPPER,
        walkback: Walkback | int = 4,
        scaling: bool = False,
        reconstruction: Reconstruction | None = None,
        initial_hidden: str | int = "zeros",
        num_remembered: int | None = None,
        seed: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(seed, **kwargs)
        if corruption is not None and not hasattr(corruption, "sample"):
            raise checks.invalid(
                "`corruption`",
                "None or an object with sample(x, seed), such as SaltAndPepper(0.4)",
                repr(corruption),
                kind=TypeError,
            )
        self.corruption, self.scaling = corruption, bool(scaling)
        self.walkback = Walkback.of(walkback)
        self.reconstruction = Bernoulli() if reconstruction is None else reconstruction
        if not isinstance(self.reconstruction, Reconstruction):
            expected, received = "an object such as Bernoulli() or Normal()", repr(reconstruction)
            raise checks.invalid("`reconstruction`", expected, received, kind=TypeError)
        if initial_hidden not in ("zeros", "stored"):
            initial_hidden = checks.positive_integer(
                '`initial_hidden`, if not "zeros" or "stored",', initial_hidden
            )
        if (initial_hidden == "stored") != (num_remembered is not None):
            expected = "the number of training examples with `initial_hidden='stored'`, else None"
            raise checks.invalid("`num_remembered`", expected, repr(num_remembered))
        if num_remembered is not None:
            num_remembered = checks.positive_integer("`num_remembered`", num_remembered)
        self.initial_hidden, self.num_remembered = initial_hidden, num_remembered
        self.log_alpha = None
        self._stored: tuple[keras.Variable, ...] = ()

    def fit(
        self, x: tf.Tensor | None = None, y: Any = None, **kwargs: Any
    ) -> keras.callbacks.History:
        """Like Keras' `fit`, but first checks arrays, or the first batch of a `tf.data.Dataset`.

        Later batches, and those of other data and of `validation_data`, are checked when they come.

        Raises:
            TypeError: examples don't have a floating dtype.
            ValueError: examples are outside the support of the reconstruction distribution, such as
                pixels above 1 for `Bernoulli`, or have another shape than the network's.
        """
        for data in (x, kwargs.get("validation_data")):
            first = data[0] if isinstance(data, tuple | list) else data
            if isinstance(first, tf.data.Dataset):
                first, *_ = keras.utils.unpack_x_y_sample_weight(next(iter(first.take(1))))
            if isinstance(first, np.ndarray | tf.Tensor):
                self.reconstruction.check(first)
                if self.built:
                    self.check_shape(first)
        return super().fit(x, y, **kwargs)

    def check_shape(self, x: tf.Tensor) -> None:
        """Raises ValueError unless x (n, ...) has the shape of the network's examples."""
        if tuple(x.shape[1:]) != self.example_shape:
            raise checks.invalid(
                "Examples",
                f"of shape {self.example_shape}, as those that {self.name} was built for",
                f"shape {tuple(x.shape[1:])}",
            )

    def zero_hidden(self, x: tf.Tensor) -> Hidden:
        """Returns hidden units of zeros for visible units x (n, ...), a tuple."""
        raise NotImplementedError

    def update(
        self,
        x: tf.Tensor,
        hidden: Hidden | None,
        *,
        seed: tf.Tensor | None = None,
        training: bool = False,
    ) -> tuple[Hidden, tf.Tensor]:
        """Draws hidden units and computes the parameters of P(x | h).

        Args:
            x: (n, ...), corrupted.
            hidden: a tuple of tensors, or None for zeros; None allows to skip products with zeros.
            seed: a pair of int32; None for no noise.
            training: as for `keras.layers.Layer.call`.

        Returns:
            (hidden, outputs): hidden units for the next step, and the parameters of P(x | h).
        """
        raise NotImplementedError

    def build(self, input_shape: Sequence[int | None]) -> None:
        """Creates the variables of all networks: scaling factors and stored hidden units."""
        self.example_shape = tuple(input_shape[1:])
        if self.scaling and self.walkback.max_steps > 1:
            self.log_alpha = self.add_weight(
                shape=(self.walkback.max_steps - 1,), initializer="zeros", name="log_alpha"
            )
        if self.initial_hidden == "stored":
            hidden = self.zero_hidden(tf.zeros((1, *self.example_shape)))
            self._stored = tuple(
                self.add_weight(
                    shape=(self.num_remembered, *units.shape[1:]),
                    initializer="zeros",
                    trainable=False,
                    dtype=units.dtype.name,
                    name=f"stored_{number}",
                )
                for number, units in enumerate(hidden)
            )
        self.built = True

    def save_own_variables(self, store: Any) -> None:
        """Writes the variables of this model, without stored hidden units."""
        for number, variable in enumerate(self._kept()):
            store[str(number)] = variable

    def load_own_variables(self, store: Any) -> None:
        """Reads what `save_own_variables` wrote; stored hidden units stay unchanged."""
        kept = self._kept()
        if len(store.keys()) != len(kept):
            raise checks.invalid(
                f"The weights of {self.name}", f"{len(kept)} variables", len(store.keys())
            )
        for number, variable in enumerate(kept):
            variable.assign(store[str(number)])

    def _kept(self) -> list[keras.Variable]:
        stored = {id(variable) for variable in self._stored}
        own = [*self._trainable_variables, *self._non_trainable_variables]
        return [variable for variable in own if id(variable) not in stored]

    @property
    def example_dtype(self) -> tf.DType:
        """The dtype of examples, parameters and losses: float32 or wider."""
        return tf.float64 if self.variable_dtype == "float64" else tf.float32

    @property
    def alphas(self) -> tf.Tensor:
        """The scaling factors alpha_1, alpha_2, ..., a tensor; all 1 if they aren't learned."""
        one = tf.ones([1], self.example_dtype)
        if self.log_alpha is None:
            return tf.repeat(one, self.walkback.max_steps)
        return tf.concat([one, tf.exp(tf.cast(self.log_alpha.value, one.dtype))], axis=0)

    def alpha(self, number: int) -> tf.Tensor | None:
        """Returns alpha_k of step k = `number` + 1 of walkback; None stands for 1."""
        if self.log_alpha is None or number == 0:
            return None
        return self.alphas[number]

    def advance(
        self, x: tf.Tensor, hidden: Hidden | None, seed: tf.Tensor, *, training: bool = False
    ) -> tuple[Hidden, tf.Tensor]:
        """Corrupts x (n, ...) and updates hidden units; returns (hidden, outputs)."""
        fold = tf.random.experimental.stateless_fold_in
        if self.corruption is not None:
            x = self.corruption.sample(x, fold(seed, 2))
        return self.update(x, hidden, seed=fold(seed, 3), training=training)

    def clear_added_losses(self) -> None:
        """Forgets what layers added to the loss in earlier rounds, which other graphs may hold."""
        self._clear_losses()

    def added_losses(self) -> Any:
        """Returns what layers added to the loss in the last round, a scalar; 0.0 if nothing."""
        added = added_losses(self)
        return 0.0 if added is None else tf.cast(added, self.example_dtype)

    @property
    def valid_examples(self) -> str:  # type: ignore[override]
        """What examples must be."""
        if self.initial_hidden != "stored":
            return self.reconstruction.support
        return f"{self.reconstruction.support}, with rows in [0, {self.num_remembered})"

    def are_valid(self, x: tf.Tensor, target: tf.Tensor | None) -> tf.Tensor:
        """Returns which examples are in the support of the reconstruction distribution, (n,)."""
        x = arrays.checked_points("Examples", x)
        conditions = [self.reconstruction.contains(x)]
        if self.initial_hidden != "stored":
            conditions += [] if target is None else [self.reconstruction.contains(target)]
        elif target is not None:  # rows, of which some devices would take others silently
            conditions.append((target >= 0) & (target < self.num_remembered))
        return all_true(conditions, x)

    def call(self, x: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Returns E[x | h] (n, ...) for x (n, ...) without noise, from hidden units of zeros."""
        return self.reconstruction.mean(self.update(x, None)[1])

    def example_losses(
        self,
        x: tf.Tensor,
        target: tf.Tensor | None,
        seed: tf.Tensor,
        step: tf.Tensor,
        training: bool,
    ) -> tf.Tensor:
        """Returns the walkback losses (n,) of a batch, in nats per example."""
        rows = None
        if self.initial_hidden == "stored":
            rows, target = (self._checked_rows(target) if training else None), None
        # Keras' `fit` converts float64 to float32.
        x = tf.cast(arrays.checked_points("Examples", x), self.example_dtype)
        target = x if target is None else tf.cast(target, self.example_dtype)
        if not target.shape.is_compatible_with(x.shape):
            advice = "Don't pass labels: pass only x."
            expected, received = (f"shape {tuple(t.shape)}" for t in (x, target))
            raise checks.invalid("The target", f"of {expected}", received, advice)
        hidden = self._first_hidden(x, rows, seed)
        losses, hidden = walkback_losses(
            self, x, target, seed, hidden, self.walkback, training=training
        )
        if rows is not None:
            for stored, units in zip(self._stored, hidden, strict=True):
                stored.value.scatter_update(tf.IndexedSlices(tf.stop_gradient(units), rows))
        return losses

    def _first_hidden(self, x: tf.Tensor, rows: tf.Tensor | None, seed: tf.Tensor) -> Hidden | None:
        if rows is not None:
            return tuple(tf.gather(stored.value, rows) for stored in self._stored)
        if not isinstance(self.initial_hidden, int):
            return None
        fold = tf.random.experimental.stateless_fold_in
        hidden: Hidden | None = None
        for number in range(self.initial_hidden):
            hidden, _ = self.advance(x, hidden, fold(fold(seed, -2), number))
        return tuple(tf.stop_gradient(units) for units in hidden or ())

    def _checked_rows(self, rows: tf.Tensor | None) -> tf.Tensor:
        if rows is None or not rows.dtype.is_integer:
            raise checks.invalid(
                "Data with `initial_hidden='stored'`",
                "pairs (x, rows) of examples and their places in the training set",
                "only x" if rows is None else f"(x, {rows.dtype.name})",
            )
        if tf.distribute.get_strategy().num_replicas_in_sync > 1:
            raise checks.invalid(
                "`initial_hidden`",
                "'zeros' or a number on several devices",
                "'stored', which requires one device",
            )
        return rows

    def initial_state(self, x: TensorLike) -> State:
        """Returns the `State` of chains that begin at x (chains, ...) with hidden units of zero.

        NaN stands for an unknown value, which begins at 0.5 for `Bernoulli`, else at 0.
        """
        x = known_or_neutral(x, self.reconstruction)
        more = () if self.reconstruction.size == 1 else (self.reconstruction.size,)
        parameters = tf.zeros([tf.shape(x)[0], *x.shape[1:], *more], self.example_dtype)
        return State(x, self.zero_hidden(x), parameters)

    def transition_kernel(self, *, alpha: str = "first") -> NetworkKernel:
        """Returns one step of the chain as a kernel, for `mcmc.sample_chain`.

        Args:
            alpha: the scaling factor with which x is drawn: "first" for alpha_1; "random" for an
                alpha_k that is chosen at random for each chain and step. Means use alpha_1.

        Raises:
            ValueError: the model isn't built.
        """
        if not self.built:
            advice = "Fit it, or call it on x."
            raise checks.invalid(f"{self.name}", "built", "a model without weights", advice)
        return NetworkKernel(self, alpha=alpha)

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments of the constructor."""
        return {
            **super().get_config(),
            "corruption": keras.saving.serialize_keras_object(self.corruption),
            "walkback": keras.saving.serialize_keras_object(self.walkback),
            "scaling": self.scaling,
            "reconstruction": keras.saving.serialize_keras_object(self.reconstruction),
            "initial_hidden": self.initial_hidden,
            "num_remembered": self.num_remembered,
            "seed": self.seed,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """Returns a model from the result of `get_config`."""
        config = dict(config)
        for name in ("corruption", "walkback", "reconstruction"):
            config[name] = keras.saving.deserialize_keras_object(config[name])
        return cls(**config)
