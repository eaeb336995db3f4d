"""Which loss, labels and weights belong to which output of a model, as in `compile` and `fit`."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from thesis_tf._core import checks
from thesis_tf._core.types import Structure


class LossOfOutput(NamedTuple):
    """One output with its loss.

    Attributes:
        loss: a `keras.losses.Loss` or a function.
        factor: its weight in the total.
        y: the labels.
        outputs: the output's tensor.
        weight: the sample weights, or None.
    """

    loss: Any
    factor: float
    y: Any
    outputs: "tf.Tensor"
    weight: Any


def losses_of_outputs(
    model: keras.Model, loss: Any, loss_weights: Any, y: Structure, outputs: Structure, weight: Any
) -> Iterator[LossOfOutput]:
    """Yields each output that has a loss.

    Args:
        model: the model, whose `output_names` are the keys of dicts if its outputs are a list.
        loss: one for all outputs, or a list or dict of one for each; None for an output without.
        loss_weights: a number for a single output, or a list or dict; None for ones.
        y: labels: for several outputs a list in their order, or a dict by their names.
        outputs: the model's outputs: a tensor, or a flat list, tuple or dict of tensors.
        weight: sample weights: for all outputs, or a list or dict of one for each; or None.

    Raises:
        ValueError: these don't fit one another.
    """
    keys, tensors = _keys_and_tensors(model, outputs)
    is_dict = isinstance(outputs, dict)
    losses = _by_output("`loss`", loss, keys, is_dict=is_dict, one_for_all=True)
    chosen = [i for i, one in enumerate(losses) if one is not None]
    factors = _by_output("`loss_weights`", loss_weights, keys, is_dict=is_dict, needed=chosen)
    labels = _by_output("The labels", y, keys, is_dict=is_dict, needed=chosen)
    weights = _by_output("`sample_weight`", weight, keys, is_dict=is_dict, one_for_all=True)
    for i in chosen:
        factor = 1.0 if factors[i] is None else float(factors[i])
        resolved = _resolved(losses[i], labels[i], tensors[i])
        yield LossOfOutput(resolved, factor, labels[i], tensors[i], weights[i])


def loss_by_output(model: keras.Model, loss: Any, outputs: Structure) -> list[Any]:
    """Returns the loss of each output, in the order of `tf.nest.flatten`; None without one."""
    keys, _ = _keys_and_tensors(model, outputs)
    losses = _by_output("`loss`", loss, keys, is_dict=isinstance(outputs, dict), one_for_all=True)
    if not isinstance(outputs, dict):
        return losses
    numbers = {key: number for number, key in enumerate(outputs)}
    return [losses[i] for i in tf.nest.flatten(numbers)]


def _keys_and_tensors(model: keras.Model, outputs: Structure) -> tuple[list[Any], list[Any]]:
    """Returns the outputs' names, or numbers if they have none, and their tensors."""
    if isinstance(outputs, dict):
        keys, tensors = list(outputs), list(outputs.values())
    else:
        tensors = list(outputs) if isinstance(outputs, (list, tuple)) else [outputs]
        keys = list(getattr(model, "output_names", None) or [])
        if len(set(keys)) != len(tensors):
            keys = list(range(len(tensors)))
    if any(keras.tree.is_nested(tensor) for tensor in tensors):
        raise checks.invalid(
            f"The outputs of {model.name}",
            "a tensor, or a list or dict of tensors",
            keras.tree.map_structure(lambda t: tuple(t.shape), outputs),
            "Pass a function of (labels, outputs) as `loss`.",
        )
    return keys, tensors


def _by_output(
    what: str,
    given: Any,
    keys: list[Any],
    *,
    is_dict: bool,
    one_for_all: bool = False,
    needed: Sequence[int] = (),
) -> list[Any]:
    """Returns what belongs to each output; None where there is nothing.

    Args:
        what: the argument's name, for errors.
        given: one object, or a list or dict of one for each output.
        keys: the outputs' names or numbers.
        is_dict: whether the outputs are a dict, to which a list has no sure order.
        one_for_all: whether one object belongs to all outputs.
        needed: the outputs that must have something; a list may have only these.
    """
    if given is None or not keras.tree.is_nested(given):
        if given is None or one_for_all or len(keys) == 1:
            return [given] * len(keys)
    elif isinstance(given, dict):
        if len(keys) == len(given) == 1 and isinstance(keys[0], int):
            return list(given.values())  # the name of the output is unknown
        if set(given) <= set(keys) and all(keys[i] in given for i in needed):
            return [given.get(key) for key in keys]
    elif isinstance(given, (list, tuple)) and not (is_dict and len(keys) > 1):
        if len(given) == len(keys):
            return list(given)
        if len(given) == len(needed):
            found: list[Any] = [None] * len(keys)
            for i, value in zip(needed, given, strict=True):
                found[i] = value
            return found
    kinds = "a dict" if is_dict else "a list or dict"
    raise checks.invalid(
        what,
        f"{kinds} of one for each output, {', '.join(map(str, keys))}",
        sorted(map(str, given)) if isinstance(given, dict) else _described(given),
    )


def _described(given: Any) -> str:
    if isinstance(given, (list, tuple)):
        return f"{type(given).__name__} of {len(given)}"
    return type(given).__name__ if hasattr(given, "shape") else repr(given)


def _resolved(loss: Any, y: Any, outputs: "tf.Tensor") -> Any:
    """Returns a loss object or function for a name."""
    if not isinstance(loss, str):
        return loss
    if loss.lower() in ("crossentropy", "ce"):
        # Keras chooses by the shapes.
        if outputs.shape[-1] == 1:
            loss = "binary_crossentropy"
        elif y.shape.rank < outputs.shape.rank or y.shape[-1] == 1:
            loss = "sparse_categorical_crossentropy"
        else:
            loss = "categorical_crossentropy"
    return keras.losses.get(loss)
