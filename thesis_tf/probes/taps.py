"""Taps: all places in a Keras model whose output can be read, with their names."""

from __future__ import annotations

import dataclasses
import fnmatch
import inspect
import warnings
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import keras
import tensorflow as tf

from thesis_tf._core import checks
from thesis_tf._core.types import Structure
from thesis_tf._keras import names as layer_names
from thesis_tf._keras import recording
from thesis_tf._keras.inputs import build, input_spec, is_functional
from thesis_tf.probes import masks
from thesis_tf.probes.reductions import Reduction


@dataclasses.dataclass(frozen=True)
class Tap:
    """A place in a model where a probe can be attached (thesis, section 9.3).

    Attributes:
        name: the path of layer names from the model inward, e.g. "encoder/dense". The second
            call of a shared layer is "dense#2", the second tensor of a layer that returns
            several is "lstm:1". The model's inputs and outputs are "input" and "output".
        shape: the static shape with the batch axis, e.g. (None, 28, 28, 32).
        dtype: the name of the dtype, e.g. "bfloat16".
        kind: the name of the layer's or operation's class, e.g. "Conv2D"; "Model" for the inputs
            and outputs of the model itself.
        mask: which steps of a sequence, axis 1, count in features: "" for all, "keras" for those
            that the output's Keras mask lets through, or the name of the input that is the mask;
            with " reversed" if the layer runs backwards.
    """

    name: str
    shape: tuple[int | None, ...]
    dtype: str
    kind: str
    _: dataclasses.KW_ONLY
    mask: str = ""


# The forms of a selection of taps; see `taps`.
Rule: TypeAlias = str | Tap | type | Callable[[Tap], bool]
Selection: TypeAlias = Rule | Sequence[Rule]


def taps(
    model: keras.Model,
    taps: Selection = "*",
    *,
    inputs: Structure | None = None,
    mask: str | None = masks.AUTO,
) -> list[Tap]:
    """Lists the taps of `model` in the order of computation.

    Works with functional, Sequential, nested, subclassed and recurrent models, with shared layers
    and `keras.ops` nodes. Two kinds of places have no tap: those inside a loop (the cell of an
    LSTM), and functions other than layers in a subclassed `call`, where only layers are recorded.

    Args:
        model: a `keras.Model`.
        taps: the selection: a name, or its end if only one tap matches ("dense" for
            "encoder/dense"); a glob over names, e.g. "conv?_block*_add"; "class:Add" for all
            layers of a class; a layer class; a function from `Tap` to bool; or a sequence of
            these. If several taps have the same tensor (a nested model and its last layer; a
            dropout in inference mode and its input), only one is listed unless each is selected by
            its name.
        inputs: an example of the inputs, or `tf.TensorSpec`s with the batch axis; only needed for
            a model that is not built yet.
        mask: which steps of padded sequences count. "auto": those that Keras' masks let through
            and, where an output has none, those of an input that is a mask (batch, time) of
            integers or bool by its name, such as "padding_mask"; "keras": Keras' masks only; the
            name of an input: that input where an output has no Keras mask; "none" or None: all.

    Returns:
        A list of `Tap`.

    Raises:
        ValueError: no tap matches (the message lists similar names), the model is not built, or
            `mask` isn't the name of a mask.
    """
    return record_taps(model, inputs=inputs, mask=mask).select(taps)


def record_taps(
    model: keras.Model, *, inputs: Structure | None = None, mask: str | None = masks.NONE
) -> TapGraph:
    """Records the tensors of one inference pass of `model`, and returns its `TapGraph`."""
    if not isinstance(model, keras.Layer):
        raise checks.invalid("`model`", "a keras.Model", repr(model), kind=TypeError)
    spec = input_spec(model, inputs=inputs)
    build(model, spec)
    return TapGraph(model, recording.record_pass(model, spec), spec, mask=mask)


class TapGraph:
    """The taps of one inference pass of a model, and the data flow among them.

    Attributes:
        taps: a dict from name to `Tap`, in the order of computation.
        outputs: the taps of the model's outputs.
        spec: the `tf.TensorSpec`s of the model's inputs, in the structure of its input.
    """

    def __init__(
        self,
        model: keras.Model,
        recorder: recording.Recorder,
        spec: Any,
        *,
        mask: str | None = masks.NONE,
    ) -> None:
        self._model = model
        self.spec = spec
        batch = keras.tree.flatten(spec)[0].shape[0]
        self._masks = masks.Masks(model, recorder, spec, mask)
        self.taps: dict[str, Tap] = {}
        self._tensors: dict[str, tf.Tensor] = {}
        self._classes = {path: type(o) for path, o in recorder.out_of_reach.items()}
        self._out_of_reach = [
            Tap(path, (), "", kind.__name__) for path, kind in self._classes.items()
        ]
        for place in recorder.places:
            name, tensor, operation = place.name, place.tensor, place.operation
            # If the first axis isn't the batch (as for a transposed kernel), there are no examples.
            if tensor.shape.rank in (None, 0) or tensor.shape[0] != batch:
                continue
            if tensor.dtype in (tf.string, tf.bool):  # texts and masks
                continue
            kind = type(operation).__name__ if operation is not model else "Model"
            self.taps[name] = Tap(
                name, tuple(tensor.shape), tensor.dtype.name, kind, mask=self._masks.of(name)
            )
            self._tensors[name] = tensor
            self._classes[name] = type(operation)
        self.outputs = [
            tap
            for tap in self.taps.values()
            if tap.kind == "Model" and tap.name.split("/")[0] == "output"
        ]

    def output_among(self, taps: Sequence[Tap]) -> str:
        """Returns the name of the tap that is the model's only output; "" if there is none."""
        if len(self.outputs) != 1:
            return ""
        output = self._tensors[self.outputs[0].name]
        return next((tap.name for tap in taps if self._tensors[tap.name] is output), "")

    def warn_of_masks(self, taps: Sequence[Tap], *, stacklevel: int) -> None:
        """Warns of masks that were guessed or left out at some taps, if there are any."""
        if note := self._masks.note([tap.name for tap in taps]):
            warnings.warn(note, stacklevel=stacklevel + 1)

    def select(self, taps: Selection) -> list[Tap]:
        """Returns the list of taps that match; see `taps`."""
        wanted: Sequence[Any] = taps if isinstance(taps, (list, tuple)) else [taps]
        if not wanted:
            raise checks.invalid("`taps`", "a name, glob, class or function", repr(taps))
        chosen: dict[str, bool] = {}  # {tap: whether it was selected by name}
        for rule in wanted:
            name = rule.name if isinstance(rule, Tap) else rule
            if isinstance(name, str) and name in self.taps:
                chosen[name] = True
                continue
            matches = [tap.name for tap in self.taps.values() if self._matches(tap, name)]
            named = False
            if isinstance(name, str) and not matches:
                named, matches = True, layer_names.resolve("`taps`", name, self.taps)
            if not matches:
                raise ValueError(self._explain(name))
            for match in matches:
                chosen[match] = chosen.get(match, False) or named
        kept, seen = [], {id(self._tensors[name]) for name, asked in chosen.items() if asked}
        for name, tap in self.taps.items():
            if name not in chosen:
                continue
            if not chosen[name]:
                if id(self._tensors[name]) in seen:
                    continue
                seen.add(id(self._tensors[name]))
            kept.append(tap)
        return kept

    def _matches(self, tap: Tap, rule: Any) -> bool:
        if isinstance(rule, str):
            if rule.startswith("class:"):
                return fnmatch.fnmatchcase(tap.kind, rule.removeprefix("class:"))
            return fnmatch.fnmatchcase(tap.name, rule)
        if inspect.isclass(rule):
            return tap.kind != "Model" and issubclass(self._classes[tap.name], rule)
        if callable(rule):
            return bool(rule(tap))
        raise checks.invalid(
            "`taps`",
            "a name, glob, layer class, function or a list of these",
            repr(rule),
            kind=TypeError,
        )

    def _explain(self, rule: Any) -> str:
        text = rule if isinstance(rule, str) else getattr(rule, "__name__", repr(rule))
        message = f"No tap of model '{self._model.name}' matches {text!r}."
        is_function = not isinstance(rule, str) and not inspect.isclass(rule)
        if not is_function and any(self._matches(tap, rule) for tap in self._out_of_reach):
            return (
                f"{message} It is called inside a loop, where its tensors can't be read: tap the"
                " recurrent layer around it (with return_sequences=True for every step)."
            )
        if text.rpartition("/")[2] in {layer.name for layer in self._model._flatten_layers()}:
            return (
                f"{message} The model has such a layer, but at inference it is not called, or an"
                " outer layer calls it in a separate graph (TimeDistributed): tap the outer layer."
            )
        kinds = [tap.kind for tap in self.taps.values()]
        if text.startswith("class:") or inspect.isclass(rule):
            return f"{message} {checks.nearest(text.removeprefix('class:'), kinds)}"
        message = f"{message} {checks.nearest(text, self.taps)}"
        if any(not is_functional(layer) for layer in [self._model, *_submodels(self._model)]):
            message += (
                " Inside a subclassed `call`, only layers are recorded, not keras.ops and tf"
                " functions: make the step a layer, e.g. keras.layers.Activation('relu')."
            )
        return message

    def edges(self, names: Sequence[str]) -> list[tuple[str, str]]:
        """Returns the data flow among taps as (parent, child) pairs of names.

        There is a pair for each path from one tap to another that passes through no third tap.
        """
        by_tensor: dict[int, str] = {}
        for name in names:
            by_tensor.setdefault(id(self._tensors[name]), name)
        pairs = []
        for name in names:
            start = self._tensors[name]
            if by_tensor[id(start)] != name:
                pairs.append((by_tensor[id(start)], name))
                continue
            stack, visited = list(start.op.inputs), set[int]()
            while stack:
                tensor = stack.pop()
                if id(tensor) in visited:
                    continue
                visited.add(id(tensor))
                parent = by_tensor.get(id(tensor))
                if parent is not None:
                    pairs.append((parent, name))
                else:
                    stack.extend(tensor.op.inputs)
        order = {name: index for index, name in enumerate(names)}
        return sorted(set(pairs), key=lambda pair: (order[pair[1]], order[pair[0]]))


def forward(
    model: keras.Model, names: Sequence[str]
) -> Callable[[Any], tuple[Any, dict[str, tf.Tensor]]]:
    """Returns a function x -> (the model's outputs, {tap: output}) for one inference pass.

    The pass is that of `model(x, training=False)`, but stateless: dropout is off, batch
    normalization uses its moving averages, and the model does not change, not even the seed of a
    layer that is random at inference (which thus draws the same numbers in every pass).
    Call it inside a `tf.function`: watching costs time while it is traced and none afterwards.
    Outputs keep the dtype in which the model computes.
    """

    def call(x: Any) -> tuple[Any, dict[str, tf.Tensor]]:
        outputs, places = _run(model, names, x)
        return outputs, {name: places[name].tensor for name in names}

    return call


@dataclasses.dataclass(frozen=True, eq=False)
class Features:
    """What one pass of a model gave.

    Attributes:
        outputs: the model's outputs.
        features: the features (batch, D) of each tap.
        tensors: the whole outputs of other taps.
        empty: (batch,) whether all steps of an example are masked at some tap; its features there
            are 0. None without masks.
    """

    outputs: Any
    features: dict[str, tf.Tensor]
    tensors: dict[str, tf.Tensor]
    empty: tf.Tensor | None


def features(
    model: keras.Model, taps: Sequence[Tap], reduction: Reduction, *, whole: Sequence[str] = ()
) -> Callable[[Any], Features]:
    """Returns a function x -> `Features` for one inference pass, like that of `forward`.

    Args:
        model: the model.
        taps: the taps to reduce, with their masks.
        reduction: the `Reduction`.
        whole: the names of taps whose outputs are returned as they are.
    """

    def call(x: Any) -> Features:
        outputs, places = _run(model, [tap.name for tap in taps] + list(whole), x)
        reduced: dict[str, tf.Tensor] = {}
        empty: dict[Any, tf.Tensor] = {}
        for tap in taps:
            place = places[tap.name]
            steps = masks.steps_that_count(model, tap, place, x)
            reduced[tap.name] = reduction(place.tensor, tap.name, mask=steps)
            source = (tap.mask, id(place.mask))
            if steps is not None and source not in empty:
                empty[source] = ~tf.reduce_any(steps, 1)
        return Features(
            outputs,
            reduced,
            {name: places[name].tensor for name in whole},
            tf.reduce_any(tf.stack(list(empty.values())), 0) if empty else None,
        )

    return call


def _run(
    model: keras.Model, names: Sequence[str], x: Any
) -> tuple[Any, dict[str, recording.Place]]:
    """Runs one pass; returns the model's outputs and {name: place}, which has all the names."""
    recorder = recording.forward(model, x)
    places = {place.name: place for place in recorder.places}
    missing = [name for name in names if name not in places]
    if missing:
        raise ValueError(
            f"Tap {missing[0]!r} was not reached in this pass of model '{model.name}'. "
            f"{checks.nearest(missing[0], places)}"
        )
    return recorder.outputs, places


def _submodels(model: keras.Model) -> list[keras.Model]:
    return [layer for layer in model._flatten_layers() if isinstance(layer, keras.Model)]
