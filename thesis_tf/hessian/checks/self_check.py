"""Tests an operator's derivatives on a few examples before long computations.

Some of TensorFlow's second derivatives are silently wrong, and others are undefined. Products are
therefore compared with central differences of the gradient, all in float64. In float32, a network
with kinks has differences of 3e-4 to 2.8 for steps of 1e-4 to 1e-2 even if derivatives are correct.
Where differences can't decide, products are compared with those of another mode.
"""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from thesis_tf._keras.batches import Stream
from thesis_tf._keras.objective import Objective
from thesis_tf._keras.recording import watch
from thesis_tf.hessian.checks.single_call import SingleCall
from thesis_tf.hessian.products import modes
from thesis_tf.hessian.products.averages import Averages

EXAMPLES = 4
# A kink between theta - 2hv and theta + 2hv appears as an error; a smaller h makes it less likely.
STEPS = (1e-3, 1e-4, 1e-5, 1e-6, 1e-7, 1e-8, 1e-9)
TOLERANCE = 1e-5
ENOUGH = 1e-8  # no smaller step is tried
AGREEMENT = 1e-9  # of two modes, in float64


class SelfCheckError(ValueError):
    """The operator would compute wrong products, or can't compute them."""


def check_data(stream: Stream) -> None:
    """Raises SelfCheckError if the data change from pass to pass."""
    number = stream.changing_batch()
    if number is not None:
        raise SelfCheckError(
            f"The data set changes from pass to pass, first in batch {number}: it is shuffled or"
            " augmented differently each time. Pass arrays, or a data set with shuffle(...,"
            " reshuffle_each_iteration=False) and without random augmentation."
        )


def check_derivatives(averages: Averages) -> None:
    """Raises SelfCheckError unless the loss is finite and products are correct."""
    objective = averages.objective
    with _refusals(f"TensorFlow can't compute the loss of {objective.model.name} or its gradient"):
        loss, gradient = averages.loss(), averages.gradient().numpy()
    if not np.isfinite(loss) or not np.isfinite(gradient).all():
        raise SelfCheckError(
            f"The loss and its gradient must be finite. Received: a loss of {loss}"
            + (", and a gradient that is not finite. " if np.isfinite(loss) else ". ")
            + "The weights, the inputs or the labels hold values that are not finite, or the loss"
            " doesn't fit the outputs (logits or probabilities?)."
        )
    refused = f"TensorFlow can't compute products with {objective.model.name} by {averages.mode}"
    with _refusals(refused, _ADVICE):
        _check_repeatable(averages)
    (x, y), _ = next(averages.data.stream.batches())
    few = tf.nest.map_structure(lambda a: tf.convert_to_tensor(a[:EXAMPLES]), (x, y))
    weights = tf.ones(len(tf.nest.flatten(few)[0]))
    with objective.in_float64():
        parameters, constants = objective.read(tf.float64)
        parameters = _beside(parameters)
        batch = (*_in_float64(few), weights)
        try:
            _check_products(averages, parameters, constants, batch)
            precise = True
        except (tf.errors.OpError, TypeError) as error:
            precise, problem = False, error
    if not precise:
        _check_in_own_precision(averages, (*few, weights), problem)
    with _refusals(refused, _ADVICE):
        _check_symmetric(averages)


def _check_products(
    averages: Averages, parameters: modes.Tensors, constants: modes.Tensors, batch: modes.Batch
) -> None:
    """Raises SelfCheckError if products are wrong, in float64."""
    objective, kind = averages.objective, averages.kind
    found = compare(
        kind.modes[averages.mode](objective),
        lambda *args: kind.differentiated(objective, *args),
        parameters,
        constants,
        batch,
    )
    _check_one_by_one(objective, parameters, constants, batch)
    if found.error <= TOLERANCE:
        return
    apart = None if found.decided else _apart(averages, parameters, constants, batch)
    if apart is not None and apart <= (AGREEMENT if found.precise else _rounding(averages)):
        return
    if apart is None and np.isinf(found.error):
        raise _unchecked(averages, "a part of it computes in float32, whose rounding is too large")
    culprit = _wrong_layer(averages, parameters, constants, batch[0])
    dtype = "float64" if found.precise else "partly float32"
    raise SelfCheckError(
        f"Products by {averages.mode} differ from central differences of the gradient by"
        f" {found.error:.1e} of their norm ({dtype}, {len(batch[-1])} examples). {culprit}"
    )


def _check_in_own_precision(averages: Averages, batch: modes.Batch, problem: Exception) -> None:
    """Compares two modes in the model's precision, for a model that can't compute in float64."""
    objective = averages.objective
    parameters, constants = objective.read()
    parameters = _beside(parameters)
    _check_one_by_one(objective, parameters, constants, batch)
    apart = _apart(averages, parameters, constants, batch)
    if apart is None:
        raise _unchecked(averages, f"it can't be computed in float64 ({_first_line(problem)})")
    if apart > _rounding(averages):
        raise SelfCheckError(
            f"Products with {objective.model.name} by {averages.mode} differ from those by"
            f" {_other_mode(averages)} by {apart:.1e} of their norm, so that one of them is wrong."
            f" It can't be computed in float64 ({_first_line(problem)}), which would decide:"
            " replace the layer that has no float64."
        )


def _unchecked(averages: Averages, reason: str) -> SelfCheckError:
    return SelfCheckError(
        f"Products with {averages.objective.model.name} can't be checked: {reason}, and no mode but"
        f" {averages.mode} supports it. With check=False, compare products with differences of"
        " `gradient()` before you trust them."
    )


def _other_mode(averages: Averages) -> str:
    """Returns the name of a mode with other second derivatives."""
    names = list(averages.kind.modes)
    return names[0] if averages.mode == names[-1] else names[-1]


def _apart(
    averages: Averages, parameters: modes.Tensors, constants: modes.Tensors, batch: modes.Batch
) -> float | None:
    """Returns |Hv - H'v| / |Hv| of two modes along a random v; None if one doesn't exist."""
    layout, objective = averages.objective.layout, averages.objective
    dtype = parameters[0].dtype
    vector = tf.constant(np.random.default_rng(0).normal(size=layout.size), dtype)
    specs = _specs((vector, parameters, constants, batch))
    products = []
    for name in (averages.mode, _other_mode(averages)):
        try:
            keep, product = modes.traced(averages.kind.modes[name](objective), specs)
        except Exception:  # TensorFlow raises errors of many types for what a mode doesn't support
            return None
        kept = keep(parameters, constants, *batch)
        products.append(product(vector, parameters, constants, kept).numpy().astype(np.float64))
    size = max(float(np.linalg.norm(products[0])), 1e-300)
    return float(np.linalg.norm(products[0] - products[1])) / size


def _specs(tensors: Any) -> Any:
    return tf.nest.map_structure(lambda t: tf.TensorSpec(t.shape, t.dtype), tensors)


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


@contextlib.contextmanager
def _refusals(message: str, advice: str = "") -> Iterator[None]:
    """Converts errors that TensorFlow raises in the `with` block to SelfCheckErrors."""
    try:
        yield
    except (tf.errors.OpError, TypeError) as error:
        raise SelfCheckError(f"{message}: {error}\n{advice}".rstrip()) from error


def _check_one_by_one(
    objective: Objective, parameters: modes.Tensors, constants: modes.Tensors, batch: modes.Batch
) -> None:
    """Raises SelfCheckError if an example's loss depends on the others in its batch."""
    x, y, weights = batch

    def losses(rows: slice) -> "tf.Tensor":
        x_rows, y_rows = tf.nest.map_structure(lambda a: a[rows], (x, y))
        return objective.example_losses(y_rows, objective.outputs(parameters, constants, x_rows))

    together = losses(slice(None))
    alone = tf.concat([losses(slice(i, i + 1)) for i in range(len(weights))], axis=0)
    apart = np.abs(together - alone).max() if together.shape == alone.shape else np.inf
    # A layer that doesn't compute in float64 has the rounding errors of float32.
    if not apart <= 1e-4 * max(1.0, float(np.abs(alone).max())):
        shapes = [tuple(t.shape) for t in tf.nest.flatten(y)]
        raise SelfCheckError(
            "An example's loss depends on the other examples in its batch: alone it is"
            f" {float(alone[0]):.6g}, in a batch of {len(weights)} {float(together[0]):.6g}. Labels"
            f" of shape {shapes} may be broadcast against the outputs, or a layer mixes examples."
        )


def _random_vector(averages: Averages) -> "tf.Tensor":
    layout = averages.objective.layout
    return tf.constant(np.random.default_rng(0).normal(size=layout.size), layout.dtype)


def _rounding(averages: Averages) -> float:
    """Returns a bound of the rounding error of sums in another order, which occurs on GPUs."""
    return 3e-2 if _computes_in_16_bits(averages.objective.model) else 1e-3


def _check_repeatable(averages: Averages) -> None:
    """Compares a product with itself, on one batch in the model's precision."""
    batch, _ = next(averages.data.batches())
    v = _random_vector(averages)
    product, again = (averages.on_batch(v, batch).numpy().astype(np.float64) for _ in range(2))
    size, apart = np.linalg.norm(product), np.linalg.norm(product - again)
    if apart > _rounding(averages) * size:
        raise SelfCheckError(
            f"The same product was different the second time, by {apart / size:.1e} of its norm:"
            " the model draws random numbers at inference, or keeps state."
        )


def _check_symmetric(averages: Averages) -> None:
    """Compares u'Hv with v'Hu, on one batch in the model's precision."""
    batch, _ = next(averages.data.batches())
    v = _random_vector(averages)
    product = averages.on_batch(v, batch)
    # With u = Hv, since a random u would have only 1 / sqrt(d) of its norm along Hv.
    u = product / tf.maximum(tf.norm(product), 1e-30)
    back = averages.on_batch(u, batch)
    v, u, product, back = (t.numpy().astype(np.float64) for t in (v, u, product, back))
    if abs(u @ product - v @ back) > _rounding(averages) * np.linalg.norm(product):
        raise SelfCheckError(
            f"u'Hv = {u @ product:.6g} and v'Hu = {v @ back:.6g} must be equal: the model stops"
            " gradients, or defines custom gradients, so that the gradient of its training isn't"
            " the gradient of any function."
        )


def _computes_in_16_bits(model: keras.Model) -> bool:
    return any("16" in str(layer.compute_dtype) for layer in model._flatten_layers())


def _in_float64(tensors: Any) -> Any:
    return tf.nest.map_structure(
        lambda t: tf.cast(t, tf.float64) if t.dtype.is_floating else t, tensors
    )


def _beside(parameters: modes.Tensors) -> list["tf.Tensor"]:
    """Returns nearby parameters, away from kinks at which the given parameters may be.

    For example, for black pixels and biases of zero, a ReLU is exactly at its kink.
    """
    rng = np.random.default_rng(0)
    sizes = [float(tf.math.reduce_std(p)) or 1.0 for p in parameters]
    return [
        p + tf.cast(0.01 * s * rng.normal(size=p.shape), p.dtype)
        for p, s in zip(parameters, sizes, strict=True)
    ]


@dataclasses.dataclass(frozen=True)
class Comparison:
    """A product along one random direction, compared with central differences.

    Attributes:
        error: the minimum over several steps h of |Hv - D_h| / |Hv|, minus an estimate of rounding
            errors; infinite if these are larger than that at every step. The central difference is
            D_h = (8 (g(h) - g(-h)) - g(2h) + g(-2h)) / 12h, where g(h) is the gradient at
            theta + hv and |v| = |theta|.
        decided: whether the difference nearest to the product agrees better with that of another
            step. Otherwise kinks or rounding errors dominate, and they say nothing.
        precise: whether all of it was computed in float64.
    """

    error: float
    decided: bool
    precise: bool


def compare(
    mode: modes.Mode,
    differentiated: Callable[..., "tf.Tensor"],
    parameters: modes.Tensors,
    constants: modes.Tensors,
    batch: modes.Batch,
) -> Comparison:
    """Compares a product along one random direction with central differences, in float64.

    Args:
        mode: a new object of a mode.
        differentiated: the function (parameters, frozen, constants, batch) whose derivative with
            respect to the first, where both are equal, is the product.
        parameters, constants, batch: float64 tensors.
    """
    layout = mode.objective.layout
    theta = layout.pack(parameters)
    direction = np.random.default_rng(0).normal(size=layout.size)
    direction *= max(float(np.linalg.norm(theta)), 1e-3) / np.linalg.norm(direction)
    direction = tf.constant(direction, tf.float64)
    keep, product = modes.traced(mode, _specs((direction, parameters, constants, batch)))
    result = product(direction, parameters, constants, keep(parameters, constants, *batch)).numpy()
    slope = tf.function(
        lambda vector: differentiated(layout.unpack(vector), parameters, constants, batch),
        autograph=False,
    ).get_concrete_function(tf.TensorSpec(theta.shape, theta.dtype))

    def at(displacement: float) -> np.ndarray:
        return slope(theta + displacement * direction).numpy()

    gradient = float(np.linalg.norm(at(0.0)))
    moving = [*keep.graph.inputs[: len(parameters)], *product.graph.inputs[: 1 + len(parameters)]]
    precise = not any(_leaves_float64(f.graph, moving) for f in (keep, product))
    noise = float(np.finfo(np.float64 if precise else np.float32).eps) * gradient
    scale = max(float(np.linalg.norm(result)), 1e-6 * gradient, 1e-300)
    best, differences, apart = float("inf"), [], []
    for step in STEPS:
        rounding = 10 * noise / step
        if rounding > 1e-2 * scale:
            break
        difference = (8 * (at(step) - at(-step)) - (at(2 * step) - at(-2 * step))) / (12 * step)
        differences.append(difference)
        apart.append(float(np.linalg.norm(result - difference)))
        best = min(best, float(max(0.0, apart[-1] - rounding) / scale))
        if best <= ENOUGH:
            break
    nearest = int(np.argmin(apart)) if apart else 0
    decided = any(
        float(np.linalg.norm(differences[nearest] - differences[i])) < 0.1 * apart[nearest]
        for i in (nearest - 1, nearest + 1)
        if 0 <= i < len(differences)
    )
    return Comparison(best, decided, precise)


_ADVICE = "Try another `mode`, replace the layer, or choose `parameters` that don't act through it."


def _leaves_float64(graph: "tf.Graph", moving: Sequence["tf.Tensor"]) -> bool:
    """Returns whether what depends on tensors becomes float32 or less, as in bilinear resizing."""
    dependent = {tensor.ref() for tensor in moving}
    for operation in graph.get_operations():
        moved = [t for t in operation.inputs if t.ref() in dependent]
        dependent.update(t.ref() for t in operation.outputs if moved)
        if any(t.dtype == tf.float64 for t in moved) and any(
            t.dtype in (tf.float32, tf.float16, tf.bfloat16) for t in operation.outputs
        ):
            return True
    return False


def _wrong_layer(
    averages: Averages, parameters: modes.Tensors, constants: modes.Tensors, x: Any
) -> str:
    """Returns a sentence that names the first layer whose second derivatives are wrong."""
    objective = averages.objective
    with watch(objective.model) as recorder:
        objective.outputs(parameters, constants, x)
    variables = [*objective.variables, *objective.constants]
    values = {id(v): t for v, t in zip(variables, [*parameters, *constants], strict=True)}
    for place in recorder.places:
        if place.arguments is None or place.operation is objective.model:
            continue
        try:
            call = SingleCall(place, values)
            if not call.parameters:
                continue
            error = _error_of_call(call, averages.mode)
        except Exception as problem:  # an error of this explanation must not hide the original one
            return f"{place.name} can't be differentiated by itself ({problem}). {_ADVICE}"
        if error > TOLERANCE:
            return (
                f"It comes from {place.name} ({type(place.operation).__name__}), which by itself is"
                f" wrong by {error:.1e}. {_ADVICE}"
            )
    return f"No layer by itself is wrong: it may be the loss. {_ADVICE}"


def _error_of_call(call: SingleCall, mode: str) -> float:
    def gradient(
        parameters: modes.Tensors, _: Any, constants: modes.Tensors, batch: modes.Batch
    ) -> "tf.Tensor":
        return modes.gradient(call, parameters, constants, batch)

    nothing: Sequence[Any] = (tf.zeros(()),) * 3
    return compare(
        modes.HESSIAN.modes[mode](call), gradient, call.parameters, [], tuple(nothing)
    ).error
