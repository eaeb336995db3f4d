"""The activation at the end of a model, which decides whether its outputs can be logits."""

from typing import Any

import keras

# Activations whose outputs can't be any real number. A logit must be able to.
BOUNDED = frozenset(
    ("sigmoid", "hard_sigmoid", "softmax", "tanh", "hard_tanh", "softsign", "relu", "relu6",
     "softplus", "exponential")
)  # fmt: skip
_SAME_VALUES = (
    keras.layers.Reshape,
    keras.layers.Flatten,
    keras.layers.Permute,
    keras.layers.Identity,
    keras.layers.Dropout,
)


def bounded_activation(model: Any) -> str | None:
    """Returns the name of the bounded activation that a model ends in; None if none is known.

    It is known for models that are graphs of layers, if the last layer that computes something has
    such an activation, and for outputs on which Keras has left the logits.
    """
    outputs = getattr(model, "outputs", None)
    return of_tensor(outputs[0]) if outputs else None


def of_tensor(tensor: Any) -> str | None:
    """Returns the name of the bounded activation that a tensor comes from; None if none is known.

    Args:
        tensor: an output of a model for a batch, or a symbolic one.
    """
    if getattr(tensor, "_keras_logits", None) is not None:
        return "sigmoid or softmax"
    history = getattr(tensor, "_keras_history", None)
    if history is None:
        return None
    operation, node, index = history
    if isinstance(operation, keras.Model) and getattr(operation, "outputs", None):
        return of_tensor(operation.outputs[index])
    if isinstance(operation, _SAME_VALUES):
        return of_tensor(operation._inbound_nodes[node].input_tensors[0])
    activation = getattr(operation, "activation", None)
    name = getattr(activation, "__name__", None) or type(operation).__name__.lower()
    return name if name in BOUNDED else None
