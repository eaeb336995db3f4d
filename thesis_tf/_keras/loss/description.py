"""Descriptions that distinguish losses, for the fingerprints of runs."""

from typing import Any

import keras

from thesis_tf._keras.loss.example_loss import ExampleLoss
from thesis_tf.persistence import fingerprint


def of(loss: ExampleLoss) -> str:
    """Returns a description of a loss and its weights, which are different for different losses."""
    named = keras.tree.map_structure(_without_alias, loss.user_loss)
    return fingerprint.of_callable([named, loss.user_loss_weights])


def _without_alias(loss: Any) -> Any:
    """Returns the function of a name, of which several may name the same."""
    if not isinstance(loss, str) or loss.lower() in ("ce", "crossentropy"):
        return loss
    return keras.losses.get(loss)
