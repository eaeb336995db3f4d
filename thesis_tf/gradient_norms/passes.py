"""One forward and one backward pass over a batch, and what the norms need from them."""

import dataclasses
from collections.abc import Sequence

import keras
import tensorflow as tf

from thesis_tf._core.types import Structure
from thesis_tf._keras import recording
from thesis_tf._keras.objective import Objective
from thesis_tf.gradient_norms import single_examples
from thesis_tf.gradient_norms.batch_axis import BatchAxis
from thesis_tf.gradient_norms.broadcasts import Meeting, gradients_by_example, meetings
from thesis_tf.gradient_norms.examplewise import has_unsafe_products
from thesis_tf.gradient_norms.fallback import can_be_mapped, draws, mapped
from thesis_tf.gradient_norms.forms import Form, combined
from thesis_tf.gradient_norms.recording import (
    GradientRecorder,
    LayerCall,
    ReadingScope,
    exits,
    is_floating,
    widened,
)

# The rules register themselves.
from thesis_tf.gradient_norms.rules import convolution, normalization, recurrent  # noqa: F401


@dataclasses.dataclass
class _Ways:
    """How the gradients of each call's variables are found; variables are ids.

    Attributes:
        ruled: calls whose layers have a rule, whose inputs and outputs are rows of examples.
        mapped: calls that run again for each example.
        broadcast: (variable, tensor, its meetings with the batch) of values that a call reads.
        constant: calls on what doesn't depend on the batch, with the meetings of each output.
        whole: {variable: the name of a layer that leaves no way but a pass for each example}.
    """

    ruled: list[tuple[LayerCall, set[int]]] = dataclasses.field(default_factory=list)
    mapped: list[tuple[LayerCall, set[int]]] = dataclasses.field(default_factory=list)
    broadcast: list[tuple[int, tf.Tensor, list[Meeting]]] = dataclasses.field(default_factory=list)
    constant: list[tuple[LayerCall, set[int], list[list[Meeting]]]] = dataclasses.field(
        default_factory=list
    )
    whole: dict[int, str] = dataclasses.field(default_factory=dict)

    def sources(self) -> list[tf.Tensor]:
        """Returns the tensors whose gradients are needed."""
        found = [t for call, _ in self.ruled for t in call.sources()]
        # Those of calls with a rule, too: it may leave out a variable.
        found += [t for call, _ in self.ruled + self.mapped for t in exits(call.outputs)]
        everywhere = [places for _, _, places in self.broadcast]
        everywhere += [places for _, _, several in self.constant for places in several]
        return found + [meeting.output for places in everywhere for meeting in places]


class Pass:
    """A pass over a batch, which is traced into the current graph.

    Args:
        objective: the `Objective` whose per-example gradients are measured.
        x, y: the batch: placeholders of the graph, examples on the first axis.
        training: whether the model runs in training mode.
        regularization: whether each example's loss includes the regularizers.

    Attributes:
        example_bytes: the size of the largest output of a layer, for one example; known afterward.
    """

    def __init__(
        self,
        objective: Objective,
        x: Structure,
        y: Structure,
        *,
        training: bool,
        regularization: bool,
    ) -> None:
        self._objective, self._x, self._y = objective, x, y
        self._training, self._regularization = training, regularization
        self._values, self._constants = objective.read()
        # Persistent, as gradients of constant tensors are mapped over examples.
        self._tape = tf.GradientTape(persistent=True, watch_accessed_variables=False)
        self._recorder = GradientRecorder(self._tape, {id(v) for v in objective.variables})
        self._batch = BatchAxis(x)
        self._divisors: list[tf.Tensor] | None = None  # if losses depend on those of the batch
        self._gradients: dict[int, tf.Tensor] = {}
        self.example_bytes = 0

    def norms(self) -> tuple[tf.Tensor, list[tf.Tensor], Structure]:
        """Returns (losses, squared norms for each variable, outputs)."""
        with self._tape:
            losses, outputs = self._forward()
            total = tf.reduce_sum(losses)
        ways = self._ways()
        self._differentiate(total, ways.sources())
        return *self._measured(ways, losses), outputs

    def norms_and_gradients(
        self, scales: tf.Tensor
    ) -> tuple[tf.Tensor, list[tf.Tensor], list[tf.Tensor]]:
        """Returns (losses, squared norms for each variable, gradients of the scaled mean loss)."""
        scales = tf.cast(scales, self._values[0].dtype)
        with self._tape:
            self._tape.watch(self._values)
            losses, _ = self._forward()
            total = tf.reduce_sum(losses * tf.cast(scales, losses.dtype))
            sums = self._objective.example_loss.sums
            if not sums:
                total /= tf.cast(tf.shape(scales)[0], total.dtype)
            added = None
            if self._regularization:
                added = self._objective.regularization(self._values, self._constants)
            if added is not None:
                total += tf.cast(added, total.dtype)
        ways = self._ways()
        gradients = self._differentiate(total, ways.sources(), self._values)
        # Undoes the scaling of each example's term and the division by the batch size.
        factor = (1.0 if sums else tf.cast(tf.shape(scales)[0], scales.dtype)) / scales
        for key, gradient in self._gradients.items():
            shape = [-1, *[1] * (gradient.shape.rank - 1)]
            self._gradients[key] = gradient * tf.cast(tf.reshape(factor, shape), gradient.dtype)
        losses, squares = self._measured(ways, losses)
        return losses, squares, gradients

    def _forward(self) -> tuple[tf.Tensor, Structure]:
        """Runs the model and records every call; returns (losses (batch,), outputs)."""
        objective, recorder = self._objective, self._recorder
        scope = ReadingScope(recorder, collect_losses=True)
        with recording.recording(recorder):
            outputs = objective.outputs(
                self._values, self._constants, self._x, training=self._training, scope=scope
            )
        if self._training:
            for variable, value in zip(objective.constants, self._constants, strict=True):
                updated = scope.get_current_value(variable)
                if updated is not value:
                    variable.assign(updated)
        for call in recorder.calls:
            if isinstance(call.layer, keras.layers.BatchNormalization):
                normalization.refuse_batch_statistics(call)
        tensors = keras.tree.flatten([call.outputs for call in recorder.calls])
        sizes = [t.shape[1:].num_elements() or 0 for t in filter(is_floating, tensors)]
        self.example_bytes = max(sizes, default=0) * self._values[0].dtype.size
        losses = objective.example_losses(self._y, outputs)
        if objective.example_loss.divides and objective.divisors is None:
            entries = objective.example_loss.entries(self._y, outputs)
            self._divisors = [tf.reduce_mean(e) for e in entries]
        return losses, outputs

    def _ways(self) -> _Ways:
        """Decides for the variables of each call how their gradients are found."""
        ways, batch = _Ways(), self._batch
        readers = self._recorder.reads.items()
        for call in self._recorder.calls:
            rest = {key for key, calls in readers if any(reader is call for reader in calls)}
            if not rest:
                continue
            if call.rule is not None and _rows_are_examples(call, batch):
                ways.ruled.append((call, rest))
                continue
            for key in list(rest) if call.rule is None else []:
                values = call.values.get(key, [])
                several = _all_meetings(values, batch)
                if values and several is not None:
                    pairs = zip(values, several, strict=True)
                    ways.broadcast += [(key, value, places) for value, places in pairs]
                    rest.remove(key)
            if not rest:
                continue
            if call.rule is None and can_be_mapped(call, batch):
                ways.mapped.append((call, rest))
                continue
            several = None
            if all(map(batch.is_constant, keras.tree.flatten(call.arguments))):
                several = _all_meetings(exits(call.outputs), batch)
            if several is not None:
                ways.constant.append((call, rest, several))
            else:
                ways.whole |= dict.fromkeys(rest, call.layer.name)
        return ways

    def _differentiate(
        self, total: tf.Tensor, sources: list[tf.Tensor], values: Sequence[tf.Tensor] = ()
    ) -> list[tf.Tensor]:
        """Runs the backward pass; returns the gradients with respect to `values`."""
        unique = {id(t): t for t in sources}
        found = self._tape.gradient(
            total, [*unique.values(), *values], unconnected_gradients="zero"
        )
        self._gradients = dict(zip(unique, found, strict=False))
        return [tf.convert_to_tensor(g) for g in found[len(unique) :]]

    def _measured(self, ways: _Ways, losses: tf.Tensor) -> tuple[tf.Tensor, list[tf.Tensor]]:
        """Returns (losses, squared norms for each variable), regularization included."""
        variables = self._objective.variables
        forms = self._forms(ways)
        whole = dict(zip(ways.whole, self._one_by_one(ways, losses.dtype), strict=True))
        shifts, added = self._regularizers()
        squares = []
        for variable, shift in zip(variables, shifts, strict=True):
            if id(variable) in whole:
                squares.append(whole[id(variable)])
                continue
            square = tf.zeros_like(losses)
            if forms[id(variable)]:
                form = combined(forms[id(variable)])
                square = tf.cast(form.squared_norm(), losses.dtype)
                if shift is not None:
                    # |g + r|^2 without computing g.
                    square += 2 * tf.cast(form.inner(widened(shift)), losses.dtype)
            if shift is not None:
                square += tf.cast(tf.reduce_sum(tf.square(shift)), losses.dtype)
            squares.append(tf.maximum(square, 0))
        if added is not None:
            losses += tf.cast(added, losses.dtype)
        return losses, squares

    def _forms(self, ways: _Ways) -> dict[int, list[Form]]:
        """Returns {variable: the forms of its gradients at each use}."""
        forms: dict[int, list[Form]] = {id(v): [] for v in self._objective.variables}
        again = list(ways.mapped)
        for call, needed in ways.ruled:
            call.gradients = self._gradients
            rest = needed - ways.whole.keys()
            if not rest:
                continue
            rule = call.rule
            for variable, form in rule.gradients(call) if rule is not None else ():
                if id(variable) in rest:
                    forms[id(variable)].append(form)
                    rest.remove(id(variable))
            if rest:
                again.append((call, rest))
        for call, needed in again:
            self._add_mapped(forms, call, needed - ways.whole.keys(), self._of_outputs(call))
        for call, needed, several in ways.constant:
            rows = []
            for tensor, places in zip(exits(call.outputs), several, strict=True):
                found = gradients_by_example(tensor, places, self._gradients, self._tape)
                nothing = tf.zeros([self._num_examples, *tensor.shape], tensor.dtype)
                rows.append(nothing if found is None else found.dense())
            self._add_mapped(forms, call, needed - ways.whole.keys(), rows)
        for key, value, places in ways.broadcast:
            if key not in ways.whole:
                found = gradients_by_example(value, places, self._gradients, self._tape)
                forms[key] += [] if found is None else [found]
        return forms

    @property
    def _num_examples(self) -> tf.Tensor:
        return tf.shape(keras.tree.flatten(self._x)[0])[0]

    def _of_outputs(self, call: LayerCall) -> list[tf.Tensor]:
        """Returns the gradients with respect to a call's outputs; a tensor counts once."""
        found: dict[int, tf.Tensor] = {}
        gradients = []
        for tensor in exits(call.outputs):
            gradient = self._gradients[id(tensor)]
            gradients.append(tf.zeros_like(gradient) if id(tensor) in found else gradient)
            found[id(tensor)] = gradient
        return gradients

    def _add_mapped(
        self,
        forms: dict[int, list[Form]],
        call: LayerCall,
        needed: set[int],
        gradients: list[tf.Tensor],
    ) -> None:
        chosen = [
            (variable, value)
            for variable, value in zip(self._objective.variables, self._values, strict=True)
            if id(variable) in needed
        ]
        if chosen:
            variables, values = zip(*chosen, strict=True)
            for variable, form in mapped(call, variables, values, self._batch, gradients):
                forms[id(variable)].append(form)

    def _one_by_one(self, ways: _Ways, dtype: tf.DType) -> list[tf.Tensor]:
        """Returns the squared norms for the variables in `ways.whole`, by a pass per example."""
        if not ways.whole:
            return []
        objective = self._objective
        if self._training:
            for layer in objective.model._flatten_layers():
                if draws(layer):
                    raise ValueError(
                        f"{next(iter(ways.whole.values()))} is called on what has no row for each"
                        " example of the batch, so that each example needs a pass of its own;"
                        f" but in training mode {layer.name} draws random numbers, which would"
                        " differ. Leave out training=True (or, in training with importance"
                        " sampling, use workers, which measure norms in inference mode), or choose"
                        f" `parameters` without those of {next(iter(ways.whole.values()))}."
                    )
        numbers = {id(v): i for i, v in enumerate(objective.variables)}
        wanted = [self._values[numbers[key]] for key in ways.whole]
        graph = tf.compat.v1.get_default_graph()
        # For one example, a product of rank 4 has an axis of size 1.
        copies = 2 if has_unsafe_products(graph) else 1

        def one(example: Structure) -> list[tf.Tensor]:
            x, y = keras.tree.map_structure(lambda t: t[tf.newaxis], example)
            with tf.GradientTape(watch_accessed_variables=False) as tape:
                tape.watch(wanted)
                loss, _ = single_examples.loss_of_one(
                    objective,
                    self._values,
                    self._constants,
                    x,
                    y,
                    divisors=self._divisors,
                    regularization=self._regularization,
                    training=self._training,
                    copies=copies,
                )
            gradients = tape.gradient(loss, wanted, unconnected_gradients="zero")
            return single_examples.squared_norms(gradients, dtype)

        signature = [tf.TensorSpec((), dtype)] * len(wanted)
        return tf.map_fn(one, (self._x, self._y), fn_output_signature=signature)

    def _regularizers(self) -> tuple[list[tf.Tensor | None], tf.Tensor | None]:
        """Returns (gradient with respect to each value, value); a missing gradient is None."""
        nothing: list[tf.Tensor | None] = [None] * len(self._values)
        if not self._regularization:
            return nothing, None
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(self._values)
            added = self._objective.regularization(self._values, self._constants)
        return (nothing, None) if added is None else (tape.gradient(added, self._values), added)


def _all_meetings(tensors: Sequence[tf.Tensor], batch: BatchAxis) -> list[list[Meeting]] | None:
    """Returns the meetings of each tensor with the batch; None if those of one can't be told."""
    found: list[list[Meeting]] = []
    for tensor in tensors:
        places = meetings(tensor, batch)
        if places is None:
            return None
        found.append(places)
    return found


def _rows_are_examples(call: LayerCall, batch: BatchAxis) -> bool:
    """Returns whether what a rule looks at has one row for each example."""
    args, kwargs = call.arguments
    given = [args[0] if args else next(iter(kwargs.values()))]
    if recurrent.is_cell(call.layer):
        given.append(recurrent.states_of(call))
    return all(map(batch.holds_examples, [*keras.tree.flatten(given), *call.sources()]))
