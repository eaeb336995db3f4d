"""Export of a network's transition kernel as a SavedModel, for TensorFlow and its Serving."""

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from thesis_tf._core import checks, saved_model
from thesis_tf._core.types import Path
from thesis_tf.gsn.kernel import known_or_neutral
from thesis_tf.gsn.network import GenerativeStochasticNetwork
from thesis_tf.gsn.walkback import Hidden


def export(model: GenerativeStochasticNetwork, path: Path, *, alpha: str = "first") -> None:
    """Writes a network's chain as a SavedModel.

    Its signatures take and return tensors by name, for any number of chains:

        step     one step of the chain. Takes x (chains, ...), hidden_0, hidden_1, ... from the
                 previous step, and seed, a pair of int32; returns x, mean and hidden_0, ...
        start    initial hidden units. Takes x; returns hidden_0, ..., which are zeros. A network
                 without hidden state doesn't have this signature.
        inpaint  several steps with known values. Takes x, mask (chains, ...; true where x is
                 known), steps (an int32) and seed; returns x and mean after this number of steps.
                 Known values stay fixed; unknown values begin with their values in x, or at 0.5
                 for `Bernoulli`, else 0, if these are NaN.

    `tf.saved_model.load(path).signatures["step"](x=x, seed=[0, 1])` needs neither Keras nor this
    library. Values of x that P(x | h) can't have, such as pixels above 1 for `Bernoulli`, raise an
    InvalidArgumentError. The default signature of TensorFlow Serving, `serving_default`, is
    `inpaint`.

    Args:
        model: a built `GenerativeStochasticNetwork`.
        path: the folder; an existing SavedModel is replaced.
        alpha: as for `GenerativeStochasticNetwork.transition_kernel`.

    Raises:
        TypeError: the model isn't a `GenerativeStochasticNetwork`.
        ValueError: the model isn't built.
        FileExistsError: `path` holds something other than a SavedModel.
    """
    if not isinstance(model, GenerativeStochasticNetwork):
        received = type(model).__name__
        raise checks.invalid("`model`", "a GenerativeStochasticNetwork", received, kind=TypeError)
    if not model.built:
        raise checks.invalid("`model`", "built", "one that isn't", "Fit it, or call it on x.")
    saved_model.check_path(path)
    kernel = model.transition_kernel(alpha=alpha)
    dtype = model.example_dtype
    x = tf.TensorSpec((None, *model.example_shape), dtype, "x")
    seed = tf.TensorSpec((2,), tf.int32, "seed")
    one = model.zero_hidden(tf.zeros((1, *model.example_shape), dtype))
    hidden = {
        f"hidden_{i}": tf.TensorSpec((None, *part.shape[1:]), part.dtype, f"hidden_{i}")
        for i, part in enumerate(one)
    }

    order = range(len(one))

    def step(x: tf.Tensor, seed: tf.Tensor, **hidden: Any) -> dict[str, tf.Tensor]:
        state = model.initial_state(_checked(model, x))._replace(
            hidden=tuple(hidden[f"hidden_{i}"] for i in order)
        )
        after = kernel.step(state, seed)
        return {"x": after.x, "mean": kernel.mean(after), **_named(after.hidden)}

    def start(x: tf.Tensor) -> dict[str, tf.Tensor]:
        return _named(model.zero_hidden(x))

    def inpaint(
        x: tf.Tensor, mask: tf.Tensor, steps: tf.Tensor, seed: tf.Tensor
    ) -> dict[str, tf.Tensor]:
        def body(number: tf.Tensor, *flat: Any) -> Any:
            before = tf.nest.pack_sequence_as(state, flat)
            after = kernel.step(before, tf.random.experimental.stateless_fold_in(seed, number))
            after = after._replace(x=tf.where(mask, x, after.x))
            return number + 1, *tf.nest.flatten(after)

        x = known_or_neutral(_checked(model, x, ~mask & tf.math.is_nan(x)), model.reconstruction)
        state = model.initial_state(x)
        loop = (tf.constant(0), *tf.nest.flatten(state))
        flat = tf.while_loop(lambda number, *_: number < steps, body, loop)[1:]
        state = tf.nest.pack_sequence_as(state, flat)
        return {"x": state.x, "mean": tf.where(mask, x, kernel.mean(state))}

    mask = tf.TensorSpec(x.shape, tf.bool, "mask")
    steps = tf.TensorSpec((), tf.int32, "steps")
    signatures = {
        "step": _traced(step, x=x, seed=seed, **hidden),
        "inpaint": _traced(inpaint, x=x, mask=mask, steps=steps, seed=seed),
    }
    if hidden:
        signatures["start"] = _traced(start, x=x)
    module = tf.Module()
    # Only variables that are attributes of the module are saved.
    module.variables_ = [variable.value for variable in model.variables]
    signatures["serving_default"] = signatures["inpaint"]
    saved_model.save(module, path, signatures)


def _checked(
    model: GenerativeStochasticNetwork, x: tf.Tensor, unknown: tf.Tensor | bool = False
) -> tf.Tensor:
    """Returns x; raises when it runs unless all but unknown values are in the support."""
    possible = tf.reduce_all(model.reconstruction.contains(x) | unknown)
    message = f"x must be {model.reconstruction.support} where it is known."
    with tf.control_dependencies([tf.debugging.Assert(possible, [message])]):
        return tf.identity(x)


def _named(hidden: Hidden) -> dict[str, tf.Tensor]:
    return {f"hidden_{i}": part for i, part in enumerate(hidden)}


def _traced(function: Callable[..., Any], **arguments: Any) -> Any:
    return tf.function(function, autograph=False).get_concrete_function(**arguments)
