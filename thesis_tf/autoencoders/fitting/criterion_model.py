"""Trains any Keras model with a criterion of this area by `fit`."""

from typing import Any

import keras
import tensorflow as tf

from thesis_tf._core import arrays, checks
from thesis_tf._keras.loss.last_activation import bounded_activation
from thesis_tf._keras.noisy_model import NoisyModel, added_losses, all_true
from thesis_tf.autoencoders.criteria import Criterion, check_activation


class CriterionModel(NoisyModel):
    """A Keras model that `fit` trains with a criterion; save the model that it wraps.

        training_model = CriterionModel(model, DenoisingLoss(0.1))
        training_model.compile("adam")
        training_model.fit(x, epochs=10, batch_size=128)
        model.save("model.keras")

    Data are inputs x, or pairs (inputs, targets). The target of an auto-encoder is its input, or
    the clean example if the criterion has no corruption. Noise depends only on the seed and the
    training step, so training that is resumed from a checkpoint of all variables has the same noise
    as without an interruption. Validation uses the same noise at every epoch, that of the end of
    training.
    Regularizers, activity regularizers and `add_loss` of the model count as in Keras' `fit`; if the
    criterion calls the model several times, as walkback does, those of its calls are averaged.
    The model may be built and fitted under any `tf.distribute` strategy; replicas draw different
    noise.

    Args:
        model: r, a Keras model from (n, ...) to (n, ...).
        criterion: `DenoisingLoss`, `ContractiveLoss` or `ReconstructionContractiveLoss`.
        seed: an integer >= 0.
        **kwargs: `name`, `dtype` and other arguments of `keras.Model`.
    """

    def __init__(
        self, model: keras.Model, criterion: Criterion, *, seed: int = 0, **kwargs: Any
    ) -> None:
        super().__init__(seed=seed, **kwargs)
        if not isinstance(model, keras.Model):
            received = type(model).__name__
            raise checks.invalid("`model`", "a keras.Model", received, kind=TypeError)
        if not callable(criterion):
            received = repr(criterion)
            raise checks.invalid(
                "`criterion`", "a criterion such as DenoisingLoss(0.1)", received, kind=TypeError
            )
        check_activation(getattr(criterion, "distance", ""), bounded_activation(model))
        self.model, self.criterion = model, criterion
        self.built = True

    def call(self, x: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Returns r(x)."""
        return self.model(x, training=training)

    def example_losses(
        self, x: tf.Tensor, target: tf.Tensor | None, seed: tf.Tensor, step: tf.Tensor,
        training: bool,
    ) -> tf.Tensor:  # fmt: skip
        """Returns the losses (n,) of a batch."""
        added: list[tf.Tensor] = []

        def reconstruct(inputs: tf.Tensor) -> tf.Tensor:
            outputs = self.model(inputs, training=training)
            loss = added_losses(self.model)
            if loss is not None:
                added.append(loss)
            return outputs

        x = arrays.checked_points("Examples", x)
        losses = self.criterion(reconstruct, x, target, seed=seed, step=step)
        if added:
            self.count_added(tf.add_n(added) / len(added))
        return losses

    @property
    def valid_examples(self) -> str:  # type: ignore[override]
        """What examples must be."""
        return "finite and in [0, 1]" if self._is_bernoulli else "finite"

    def are_valid(self, x: tf.Tensor, target: tf.Tensor | None) -> tf.Tensor:
        """Returns which examples are finite, and in [0, 1] for a cross-entropy."""
        valid = super().are_valid(x, target)
        if self._is_bernoulli:
            what = x if target is None else target
            valid &= all_true([(what >= 0) & (what <= 1)], what)
        return valid

    @property
    def _is_bernoulli(self) -> bool:
        return str(getattr(self.criterion, "distance", "")).startswith("bernoulli")
