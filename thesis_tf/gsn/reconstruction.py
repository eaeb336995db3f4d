"""Reconstruction distributions P(x | h), TFP distributions specified by a network's outputs.

    reconstruction = Bernoulli()
    reconstruction.distribution(logits).log_prob(x)  # (n,)
    reconstruction.sample(logits, seed=(0, 1))

A Keras model can't return a distribution, so it returns distribution parameters, and the
distribution is constructed where it is needed, inside the loss. `outputs` are (n, ...) for x
(n, ...), or (n, ..., size) if there is more than one parameter per value of x. `alpha` is a scaling
factor of walkback (5.3.3), above 0. Where it multiplies logits, a larger factor makes P(x | h)
narrower; where it multiplies standard deviations, a larger factor makes it wider.
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, ClassVar, Self, TypeAlias

import keras
import tensorflow as tf
import tensorflow_probability as tfp

from thesis_tf._core import checks
from thesis_tf._core.types import TensorLike

tfd = tfp.distributions

# A scaling factor: a number or a tensor that broadcasts against outputs; None stands for 1.
Alpha: TypeAlias = Any
Distribution: TypeAlias = Any  # a tfp.distributions.Distribution


class Reconstruction:
    """The base class of reconstruction distributions.

    Attributes:
        reparametrized: whether gradients flow from a sample to the distribution parameters. If not,
            as for discrete distributions, walkback treats a sample as a constant.
    """

    __dataclass_fields__: ClassVar[dict[str, Any]]

    reparametrized = False
    takes_logits = False  # whether outputs are logits, so that no activation may bound them
    unknown_value = 0.0  # where chains begin at values of x that are unknown

    @property
    def size(self) -> int:
        """The number of distribution parameters per value of x."""
        return 1

    def distribution(self, outputs: tf.Tensor, *, alpha: Alpha = None) -> Distribution:
        """Returns P(x | h), a TFP distribution of batch shape (n,) and event shape (...)."""
        values = self._values(outputs, alpha)
        return tfd.Independent(values, reinterpreted_batch_ndims=values.batch_shape.rank - 1)

    def log_prob(self, outputs: tf.Tensor, x: tf.Tensor, *, alpha: Alpha = None) -> tf.Tensor:
        """Returns log P(x | h), (n,), the sum over the values of an example."""
        return self.distribution(outputs, alpha=alpha).log_prob(x)

    def log_probs(self, outputs: tf.Tensor, x: tf.Tensor) -> tf.Tensor:
        """Returns the log-probability of each value, in the same shape as x (n, ...)."""
        return self._values(outputs, None).log_prob(x)

    def sample(self, outputs: tf.Tensor, seed: Any, *, alpha: Alpha = None) -> tf.Tensor:
        """Returns x (n, ...), drawn from P(x | h); the same seed gives the same x."""
        return self.distribution(outputs, alpha=alpha).sample(seed=seed)

    def mean(self, outputs: tf.Tensor, *, alpha: Alpha = None) -> tf.Tensor:
        """Returns E[x | h], (n, ...): the mean field."""
        return self._values(outputs, alpha).mean()

    def pairwise_log_prob(self, outputs: tf.Tensor, x: tf.Tensor) -> tf.Tensor:
        """Returns log P(x_j | h_i), (n, m), for outputs of n states and m examples x."""

        def with_all(one: tf.Tensor) -> tf.Tensor:
            same = tf.broadcast_to(one, tf.concat([tf.shape(x)[:1], tf.shape(one)], axis=0))
            return self.log_prob(same, x)

        # In float64, since the sum over many values is large. One state at a time, since all pairs
        # of all values at once may not fit in memory.
        outputs, x = tf.cast(outputs, tf.float64), tf.cast(x, tf.float64)
        return tf.map_fn(with_all, outputs, fn_output_signature=tf.float64)

    def independent_log_prob(self, train: tf.Tensor, x: tf.Tensor) -> tf.Tensor:
        """Returns log P(x_j), (m,), if all values were independent, as in `train` (n, ...).

        Each value has a distribution of this kind with the mean, and the standard deviation if
        there is one, of the training examples. A network is of use if it is better than that.
        """
        raise NotImplementedError

    @property
    def support(self) -> str:
        """What values of x are possible, a phrase."""
        return "finite"

    def contains(self, x: tf.Tensor) -> tf.Tensor:
        """Returns which values of x are in the support, booleans of the same shape."""
        return tf.math.is_finite(x)

    def check(self, x: TensorLike) -> None:
        """Raises unless x (n, ...) is in the support of this distribution.

        Raises:
            TypeError: x doesn't have a floating dtype.
            ValueError: values are NaN, infinite or outside the support.
        """
        x = tf.convert_to_tensor(x)
        if not x.dtype.is_floating:
            advice = 'Convert them: x.astype("float32"), pixels divided by 255.'
            raise checks.invalid(
                "Data", "of a floating dtype", x.dtype.name, advice, kind=TypeError
            )
        if not tf.reduce_all(tf.math.is_finite(x)):
            raise checks.invalid("Data", "finite", "NaN or infinity")
        if not tf.reduce_all(self.contains(x)):
            low, high = float(tf.reduce_min(x)), float(tf.reduce_max(x))
            raise checks.invalid(
                f"Data of {type(self).__name__} units",
                self.support,
                f"values in [{low:g}, {high:g}]",
                "Scale them, or use Normal() for real values.",
            )

    def check_outputs(self, outputs: tf.Tensor) -> None:
        """Raises ValueError if outputs are recognizably something else than parameters."""

    def get_config(self) -> dict[str, Any]:
        """Returns the settings, a JSON-serializable dict."""
        return {field: getattr(self, field) for field in self.__dataclass_fields__}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """Returns a reconstruction distribution from the result of `get_config`."""
        return cls(**config)

    def _values(self, outputs: tf.Tensor, alpha: Alpha) -> Distribution:
        """Returns the distribution of each value, of batch shape (n, ...)."""
        raise NotImplementedError


@keras.saving.register_keras_serializable(package="thesis_tf")
@dataclasses.dataclass(frozen=True)
class Bernoulli(Reconstruction):
    """Binary x; outputs are logits. For x in [0, 1], such as gray pixels, it is a cross-entropy.

    A scaling factor multiplies the logits, so a smaller factor expresses less certainty about x.
    """

    takes_logits = True
    unknown_value = 0.5

    def check_outputs(self, outputs: tf.Tensor) -> None:
        """Raises ValueError if all outputs are in [0, 1], as means and states of chains are."""
        if tf.reduce_all(self.contains(outputs)) and tf.reduce_any(outputs > 0):
            raise checks.invalid(
                "`outputs` for Bernoulli units",
                "logits",
                "only values in [0, 1], as states and means of chains have",
                "Keep logits: sample_chain(..., output_fn=kernel.distribution_parameters).",
            )

    def _values(self, outputs: tf.Tensor, alpha: Alpha) -> Distribution:
        return tfd.Bernoulli(logits=_scaled(outputs, alpha), dtype=outputs.dtype)

    def log_prob(self, outputs: tf.Tensor, x: tf.Tensor, *, alpha: Alpha = None) -> tf.Tensor:
        """Returns log P(x | h), (n,)."""
        # The same result as TFP's, with one softplus per element instead of two.
        logits = _scaled(outputs, alpha)
        terms = tf.nn.sigmoid_cross_entropy_with_logits(labels=x, logits=logits)
        return -tf.reduce_sum(terms, axis=list(range(1, terms.shape.rank)))

    def pairwise_log_prob(self, outputs: tf.Tensor, x: tf.Tensor) -> tf.Tensor:
        """Returns log P(x_j | h_i), (n, m), by one matrix product."""
        logits, x = _flat(outputs), _flat(x)
        absent = tf.reduce_sum(tf.nn.softplus(logits), axis=1, keepdims=True)
        return tf.matmul(logits, x, transpose_b=True) - absent

    def independent_log_prob(self, train: tf.Tensor, x: tf.Tensor) -> tf.Tensor:
        """Returns log P(x_j), (m,), of independent units with the means of `train` (n, ...).

        Means are away from 0 and 1, as if each value had been seen once more (Laplace).
        """
        train, x = _flat(tf.cast(train, tf.float64)), _flat(tf.cast(x, tf.float64))
        p = (tf.reduce_sum(train, axis=0) + 1) / (len(train) + 2)
        return tf.linalg.matvec(x, tf.math.log(p)) + tf.linalg.matvec(1 - x, tf.math.log(1 - p))

    @property
    def support(self) -> str:
        """What values of x are possible, a phrase."""
        return "in [0, 1]"

    def contains(self, x: tf.Tensor) -> tf.Tensor:
        """Returns which values of x are in [0, 1], booleans of the same shape."""
        return (x >= 0) & (x <= 1)


@keras.saving.register_keras_serializable(package="thesis_tf")
@dataclasses.dataclass(frozen=True)
class Normal(Reconstruction):
    """Real-valued x; outputs are locations, or pairs of a location and a scale for each value.

    A scaling factor multiplies the standard deviation, so a larger factor expresses less certainty
    about x.

    Attributes:
        scale: the positive standard deviation, in the units of x. With None the network predicts
            one for each value; its outputs are then (n, ..., 2): locations and softplus^-1 of
            scales.
        smallest: the smallest standard deviation that the network can predict.
    """

    scale: float | None = None
    _: dataclasses.KW_ONLY
    smallest: float = 1e-3

    reparametrized = True

    def __post_init__(self) -> None:
        """Raises ValueError unless scales are positive."""
        if self.scale is not None:
            checks.positive_number("`scale`", self.scale)
        checks.positive_number("`smallest`", self.smallest)

    @property
    def size(self) -> int:
        """1 with a fixed scale, else 2."""
        return 1 if self.scale else 2

    def _values(self, outputs: tf.Tensor, alpha: Alpha) -> Distribution:
        if self.scale:
            return tfd.Normal(outputs, _scaled(tf.constant(self.scale, outputs.dtype), alpha))
        loc, scale = tf.unstack(outputs, axis=-1)
        return tfd.Normal(loc, _scaled(_positive(scale, self.smallest), alpha))

    def pairwise_log_prob(self, outputs: tf.Tensor, x: tf.Tensor) -> tf.Tensor:
        """Returns log P(x_j | h_i), (n, m), by matrix products in float64.

        For small scales, squares in units of the scale have more digits than float32 keeps.
        """
        values = self._values(tf.cast(outputs, tf.float64), None)
        x = _flat(tf.cast(x, tf.float64))
        origin = x[:1]  # any point near the data keeps squares small
        x -= origin
        loc, scale = (
            _flat(tf.broadcast_to(v, tf.shape(values.loc))) for v in (values.loc, values.scale)
        )
        loc -= origin
        weight = 1 / tf.square(scale)
        squares = tf.matmul(weight, tf.square(x), transpose_b=True)
        squares -= 2 * tf.matmul(weight * loc, x, transpose_b=True)
        squares += tf.reduce_sum(weight * tf.square(loc), axis=1, keepdims=True)
        constant = tf.reduce_sum(tf.math.log(scale) + math.log(2 * math.pi) / 2, 1, keepdims=True)
        return -squares / 2 - constant

    def independent_log_prob(self, train: tf.Tensor, x: tf.Tensor) -> tf.Tensor:
        """Returns log P(x_j), (m,), of independent normals with means and scales of `train`.

        No scale is below the smallest one of this distribution.
        """
        return _independent_normals(train, x, self.scale or self.smallest)


@keras.saving.register_keras_serializable(package="thesis_tf")
@dataclasses.dataclass(frozen=True)
class NormalMixture(Reconstruction):
    """Real-valued x with several modes per value (5.2): a mixture of normals for each.

    Outputs are (n, ..., 3 components): logits, locations and softplus^-1 of scales. Gradients don't
    flow through samples, since the choice of a component is discrete.

    Attributes:
        components: the number of components of each mixture, at least 2.
        smallest: the smallest standard deviation that the network can predict.
    """

    components: int = 2
    _: dataclasses.KW_ONLY
    smallest: float = 1e-3

    def __post_init__(self) -> None:
        """Raises ValueError unless there are at least two components."""
        if checks.positive_integer("`components`", self.components) < 2:
            advice = "For a single component use Normal()."
            raise checks.invalid("`components`", "at least 2", self.components, advice)
        checks.positive_number("`smallest`", self.smallest)

    @property
    def size(self) -> int:
        """3 for each component."""
        return 3 * self.components

    def _values(self, outputs: tf.Tensor, alpha: Alpha) -> Distribution:
        logits, loc, scale = tf.split(outputs, 3, axis=-1)
        if tf.is_tensor(alpha) and alpha.shape.rank:  # one factor per example
            alpha = alpha[..., tf.newaxis]
        scale = _scaled(_positive(scale, self.smallest), alpha)
        return tfd.MixtureSameFamily(tfd.Categorical(logits=logits), tfd.Normal(loc, scale))

    def independent_log_prob(self, train: tf.Tensor, x: tf.Tensor) -> tf.Tensor:
        """Returns log P(x_j), (m,), of independent normals with means and scales of `train`.

        They are mixtures of equal components. No scale is below the smallest one.
        """
        return _independent_normals(train, x, self.smallest)


def check_logits(name: str, reconstruction: Reconstruction, activation: str | None) -> None:
    """Raises ValueError if a network that should return logits ends in a bounded activation."""
    if reconstruction.takes_logits and activation is not None:
        raise checks.invalid(
            name,
            "a model that returns logits",
            f"one that ends in the activation {activation}",
            "Leave out this activation: the sigmoid is part of P(x | h).",
        )


def _scaled(values: tf.Tensor, alpha: Alpha) -> tf.Tensor:
    # `tf.cast` would round a Python number to float32.
    return values if alpha is None else values * tf.convert_to_tensor(alpha, values.dtype)


def _positive(values: tf.Tensor, smallest: float) -> tf.Tensor:
    return tf.nn.softplus(values) + tf.constant(smallest, values.dtype)


def _independent_normals(train: tf.Tensor, x: tf.Tensor, smallest: float) -> tf.Tensor:
    train, x = _flat(tf.cast(train, tf.float64)), _flat(tf.cast(x, tf.float64))
    scale = tf.maximum(tf.math.reduce_std(train, axis=0), tf.constant(smallest, tf.float64))
    return tf.reduce_sum(tfd.Normal(tf.reduce_mean(train, axis=0), scale).log_prob(x), axis=1)


def _flat(x: tf.Tensor) -> tf.Tensor:
    return tf.reshape(x, [tf.shape(x)[0], math.prod(x.shape[1:])])
