"""How a product with the Hessian, or with the Gauss-Newton matrix, of one batch is computed.

Each way has two functions of tensors: `keep` computes what every product of a batch needs, and
`product` computes one from that.
"""

import tensorflow as tf

from thesis_tf.hessian.products import forward_mode


def _gradient(objective, parameters, constants, x, y, weights):
    """The gradient, a list of tensors, and the graph's operations that computed it."""
    graph = tf.compat.v1.get_default_graph()
    before = len(graph.get_operations())
    with tf.GradientTape() as tape:
        tape.watch(parameters)
        total = objective.total(parameters, constants, x, y, weights)
    gradient = _dense(tape.gradient(total, parameters), parameters)
    return gradient, graph.get_operations()[before:]


def gradient(objective, parameters, constants, batch):
    """The sum of the gradients of a batch's losses, a vector (d,).

    Its derivative with respect to the parameters, along v, is the product Hv.
    """
    tensors, _ = _gradient(objective, parameters, constants, *batch)
    return objective.layout.pack(tensors)


def frozen_gradient(objective, parameters, frozen, constants, batch):
    """The gradient as it would be with the Jacobian of the outputs frozen at other parameters.

    Its derivative with respect to `parameters` at `frozen`, along v, is the Gauss-Newton product.
    """
    x, y, weights = batch
    outputs = objective.outputs(parameters, constants, x)
    moved = tf.nest.flatten(outputs)
    with tf.GradientTape() as tape:
        tape.watch(moved)
        losses = objective.example_losses(y, tf.nest.pack_sequence_as(outputs, moved))
        total = tf.reduce_sum(losses * tf.cast(weights, losses.dtype))
    slopes = _dense(tape.gradient(total, moved), moved)
    with tf.GradientTape() as tape:
        tape.watch(frozen)
        outputs = tf.nest.flatten(objective.outputs(frozen, constants, x))
    result = _dense(tape.gradient(outputs, frozen, output_gradients=slopes), frozen)
    penalty = _penalty_gradient(objective, parameters, constants, weights)
    if penalty is not None:
        result = [a + b for a, b in zip(result, penalty, strict=True)]
    return objective.layout.pack(result)


def trace(way, specs):
    """Traces both functions of a way of computing products.

    Args:
        way: an object with `keep` and `product`.
        specs: `tf.TensorSpec`s (vector, parameters, constants, (x, y, weights)).

    Returns:
        keep(parameters, constants, x, y, weights) -> kept, and product(vector, parameters,
        constants, kept) -> (d,).
    """
    vector, parameters, constants, batch = specs
    keep = tf.function(way.keep, autograph=False).get_concrete_function(
        parameters, constants, *batch
    )
    kept = [tf.TensorSpec(t.shape, t.dtype) for t in keep.structured_outputs]
    product = tf.function(way.product, autograph=False).get_concrete_function(
        vector, parameters, constants, kept
    )
    return keep, product


def _dense(gradients, parameters):
    """Gradients as tensors: zeros for none, and no `tf.IndexedSlices`."""
    return [
        tf.zeros_like(p) if g is None else tf.convert_to_tensor(g)
        for g, p in zip(gradients, parameters, strict=True)
    ]


def _penalty_gradient(objective, parameters, constants, weights):
    """The gradient of the regularisers, counted once an example, or None if there are none."""
    with tf.GradientTape() as tape:
        tape.watch(parameters)
        penalty = objective.penalty(parameters, constants)
        if penalty is None:
            return None
        penalty *= tf.cast(tf.reduce_sum(weights), penalty.dtype)
    return _dense(tape.gradient(penalty, parameters), parameters)


class _Linearized:
    """Products by forward mode along operations whose values are kept."""

    def __init__(self, objective):
        self.objective = objective

    def keep(self, parameters, constants, x, y, weights):
        """Returns what the tangents need of one batch's values."""
        self._recording = forward_mode.Recording()
        self._inputs = [*parameters, *constants]
        self._trace(parameters, constants, x, y, weights)
        # A trial run, whose operations nothing fetches, notes which values the tangents need.
        self._tangents(parameters, self._recording)
        given = {tensor.ref() for tensor in self._inputs}
        self._kept = [t for t in self._recording.tensors if t.ref() not in given]
        return self._kept

    def product(self, vector, parameters, constants, kept):
        """Returns the product (d,) of one batch, to be called after `keep` was traced."""
        pairs = zip([*self._inputs, *self._kept], [*parameters, *constants, *kept], strict=True)
        lookup = forward_mode.Supplied(self._recording, pairs)
        layout = self.objective.layout
        return layout.pack(self._tangents(layout.unpack(vector), lookup))


class ForwardOverBack(_Linearized):
    """The derivative of the gradient along v: forward mode over the tape's reverse mode."""

    name = "forward_over_back"

    def _trace(self, parameters, constants, x, y, weights):
        self._parameters = parameters
        self._gradient, self._operations = _gradient(
            self.objective, parameters, constants, x, y, weights
        )

    def _tangents(self, vectors, lookup):
        tangents = _seeded(self._parameters, vectors)
        forward_mode.push(self._operations, tangents, lookup)
        return _of(self._gradient, tangents)


class GaussNewton(_Linearized):
    """J' (the loss' Hessian with respect to the outputs) J v: forward, across, and back."""

    name = "forward_over_back"

    def _trace(self, parameters, constants, x, y, weights):
        graph, objective = tf.compat.v1.get_default_graph(), self.objective
        marks = [len(graph.get_operations())]
        with tf.GradientTape() as tape:
            tape.watch(parameters)
            outputs = objective.outputs(parameters, constants, x)
            flat = [tf.identity(o) for o in tf.nest.flatten(outputs)]
        marks.append(len(graph.get_operations()))
        with tf.GradientTape() as loss_tape:
            loss_tape.watch(flat)
            outputs = tf.nest.pack_sequence_as(outputs, flat)
            losses = objective.example_losses(y, outputs)
            total = tf.reduce_sum(losses * tf.cast(weights, losses.dtype))
        slopes = _dense(loss_tape.gradient(total, flat), flat)
        marks.append(len(graph.get_operations()))
        # J'c, linear in c: its tangent along c is J' times the direction, whatever c is.
        cotangents = [tf.identity(slope) for slope in slopes]
        back_from = len(graph.get_operations())
        back = tape.gradient(flat, parameters, output_gradients=cotangents)
        operations = graph.get_operations()
        self._forward = operations[marks[0] : marks[1]]
        self._across = operations[marks[1] : marks[2]]
        self._back = operations[back_from:]
        self._parameters, self._outputs, self._slopes = parameters, flat, slopes
        self._cotangents, self._result = cotangents, _dense(back, parameters)
        start = len(graph.get_operations())
        pull = _penalty_gradient(objective, parameters, constants, weights)
        self._penalty = pull and (pull, graph.get_operations()[start:])

    def _tangents(self, vectors, lookup):
        forward = _seeded(self._parameters, vectors)
        forward_mode.push(self._forward, forward, lookup)
        across = _seeded(self._outputs, _of(self._outputs, forward))
        forward_mode.push(self._across, across, lookup)
        back = _seeded(self._cotangents, _of(self._slopes, across))
        forward_mode.push(self._back, back, lookup)
        result = _of(self._result, back)
        if self._penalty:
            # The regularisers' own Hessian: they are no function of the outputs.
            pull, operations = self._penalty
            tangents = _seeded(self._parameters, vectors)
            forward_mode.push(operations, tangents, lookup)
            result = [a + b for a, b in zip(result, _of(pull, tangents), strict=True)]
        return result


def _seeded(tensors, tangents):
    return {t.ref(): v for t, v in zip(tensors, tangents, strict=True)}


def _of(tensors, tangents):
    found = [tangents.get(tensor.ref()) for tensor in tensors]
    return [
        tf.zeros(t.shape, t.dtype) if f is None else f for t, f in zip(tensors, found, strict=True)
    ]


class _Recomputed:
    """Products that go through the model anew; what is kept is the batch itself."""

    def __init__(self, objective):
        self.objective = objective

    def keep(self, parameters, constants, x, y, weights):
        """Returns the batch."""
        self._structure = (x, y, weights)
        return tf.nest.flatten(self._structure)

    def product(self, vector, parameters, constants, kept):
        """Returns the product (d,) of one batch."""
        batch = tf.nest.pack_sequence_as(self._structure, kept)
        layout = self.objective.layout
        vectors = layout.unpack(vector)
        return layout.pack(self._product(vectors, parameters, constants, batch))


class ForwardAccumulator(_Recomputed):
    """The derivative of the gradient along v, by `tf.autodiff.ForwardAccumulator`."""

    name = "forward_accumulator"

    def _product(self, vectors, parameters, constants, batch):
        with tf.autodiff.ForwardAccumulator(parameters, vectors) as accumulator:
            gradient, _ = _gradient(self.objective, parameters, constants, *batch)
        return accumulator.jvp(gradient, unconnected_gradients="zero")


class BackOverBack(_Recomputed):
    """The gradient of (gradient' v), for what forward mode can't do, as loops."""

    name = "back_over_back"

    def _product(self, vectors, parameters, constants, batch):
        with tf.GradientTape() as tape:
            tape.watch(parameters)
            gradient, _ = _gradient(self.objective, parameters, constants, *batch)
        product = tape.gradient(gradient, parameters, output_gradients=vectors)
        return _dense(product, parameters)


class GaussNewtonBackOverBack(_Recomputed):
    """The Gauss-Newton product by reverse mode alone."""

    name = "back_over_back"

    def _product(self, vectors, parameters, constants, batch):
        x, y, weights = batch
        objective = self.objective
        with tf.GradientTape(persistent=True) as tape:
            tape.watch(parameters)
            structure = objective.outputs(parameters, constants, x)
            outputs = [tf.identity(o) for o in tf.nest.flatten(structure)]
            probes = [tf.zeros_like(o) for o in outputs]
            tape.watch(probes)
            # J'c is linear in c: the derivative with respect to c of (J'c)'v is J v.
            back = _dense(tape.gradient(outputs, parameters, output_gradients=probes), parameters)
        moved = tape.gradient(back, probes, output_gradients=vectors)
        moved = _dense(moved, outputs)
        with tf.GradientTape() as second:
            second.watch(outputs)
            with tf.GradientTape() as first:
                first.watch(outputs)
                losses = objective.example_losses(y, tf.nest.pack_sequence_as(structure, outputs))
                total = tf.reduce_sum(losses * tf.cast(weights, losses.dtype))
            slopes = _dense(first.gradient(total, outputs), outputs)
        across = _dense(second.gradient(slopes, outputs, output_gradients=moved), outputs)
        result = _dense(tape.gradient(outputs, parameters, output_gradients=across), parameters)
        with tf.GradientTape() as second:
            second.watch(parameters)
            pull = _penalty_gradient(objective, parameters, constants, weights)
        if pull is None:
            return result
        extra = second.gradient(pull, parameters, output_gradients=vectors)
        return [a + b for a, b in zip(result, _dense(extra, parameters), strict=True)]


HESSIAN = {way.name: way for way in (ForwardOverBack, ForwardAccumulator, BackOverBack)}
GAUSS_NEWTON = {way.name: way for way in (GaussNewton, GaussNewtonBackOverBack)}
