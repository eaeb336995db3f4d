"""Tests an operator's derivatives on a few examples before any long work.

TensorFlow's second derivatives are wrong, without a word, for some operations and undefined for
others. Products are therefore compared with central differences of the gradient, all in float64:
in float32 a network with kinks shows errors of 3e-4 to 2.8, for steps of 1e-4 to 1e-2, where
nothing is wrong.
"""

import numpy as np
import tensorflow as tf

from thesis_tf._keras.recording import watch
from thesis_tf.hessian.checks.single_call import OneCall
from thesis_tf.hessian.products import modes
from thesis_tf.persistence import fingerprint

EXAMPLES = 4
# A kink between theta - 2hv and theta + 2hv shows as an error; there are fewer the smaller h is.
STEPS = (1e-3, 1e-4, 1e-5, 1e-6, 1e-7, 1e-8, 1e-9)
TOLERANCE = 1e-5
ENOUGH = 1e-8  # no smaller step is tried


class SelfCheckError(ValueError):
    """The operator would give wrong products."""


def inputs(operator):
    """Raises SelfCheckError if the data change from pass to pass."""
    stream = operator.data.stream
    if stream.in_memory:
        return
    for number, (first, second) in enumerate(zip(_digests(stream), _digests(stream), strict=True)):
        if first != second:
            raise SelfCheckError(
                f"The data set changes from pass to pass, first in batch {number}: it is shuffled"
                " or augmented anew each time. Pass arrays, or a data set with"
                " shuffle(..., reshuffle_each_iteration=False) and without random augmentation."
            )


def _digests(stream):
    for batch, _ in stream.batches():
        yield fingerprint.of_arrays(tf.nest.flatten(batch))


def derivatives(operator):
    """Raises SelfCheckError unless the loss is finite and products are right."""
    loss = operator.loss()
    if not np.isfinite(loss) or not np.isfinite(operator.gradient()).all():
        raise SelfCheckError(
            f"The loss and its gradient must be finite. Received: a loss of {loss}"
            + (", and a gradient that is not finite. " if np.isfinite(loss) else ". ")
            + "The weights, the inputs or the labels hold values that are not, or the loss doesn't"
            " suit the outputs (logits or probabilities?)."
        )
    _repeatable(operator)
    (x, y), _ = next(operator.data.stream.batches())
    few = tf.nest.map_structure(lambda a: tf.convert_to_tensor(a[:EXAMPLES]), (x, y))
    objective = operator.objective
    with objective.in_float64():
        parameters, constants = objective.read(tf.float64)
        parameters = _beside(parameters)
        batch = (*_in_float64(few), tf.ones(len(tf.nest.flatten(few)[0])))
        try:
            error = difference(
                operator.way(), operator.differentiated, parameters, constants, batch
            )
        except (tf.errors.OpError, TypeError) as problem:
            raise SelfCheckError(
                f"{objective.model.name} can't be computed in float64, in which products are"
                f" checked: {problem}\ncheck=False leaves the check out."
            ) from problem
        _one_by_one(objective, parameters, constants, batch)
        if error > TOLERANCE:
            culprit = _wrong_layer(operator, parameters, constants, batch[0])
            raise SelfCheckError(
                f"Products by {operator.mode} differ from central differences of the gradient by a"
                f" part of {error:.1e} (float64, {len(batch[-1])} examples). {culprit}"
            )
    _symmetric(operator)


def _one_by_one(objective, parameters, constants, batch):
    """Raises SelfCheckError if an example's loss depends on the others in its batch."""
    x, y, weights = batch

    def losses(rows):
        x_rows, y_rows = tf.nest.map_structure(lambda a: a[rows], (x, y))
        return objective.example_losses(y_rows, objective.outputs(parameters, constants, x_rows))

    together = losses(slice(None))
    alone = tf.concat([losses(slice(i, i + 1)) for i in range(len(weights))], axis=0)
    apart = np.abs(together - alone).max() if together.shape == alone.shape else np.inf
    # A layer that leaves float64 has the roundings of float32.
    if not apart <= 1e-4 * max(1.0, float(np.abs(alone).max())):
        shapes = [tuple(t.shape) for t in tf.nest.flatten(y)]
        raise SelfCheckError(
            "An example's loss depends on which others are in its batch: by itself it is"
            f" {float(alone[0]):.6g}, among {len(weights)} {float(together[0]):.6g}. Labels of"
            f" shape {shapes} may have been broadcast against the outputs, or a layer mixes them."
        )


def _random_vector(operator):
    return tf.constant(np.random.default_rng(0).normal(size=operator.shape[0]), operator.dtype)


def _rounding(operator):
    """What sums over examples in another order, as GPUs do them, may differ by."""
    return 3e-2 if _computes_in_16_bits(operator.objective.model) else 1e-3


def _repeatable(operator):
    """Compares a product with itself, on one batch in the own precision."""
    batch, _ = next(operator.data.batches())
    v = _random_vector(operator)
    product, again = (operator.on_batch(v, batch).numpy().astype(np.float64) for _ in range(2))
    size, apart = np.linalg.norm(product), np.linalg.norm(product - again)
    if apart > _rounding(operator) * size:
        raise SelfCheckError(
            f"The same product came out differently the second time, by a part of"
            f" {apart / size:.1e}: the model draws random numbers at inference, or keeps state."
        )


def _symmetric(operator):
    """Compares u'Hv with v'Hu, on one batch in the own precision."""
    batch, _ = next(operator.data.batches())
    v = _random_vector(operator)
    product = operator.on_batch(v, batch)
    # With u = Hv, of which a random vector would have but a part of 1 / sqrt(d).
    u = product / tf.maximum(tf.norm(product), 1e-30)
    back = operator.on_batch(u, batch)
    v, u, product, back = (t.numpy().astype(np.float64) for t in (v, u, product, back))
    if abs(u @ product - v @ back) > _rounding(operator) * np.linalg.norm(product):
        raise SelfCheckError(
            f"u'Hv = {u @ product:.6g} and v'Hu = {v @ back:.6g} must be equal: the model stops"
            " gradients, or has gradients of its own, so that what it descends is no gradient."
        )


def _computes_in_16_bits(model):
    return any("16" in str(layer.compute_dtype) for layer in model._flatten_layers())


def _in_float64(tensors):
    return tf.nest.map_structure(
        lambda t: tf.cast(t, tf.float64) if t.dtype.is_floating else t, tensors
    )


def _beside(parameters):
    """A point near the parameters, off the kinks on which they may lie.

    Where an image is black and biases are still zero, a ReLU sits on its kink exactly.
    """
    rng = np.random.default_rng(0)
    sizes = [float(tf.math.reduce_std(p)) or 1.0 for p in parameters]
    return [p + 0.01 * s * rng.normal(size=p.shape) for p, s in zip(parameters, sizes, strict=True)]


def difference(way, differentiated, parameters, constants, batch):
    """The relative error of a product along one random direction, in float64.

    Args:
        way: as in `products`.
        differentiated: the function (parameters, frozen, constants, batch) whose derivative with
            respect to the first, where both are equal, the product is.
        parameters, constants, batch: float64 tensors.

    Returns:
        The smallest, over several steps h, of |Hv - D_h| / |Hv|, less what rounding can explain,
        with the central difference D_h = (8 (g(h) - g(-h)) - g(2h) + g(-2h)) / 12h and g(h) the
        gradient at theta + hv, |v| = |theta|.
    """
    layout = way.objective.layout

    def specs(tensors):
        return tf.nest.map_structure(lambda t: tf.TensorSpec(t.shape, t.dtype), tensors)

    theta = layout.pack(parameters)
    direction = np.random.default_rng(0).normal(size=layout.size)
    direction *= max(np.linalg.norm(theta), 1e-3) / np.linalg.norm(direction)
    direction = tf.constant(direction, tf.float64)
    keep, product = modes.trace(way, specs((direction, parameters, constants, batch)))
    result = product(direction, parameters, constants, keep(parameters, constants, *batch)).numpy()
    slope = tf.function(
        lambda vector: differentiated(layout.unpack(vector), parameters, constants, batch),
        autograph=False,
    ).get_concrete_function(tf.TensorSpec(theta.shape, theta.dtype))

    def at(displacement):
        return slope(theta + displacement * direction).numpy()

    gradient = np.linalg.norm(at(0.0))
    precision = np.float32 if _leaves_float64(keep.graph) else np.float64
    noise = np.finfo(precision).eps * gradient
    scale = max(np.linalg.norm(result), 1e-6 * gradient, 1e-300)
    best = np.inf
    for step in STEPS:
        rounding = 10 * noise / step
        if rounding > 1e-2 * scale and best < np.inf:
            break
        differences = 8 * (at(step) - at(-step)) - (at(2 * step) - at(-2 * step))
        error = np.linalg.norm(result - differences / (12 * step))
        best = min(best, max(0.0, error - rounding) / scale)
        if best <= ENOUGH:
            break
    return best


_ADVICE = (
    "Try another `mode`, replace the layer, or leave its parameters out by `parameters`;"
    " check=False goes on with products that are wrong."
)


def _leaves_float64(graph):
    """Whether an operation computes in float32 whatever it is given, as bilinear resizing does."""
    return any(
        operation.type != "Cast"
        and any(t.dtype == tf.float64 for t in operation.inputs)
        and any(t.dtype == tf.float32 for t in operation.outputs)
        for operation in graph.get_operations()
    )


def _wrong_layer(operator, parameters, constants, x):
    """A sentence that names the first call whose own second derivatives are wrong."""
    objective = operator.objective
    with watch(objective.model) as recorder:
        objective.outputs(parameters, constants, x)
    variables = [*objective.variables, *objective.constants]
    values = {id(v): t for v, t in zip(variables, [*parameters, *constants], strict=True)}
    nothing = (tf.zeros(()),) * 3
    for place in recorder.places:
        if place.arguments is None or place.operation is objective.model:
            continue
        call = OneCall(place, values)
        if not call.parameters:
            continue
        way = modes.HESSIAN[operator.mode](call)
        gradient = lambda p, _, constants, batch: modes.gradient(call, p, constants, batch)  # noqa: B023, E731
        try:
            error = difference(way, gradient, call.parameters, [], nothing)
        except Exception as problem:  # what explains an error must not hide it by another
            return f"{place.name} can't be differentiated by itself ({problem}). {_ADVICE}"
        if error > TOLERANCE:
            return (
                f"It comes from {place.name} ({type(place.operation).__name__}), which by itself is"
                f" wrong by {error:.1e}. {_ADVICE}"
            )
    return f"No layer by itself is wrong: it may be the loss. {_ADVICE}"
