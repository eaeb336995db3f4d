"""Steps that run before those of a model's compiled training or test function."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import keras

Function = Literal["train_function", "test_function"]
Step = Callable[[Any, Any], None]


class Attachment:
    """A model's compiled function, preceded by the steps of one or several callbacks.

    It takes the place of the model's function. The model's own step is replaced only while Keras
    compiles. A callback arms its step before each call; the step of a callback that didn't, as it
    isn't one of this `fit`, is removed. Without any step the model gets its plain function back.

    Args:
        model: a compiled Keras model.
        function: the attribute of the model.
    """

    def __init__(self, model: keras.Model, function: Function) -> None:
        self._model, self._function = model, function
        getattr(model, f"make_{function}")()
        self._plain = getattr(model, function)
        self._steps: dict[Any, Step] = {}
        self._armed: set[Any] = set()
        self._compiled: Any = None

    @classmethod
    def of(cls, model: keras.Model, function: Function) -> Attachment:
        """Returns the model's attachment; a new one takes the place of its function."""
        found = getattr(model, function)
        if not isinstance(found, Attachment):
            found = cls(model, function)
            setattr(model, function, found)
        return found

    def arm(self, owner: Any, step: Step) -> None:
        """Makes the next call run the step (x, y) of a callback, after those of others."""
        if owner not in self._steps:
            self._steps[owner], self._compiled = step, None
        self._armed.add(owner)

    @staticmethod
    def remove(model: keras.Model, function: Function, owner: Any) -> None:
        """Removes the step of a callback, if the model has it."""
        found = getattr(model, function)
        if isinstance(found, Attachment):
            found._remove(owner)

    def _remove(self, owner: Any) -> None:
        if self._steps.pop(owner, None) is None:
            return
        self._compiled = None
        if not self._steps:
            setattr(self._model, self._function, self._plain)

    def __call__(self, iterator: Any) -> Any:
        """Runs the steps, and the model's own."""
        for owner in [owner for owner in self._steps if owner not in self._armed]:
            self._remove(owner)
        self._armed.clear()
        if not self._steps:
            return self._plain(iterator)
        if self._compiled is None:
            self._compiled = self._compile()
        return self._compiled(iterator)

    def _compile(self) -> Any:
        model, function = self._model, self._function
        name = function.replace("function", "step")
        own, steps = getattr(model, name), tuple(self._steps.values())

        def all_steps(data: Any) -> Any:
            x, y, _ = keras.utils.unpack_x_y_sample_weight(data)
            for step in steps:
                step(x, y)
            return own(data)

        # Usually the step is a method of the class, but a user may have replaced it.
        replaced = vars(model).get(name)
        setattr(model, name, all_steps)
        try:
            getattr(model, f"make_{function}")(force=True)
            return getattr(model, function)
        finally:
            if replaced is None:
                delattr(model, name)
            else:
                setattr(model, name, replaced)
            setattr(model, function, self)
