"""The tensors through which a loss depends on a model: its outputs, or the logits behind them.

Keras' cross-entropies of a softmax's or sigmoid's outputs are computed from the logits, which they
find as an attribute of the output's tensor or as the input of the operation that made it. To
differentiate a loss with respect to what it depends on, or to evaluate it elsewhere, these must be
found and put in place in the same way.
"""

from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from thesis_tf._core.types import Structure


def logits_of(outputs: "tf.Tensor") -> "tf.Tensor | None":
    """Returns the logits that Keras' cross-entropies use in place of `outputs`, if there are."""
    logits = getattr(outputs, "_keras_logits", None)
    if logits is None and not hasattr(outputs, "numpy"):  # in a graph
        operation = outputs.op
        if operation.type in ("Softmax", "Sigmoid"):
            logits = operation.inputs[0]
    return logits


class LossArguments:
    """Finds what a loss of some outputs depends on.

    Args:
        loss: (labels, outputs) -> losses.
        labels: a batch's labels, tensors of a graph.
        outputs: the outputs as the model returned them.

    Attributes:
        tensors: for each output its logits if only they are used, else the output itself.

    Raises:
        ValueError: a loss uses both an output and its logits.
    """

    def __init__(
        self, loss: Callable[[Structure, Structure], "tf.Tensor"], labels: Any, outputs: Any
    ) -> None:
        self._structure, flat = outputs, tf.nest.flatten(outputs)
        logits = [logits_of(output) for output in flat]
        uses = [(True, False)] * len(flat)
        if any(source is not None for source in logits):
            uses = _uses(loss, labels, outputs, logits)
        if any(output and source for output, source in uses):
            raise ValueError(
                "The loss uses both the probabilities that the model puts out and the logits behind"
                " them, so that it has no Gauss-Newton matrix with respect to either. End the model"
                " in logits, and pass from_logits=True to the loss."
            )
        self._from_logits = [source for _, source in uses]
        self.tensors: list[tf.Tensor] = [
            source if use else output
            for use, source, output in zip(self._from_logits, logits, flat, strict=True)
        ]

    def outputs(self, tensors: Sequence["tf.Tensor"]) -> Any:
        """Returns the outputs with other tensors in place of `tensors`."""
        flat = []
        originals = tf.nest.flatten(self._structure)
        for use, tensor, original in zip(self._from_logits, tensors, originals, strict=True):
            if use:
                logits, tensor = tensor, tf.stop_gradient(original)
                tensor._keras_logits = logits
            flat.append(_with_mask_of(original, tensor))
        return tf.nest.pack_sequence_as(self._structure, flat)


def _with_mask_of(original: "tf.Tensor", tensor: "tf.Tensor") -> "tf.Tensor":
    mask = getattr(original, "_keras_mask", None)
    if mask is not None:
        tensor._keras_mask = mask
    return tensor


def _uses(
    loss: Callable[[Structure, Structure], "tf.Tensor"],
    labels: Any,
    outputs: Any,
    logits: Sequence["tf.Tensor | None"],
) -> list[tuple[bool, bool]]:
    """Returns whether the loss uses each output, and its logits, found in a graph of its own."""
    found: list[tuple[bool, bool]] = []
    masks = [getattr(o, "_keras_mask", None) for o in tf.nest.flatten(outputs)]

    def look(labels: Any, flat: Any, logits: Any, masks: Any) -> None:
        flat, logits = map(list, (flat, logits))
        with tf.GradientTape(persistent=True) as tape:
            tape.watch(flat)
            for i, (output, mask) in enumerate(zip(flat, masks, strict=True)):
                if mask is not None:
                    output._keras_mask = mask
                if logits[i] is not None:
                    tape.watch(logits[i])
                    output._keras_logits = logits[i]
            total = tf.reduce_sum(loss(labels, tf.nest.pack_sequence_as(outputs, flat)))
        for output, source in zip(flat, logits, strict=True):
            used = tape.gradient(total, output) is not None
            found.append((used, source is not None and tape.gradient(total, source) is not None))

    arguments = (labels, tf.nest.flatten(outputs), list(logits), masks)
    specs = tf.nest.map_structure(
        lambda t: t if t is None else tf.TensorSpec(t.shape, t.dtype), arguments
    )
    tf.function(look, autograph=False).get_concrete_function(*specs)
    return found
