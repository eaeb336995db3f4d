"""The registry of rules: layer classes whose per-example gradients have a closed form."""

import dataclasses
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, TypeAlias, TypeVar

import keras

from thesis_tf._core import checks
from thesis_tf.gradient_norms.forms import Form

if TYPE_CHECKING:
    from thesis_tf.gradient_norms.recording import LayerCall

# The result of a rule: each variable with the form of its per-example gradients.
Forms: TypeAlias = Iterator[tuple[keras.Variable, Form]]
Gradients: TypeAlias = Callable[["LayerCall"], Iterable[tuple[keras.Variable, Form]]]
_F = TypeVar("_F", bound=Gradients)


def _always(layer: keras.layers.Layer) -> bool:
    return True


@dataclasses.dataclass(frozen=True)
class Rule:
    """The per-example gradients of a layer class.

    Attributes:
        gradients: a function from a `LayerCall` to an iterable of (variable, `Form`).
        captures: attributes of the layer that hold activation functions. While a call is traced,
            the inputs and outputs of these functions are recorded.
        applies: a function that returns whether the rule is correct for a layer's settings.
    """

    gradients: Gradients
    _: dataclasses.KW_ONLY
    captures: tuple[str, ...] = ("activation",)
    applies: Callable[[keras.layers.Layer], bool] = _always


_RULES: dict[type[keras.layers.Layer], Rule] = {}


def register(
    *kinds: type[keras.layers.Layer],
    captures: Iterable[str] = ("activation",),
    applies: Callable[[keras.layers.Layer], bool] = _always,
) -> Callable[[_F], _F]:
    """Registers the decorated function as the rule of layer classes.

    The rule of a layer that computes w'x + b and then an activation function:

        @register(MyDense)
        def my_dense(call):
            yield call.layer.w, Outer(with_places(call.inputs), with_places(call.gradient))
            yield call.layer.b, Full(call.gradient)

    `call.inputs` are the layer's inputs, and `call.gradient` is the gradient of the sum of all
    examples' losses with respect to the input of the layer's last captured activation; without
    captures, with respect to the layer's output. Both have the examples on their first axis. For a
    variable that the rule doesn't yield, and for a subclass that overrides `call`, the layer is
    mapped over the examples. The self-check of `per_example_gradient_norms` tests the rule.

    Args:
        *kinds: subclasses of `keras.layers.Layer`.
        captures: names of the layer's attributes that hold activation functions.
        applies: returns whether the rule is correct for a layer's settings; otherwise the layer is
            treated like a layer without a rule.
    """
    for kind in kinds:
        if not (isinstance(kind, type) and issubclass(kind, keras.layers.Layer)):
            raise checks.invalid(
                "A layer class", "a subclass of keras.layers.Layer", repr(kind), kind=TypeError
            )

    def registered(function: _F) -> _F:
        for kind in kinds:
            _RULES[kind] = Rule(function, captures=tuple(captures), applies=applies)
        return function

    return registered


def rule_of(layer: keras.layers.Layer) -> Rule | None:
    """Returns the `Rule` of a layer, or None; a subclass that overrides `call` has none."""
    for kind in type(layer).__mro__:
        if kind in _RULES:
            rule = _RULES[kind]
            return rule if type(layer).call is kind.call and rule.applies(layer) else None
    return None


def registered_kinds() -> tuple[type[keras.layers.Layer], ...]:
    """Returns the layer classes that have a rule."""
    return tuple(_RULES)
