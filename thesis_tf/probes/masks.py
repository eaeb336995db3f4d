"""Masks: which steps of a sequence count in its features.

A mask is (batch, time), and applies to axis 1 of an output (batch, time, ..., channels). It comes
from Keras, which attaches one to the outputs of some layers, or is one of the model's inputs, as in
every model of keras-hub. Sizes that agree don't make an axis the time axis: twelve heads may attend
to twelve tokens. So the time axis of an input's mask is found by tracing the model twice, with a
known and with an unknown number of steps, and layers that run backwards are followed in the graph.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import tensorflow as tf

from thesis_tf._core import checks
from thesis_tf._keras import recording
from thesis_tf._keras.inputs import input_spec, is_functional
from thesis_tf._keras.tracing import time_order

if TYPE_CHECKING:
    from thesis_tf.probes.taps import Tap

AUTO, KERAS, NONE = "auto", "keras", "none"
_REVERSED = " reversed"
_ENDINGS = ("padding_mask", "attention_mask", "input_mask", "token_mask")
# Numbers of steps for a model that takes any: no width or number of heads is likely to be equal.
_STEPS, _OTHER_STEPS = 11, 13


def named_inputs(model: keras.Model, inputs: Any) -> dict[str, Any]:
    """Returns {name: leaf} of a structure of inputs: its keys, or else the names of Keras' inputs.

    Args:
        model: the model.
        inputs: tensors, arrays or `tf.TensorSpec`s in a structure that the model takes.
    """
    leaves = keras.tree.flatten_with_path(inputs)
    names = ["/".join(map(str, path)) for path, _ in leaves]
    if is_functional(model) and len(model.inputs) == len(leaves):
        by_key = [any(isinstance(key, str) for key in path) for path, _ in leaves]
        names = [
            name if keyed else tensor.name
            for name, keyed, tensor in zip(names, by_key, model.inputs, strict=True)
        ]
    return dict(zip(names, (leaf for _, leaf in leaves), strict=True))


@dataclasses.dataclass(frozen=True)
class _InputMask:
    """An input that is a mask: its name, and the names of all inputs that have its time axis."""

    name: str
    group: frozenset[str]
    guessed: bool


class Masks:
    """The mask of each output in one recorded pass.

    Args:
        model: the model.
        recorder: a pass of it.
        spec: the `tf.TensorSpec`s of the inputs in this pass.
        mask: "auto" uses Keras' masks and, for outputs without one, inputs that are masks by their
            name and shape; "keras" Keras' only; "none" or None no mask; the name of an input, that
            input for outputs without a Keras mask.

    Raises:
        ValueError: `mask` is not the name of an input of shape (batch, time), or "auto" finds
            several masks of the same inputs, or the steps of a chosen input can't be followed.
    """

    def __init__(
        self, model: keras.Model, recorder: recording.Recorder, spec: Any, mask: str | None
    ) -> None:
        self._model, self._recorder, self._spec = model, recorder, spec
        # Data of integers may be cast to the dtypes that the model declares.
        self._declared = input_spec(model) if is_functional(model) else spec
        self._batch = keras.tree.flatten(spec)[0].shape[0]
        self._sources: dict[str, str] = {}
        self._not_of_steps: set[str] = set()
        self._unknown: set[str] = set()
        self._lost: set[str] = set()
        self._guessed: list[str] = []
        self._remarks: list[str] = []
        found = [] if mask in (None, NONE, KERAS) else self._inputs(str(mask))
        if mask in (None, NONE):
            return
        self._take_keras_masks()
        for one in found:
            self._take_input(one)
        self._lost -= set(self._sources)

    def of(self, name: str) -> str:
        """Returns the `Tap.mask` of an output."""
        return self._sources.get(name, "")

    def note(self, names: Iterable[str]) -> str:
        """Returns in a few words what was guessed, and where masks are left out; "" for nothing."""
        names, parts = list(names), []
        for guess in self._guessed:
            if at := [name for name in names if self._source(name) == guess]:
                parts.append(
                    f"The input {guess!r} is taken for the mask of steps at {_listed(at)}:"
                    f" mask={guess!r} says so, mask={KERAS!r} leaves it out."
                )
        texts = (
            (self._not_of_steps, "Masks that aren't (batch, time) of their output are left out at"),
            (self._unknown, "Masks are left out, as it can't be told which steps they mean, at"),
            (self._lost, "Masked steps count, since Keras doesn't pass the mask on, at"),
        )
        for taps, text in texts:
            if at := [name for name in names if name in taps and not self.of(name)]:
                parts.append(f"{text} {_listed(at)}.")
        return " ".join([*self._remarks, *parts])

    def _source(self, name: str) -> str:
        return self.of(name).removesuffix(_REVERSED)

    def _take_keras_masks(self) -> None:
        if all(place.mask is None for place in self._recorder.places):
            return
        # With a known number of steps, an output with another number than its mask shows.
        recorder = self._recorder
        with contextlib.suppress(Exception):  # any of a model that doesn't take such inputs
            recorder = self._traced(frozenset(), None)
        orders = time_order.orders(recorder)
        masked = [place for place in recorder.places if place.mask is not None]
        carried = {id(place.tensor): place.mask for place in masked}
        steps: dict[int, int | None] = {}
        for place in masked:
            if place.tensor.shape.rank in (None, 0, 1, 2):  # no time axis
                continue
            if not self._is_of_steps(place, carried):
                self._not_of_steps.add(place.name)
                continue
            order = time_order.differ(
                orders.get(id(place.tensor), False), orders.get(id(place.mask), False)
            )
            if order is None:
                self._unknown.add(place.name)
                continue
            self._sources[place.name] = KERAS + (_REVERSED if order else "")
            steps[id(place.tensor)] = place.mask.shape[1]
        known = {*self._sources, *self._not_of_steps, *self._unknown}
        self._lost = {
            name
            for name, tensor in time_order.behind(recorder, steps).items()
            if name not in known and (tensor.shape.rank or 0) > 2
            if tensor.shape[1] in {*steps.values(), None}
        }

    def _is_of_steps(self, place: recording.Place, carried: Mapping[int, Any]) -> bool:
        """Returns whether a Keras mask is (batch, time) of its tensor."""
        mask, tensor = place.mask, place.tensor
        if not isinstance(mask, tf.Tensor) or getattr(mask, "graph", None) is not tensor.graph:
            return False
        if isinstance(place.operation, keras.layers.Softmax):
            # Its argument `mask` fits the last axes, and Keras then takes it for that of steps.
            args, kwargs = place.arguments or ((), {})
            given = args[0] if args else kwargs.get("inputs")
            if carried.get(id(given)) is not mask:
                return False
        return (
            mask.shape.rank == 2
            and mask.shape[0] in (None, self._batch)
            and mask.shape[1:].is_compatible_with(tensor.shape[1:2])
        )

    def _inputs(self, mask: str) -> list[_InputMask]:
        """Returns the inputs that are masks."""
        inputs = named_inputs(self._model, self._spec)
        if mask != AUTO:
            if mask not in inputs:
                advice = f"{AUTO!r}, {KERAS!r} and {NONE!r} are possible, too."
                raise checks.invalid(
                    "`mask`",
                    f"the name of an input of {self._model.name}",
                    repr(mask),
                    f"{checks.nearest(mask, inputs)} {advice}",
                )
            if inputs[mask].shape.rank != 2:
                raise checks.invalid(
                    "`mask`", "an input (batch, time)", f"{mask!r}, {tuple(inputs[mask].shape)}"
                )
            group = self._group(inputs, mask, [mask])
            group = group if len(group) > 1 else self._group(inputs, mask)
            return [_InputMask(mask, group, guessed=False)]
        names = [n for n in inputs if n.endswith(_ENDINGS) or n.rpartition("/")[2] == "mask"]
        declared = named_inputs(self._model, self._declared)
        usable = []
        for name in names:
            leaf = declared.get(name, inputs[name])
            if leaf.shape.rank == 2 and (leaf.dtype.is_integer or leaf.dtype.is_bool):
                usable.append(name)
            else:
                self._remarks.append(
                    f"The input {name!r} isn't taken for a mask, which is (batch, time) of integers"
                    f" or bool: it is {tuple(leaf.shape)} of {leaf.dtype.name}."
                )
        found = []
        for name in usable:
            group = self._group(inputs, name, usable)
            if len(group) == 1 and len(all_of_its_size := self._group(inputs, name)) == 2:
                group = all_of_its_size
            if len(group) > 1:
                found.append(_InputMask(name, group, guessed=True))
            else:
                self._remarks.append(
                    f"The input {name!r} isn't taken for a mask, as its name and size don't tell of"
                    f" which inputs: mask={name!r} takes it for all of its size."
                )
        for first, second in itertools.combinations(found, 2):
            if first.group & second.group:
                raise checks.invalid(
                    "`mask`",
                    "the name of one input",
                    repr(AUTO),
                    f"{first.name} and {second.name} both look like the mask of the same inputs.",
                )
        return found

    def _group(
        self, inputs: Mapping[str, Any], mask: str, masks: Sequence[str] | None = None
    ) -> frozenset[str]:
        """Returns the inputs with the time axis of `mask`: those of its size.

        Args:
            inputs: {name: spec}.
            mask: the name of the mask.
            masks: the names of all masks: only inputs with its prefix, e.g. all "encoder_*", and
                for a mask without one those that have no other's prefix; None takes all.
        """
        prefix = _prefix(mask) if masks else ""
        others = tuple({_prefix(name) for name in masks or ()} - {"", prefix})
        return frozenset(
            name
            for name, leaf in inputs.items()
            if name.startswith(prefix)
            and not (not prefix and name.startswith(others))
            and leaf.shape.rank not in (None, 0, 1)
            and leaf.shape[1] == inputs[mask].shape[1]
        )

    def _take_input(self, mask: _InputMask) -> None:
        """Finds the outputs to which an input's mask applies."""
        steps = named_inputs(self._model, self._spec)[mask.name].shape[1] or _STEPS
        try:
            known, unknown = self._traced(mask.group, steps), self._traced(mask.group, None)
        except Exception as error:  # any of a model that doesn't take such inputs
            reason = str(error).strip().partition("\n")[0][:200]
            said = f"Its steps can't be followed through {self._model.name}: {reason}"
            if mask.guessed:
                self._remarks.append(f"The input {mask.name!r} isn't used as a mask. {said}")
                return
            raise checks.invalid(
                "`mask`", f"{KERAS!r} or {NONE!r} for this model", repr(mask.name), said
            ) from error
        orders = time_order.orders(known)
        free = {place.name: place.tensor.shape for place in unknown.places}
        places = {place.name: place.tensor for place in known.places}
        if mask.guessed:
            self._guessed.append(mask.name)
        for place in self._recorder.places:
            name = place.name
            if name in self._sources or (place.tensor.shape.rank or 0) < 3:
                continue
            if name not in places or name not in free:
                self._unknown.add(name)
                continue
            if places[name].shape[1] not in (steps, None) or free[name].rank in (None, 0, 1):
                continue
            order = orders.get(id(places[name]), False)
            if places[name].shape[1] is None:
                self._unknown.add(name)
            elif free[name][1] is not None:
                # It has as many steps for any inputs: those of a model made for one number, or not.
                if free[name][1:].is_fully_defined():
                    self._unknown.add(name)
            elif order is None:
                self._unknown.add(name)
            else:
                self._sources[name] = mask.name + (_REVERSED if order else "")

    def _traced(self, group: frozenset[str], steps: int | None) -> recording.Recorder:
        """Records a pass with this number of steps in the inputs of a group."""
        specs = named_inputs(self._model, self._spec)
        changed = []
        for name, leaf in specs.items():
            shape = list(leaf.shape)
            if name in group:
                shape[1] = steps
            elif len(shape) > 1 and shape[1] is None:
                shape[1] = _OTHER_STEPS
            changed.append(tf.TensorSpec(shape, leaf.dtype))
        if [leaf.shape for leaf in specs.values()] == [leaf.shape for leaf in changed]:
            return self._recorder
        spec = keras.tree.pack_sequence_as(self._spec, changed)
        return recording.record_pass(self._model, spec)


def steps_that_count(
    model: keras.Model, tap: Tap, place: recording.Place, inputs: Any
) -> tf.Tensor | None:
    """Returns the mask (batch, time) of bool for axis 1 of a tap's output; None if all steps count.

    Args:
        model: the model.
        tap: the tap, with its `mask`.
        place: the tap's output in the pass that is traced.
        inputs: the inputs of this pass.

    Raises:
        ValueError: the output or the inputs have no such mask in this pass.
    """
    if not tap.mask:
        return None
    source = tap.mask.removesuffix(_REVERSED)
    mask = place.mask if source == KERAS else named_inputs(model, inputs).get(source)
    if mask is None:
        raise ValueError(
            f"Tap {tap.name!r} has no mask {source!r} in this pass of model '{model.name}'. The"
            f" inputs are {', '.join(named_inputs(model, inputs))}."
        )
    mask = tf.convert_to_tensor(mask)
    if source != KERAS and mask.dtype != tf.bool:
        tf.debugging.Assert(tf.reduce_all((mask == 0) | (mask == 1)), [_not_binary(source)])
    steps = tf.cast(mask, tf.bool)
    wrong = (
        f"Tap {tap.name!r} and its mask {source!r} have different numbers of steps. Leave out this"
        f" tap, or pass mask={NONE!r}."
    )
    if not steps.shape[1:2].is_compatible_with(place.tensor.shape[1:2]):
        raise ValueError(wrong)
    if None in (steps.shape[1], place.tensor.shape[1]):
        tf.debugging.assert_equal(tf.shape(steps)[1], tf.shape(place.tensor)[1], wrong)
    return tf.reverse(steps, [1]) if tap.mask.endswith(_REVERSED) else steps


def check_values(model: keras.Model, taps: Iterable[Tap], batch: Any) -> None:
    """Raises unless the masks among a batch of NumPy inputs hold only 0 and 1."""
    sources = {tap.mask.removesuffix(_REVERSED) for tap in taps} - {"", KERAS}
    inputs = named_inputs(model, batch) if sources else {}
    for source in sources:
        values = np.asarray(inputs[source])
        if not np.isin(values, (0, 1)).all():
            raise ValueError(_not_binary(source))


def _not_binary(name: str) -> str:
    return (
        f"The mask {name!r} must hold 1 for steps that count and 0 for others, and holds other"
        f" values. mask={KERAS!r} leaves it out."
    )


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(names[:3])
    if len(names) <= 3:
        return shown
    return f"{shown} and {len(names) - 3} more taps"


def _prefix(name: str) -> str:
    """Returns what precedes the common name of a mask: "encoder_" for "encoder_padding_mask"."""
    ending = next((ending for ending in (*_ENDINGS, "mask") if name.endswith(ending)), name)
    return name.removesuffix(ending)
