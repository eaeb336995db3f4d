"""Which layers' per-example gradients are known in closed form, and by which rule."""

import dataclasses
from collections.abc import Callable

import keras

from thesis_tf._core import checks


@dataclasses.dataclass(frozen=True)
class Rule:
    """How a kind of layer gives its weights' per-example gradients.

    Attributes:
        gradients: a function from a `Call` to an iterable of (variable, `Form`).
        captures: attributes of the layer that hold activation functions. While a call is traced,
            what these functions are given and return is kept.
        applies: a function from a layer to whether the rule holds for its settings.
    """

    gradients: Callable
    captures: tuple = ("activation",)
    applies: Callable = lambda layer: True


_RULES = {}


def register(*kinds, captures=("activation",), applies=lambda layer: True):
    """Makes a function the rule of layer classes, yours included.

    The rule of a layer that computes w'x + b and then an activation function:

        @register(MyDense)
        def my_dense(call):
            yield call.layer.w, Outer(with_places(call.inputs), with_places(call.gradient))
            yield call.layer.b, Full(call.gradient)

    `call.inputs` is what the layer was given, `call.gradient` the gradient of the sum of all
    examples' losses with respect to what its last captured activation was given; without captures,
    with respect to what the layer put out. Both have the examples on their first axis. A weight
    that the rule does not name is found by mapping over examples, as are those of subclasses with a
    `call` of their own. The self-check of `per_example_gradient_norms` tries the rule.

    Args:
        *kinds: subclasses of `keras.layers.Layer`.
        captures: the names of attributes that hold activation functions.
        applies: whether the rule holds for a layer's settings; where it does not, the layer counts
            as one without a rule.
    """
    for kind in kinds:
        if not (isinstance(kind, type) and issubclass(kind, keras.layers.Layer)):
            raise checks.invalid(
                "A layer class", "a subclass of keras.layers.Layer", repr(kind), kind=TypeError
            )

    def registered(function):
        for kind in kinds:
            _RULES[kind] = Rule(function, tuple(captures), applies)
        return function

    return registered


def rule_of(layer):
    """Returns the `Rule` of a layer, or None; a subclass with a `call` of its own has none."""
    for kind in type(layer).__mro__:
        if kind in _RULES:
            rule = _RULES[kind]
            return rule if type(layer).call is kind.call and rule.applies(layer) else None
    return None


def registered_kinds():
    """Returns the layer classes that have a rule."""
    return tuple(_RULES)
