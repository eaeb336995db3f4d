"""Names of a model's layers, places and parameters: the same in every area.

A layer's name is its path from the model inward, such as "encoder/dense"; `probes.taps` prints
these paths, with "#2" after a layer's second call and ":1" after the second of several tensors.
The end of a name ("dense") can be used instead of the full name if only one path matches.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from thesis_tf._core import checks
from thesis_tf._core.types import Structure
from thesis_tf._keras import recording
from thesis_tf._keras.inputs import input_spec

if TYPE_CHECKING:
    import keras

_CALL = re.compile(r"(#\d+)?(:\d+)?$")


def resolve(argument: str, name: str, options: Iterable[str]) -> list[str]:
    """Returns the options that match a name, in their order; [] if there are none.

    If an option has exactly this name, it is the result; otherwise, if a call with this name
    returned several tensors, these are ("lstm" matches "lstm:0" and "lstm:1"); otherwise the same
    rules apply to the only option that ends in "/NAME".

    Args:
        argument: the caller's argument with the name, such as "`taps`"; for the error.
        name: the name.
        options: full names.

    Raises:
        ValueError: several options end in "/NAME".
    """
    options = list(dict.fromkeys(options))
    if name in options:
        return [name]
    calls: dict[str, list[str]] = {}
    for option in options:
        calls.setdefault(option.partition(":")[0], []).append(option)
    if name in calls:
        return calls[name]
    ends = {
        call: [option for option in found if option.endswith(f"/{name}")] or found
        for call, found in calls.items()
        if call.endswith(f"/{name}") or any(option.endswith(f"/{name}") for option in found)
    }
    if len(ends) > 1:
        raise checks.invalid(
            argument, "a name that fits one place", repr(name), f"It fits {', '.join(ends)}."
        )
    return next(iter(ends.values()), [])


def layers(model: keras.Layer) -> dict[str, keras.Layer]:
    """Returns {path: layer} of all layers in a model, a shared one under each of its paths.

    If several layers have the same path, the first is kept.
    """
    found: dict[str, keras.Layer] = {}
    for path, chain in _walk(model, "", ()):
        found.setdefault(path, chain[-1])
    return found


def _walk(
    layer: keras.Layer, prefix: str, above: tuple[keras.Layer, ...]
) -> Iterator[tuple[str, tuple[keras.Layer, ...]]]:
    """Yields (path, layers from the model inward) of every layer."""
    above = (*above, layer)
    for inner in layer._flatten_layers(include_self=False, recursive=False):
        if not any(inner is outer for outer in above):  # references may be cyclic
            path = prefix + inner.name
            yield path, (*above, inner)
            yield from _walk(inner, f"{path}/", above)


def of_variables(
    model: keras.Model, variables: Iterable[keras.Variable], inputs: Structure | None = None
) -> list[str]:
    """Returns the name of the layer of each variable, as `probes.taps` prints it.

    Keras' paths of variables don't have such names: they lack the names of outer models that were
    created later, so variables of different layers may have one path. A layer that is called
    several times has the name of its first call. If the outputs of a layer can't be read, like
    those of a cell in a loop, its variables have the name of the layer around it. A layer that
    isn't called has its path, and the model has its own name.

    Args:
        model: a built Keras model.
        variables: trainable variables of the model.
        inputs: as for `input_spec`.

    Raises:
        ValueError: the shapes of the model's inputs are unknown, and no `inputs` were given.
    """
    called: dict[int, str] = {}
    for place in recording.record_pass(model, input_spec(model, inputs)).places:
        called.setdefault(id(place.operation), place.name.partition(":")[0])
    found: dict[int, str] = {}
    paths: dict[int, str] = {}
    for path, (_, *chain) in _walk(model, "", ()):
        names = [called[id(layer)] for layer in chain if id(layer) in called]
        for variable in chain[-1]._trainable_variables:
            paths.setdefault(id(variable), path)
            if names:
                found.setdefault(id(variable), names[-1])
    names_or_paths = paths | found
    return [names_or_paths.get(id(variable), model.name) for variable in variables]


def variables(argument: str, model: keras.Layer, name: str) -> list[keras.Variable]:
    """Returns the trainable variables that match a name, in the model's order.

    Args:
        argument: the caller's argument with the name, such as "`parameters`".
        model: a built Keras model.
        name: a layer's or a tap's name, for all variables in that layer; a variable's, such as
            "dense/kernel"; or a glob of either, such as "conv*/kernel" or "conv*". The model's name
            may precede it.

    Raises:
        ValueError: nothing matches (the message lists similar names), or several layers match.
    """
    # Several layers may have one path, and so may variables.
    options: dict[str, list[keras.Variable]] = {}
    for path, (*_, layer) in _walk(model, "", ()):
        options.setdefault(path, []).extend(layer.trainable_variables)
        for variable in layer.trainable_variables:
            if any(variable is own for own in layer._trainable_variables):
                options.setdefault(f"{path}/{variable.name}", []).append(variable)
    # Keras' path lacks the names of outer layers if the variable was created before them.
    theirs: dict[str, list[keras.Variable]] = {}
    for variable in model.trainable_variables:
        theirs.setdefault(variable.path.removeprefix(f"{model.name}/"), []).append(variable)
    # So several variables may have one path, which then names none of them.
    theirs = {path: found for path, found in theirs.items() if len(found) == 1}
    # The prefix is the model's name, unless a layer in it has the same.
    wanted = name if name in options else name.removeprefix(f"{model.name}/")
    everything = theirs | options
    everything.setdefault(model.name, model.trainable_variables)
    if wanted in everything:
        found = [wanted]
    elif set(wanted) & set("*?["):
        found = fnmatch.filter(theirs | options, wanted)
    else:
        found = resolve(argument, _CALL.sub("", wanted), options)
    chosen = {id(variable) for option in found for variable in everything[option]}
    if chosen:
        return [variable for variable in model.trainable_variables if id(variable) in chosen]
    advice = checks.nearest(wanted, [path for path, inside in options.items() if inside])
    if found:
        advice = f"It has no trainable parameters. {advice}"
    raise checks.invalid(
        argument, f"layers or trainable variables of {model.name}", repr(name), advice
    )
