"""Decorator for methods that return NumPy arrays for NumPy arrays, and tensors for tensors."""

import functools
from collections.abc import Callable
from typing import Any, TypeVar, cast

import numpy as np
import tensorflow as tf

_F = TypeVar("_F", bound=Callable[..., Any])


def like(x: Any, value: tf.Tensor) -> Any:
    """Returns `value` as a tensor if `x` is one, else as a NumPy array.

    During tracing, values are always tensors.
    """
    if tf.is_tensor(x) or isinstance(x, tf.Variable) or not tf.executing_eagerly():
        return value
    return np.asarray(value)


def same_kind(method: _F) -> _F:
    """Decorates a method that takes points x and returns one tensor."""

    @functools.wraps(method)
    def wrapped(self: Any, x: Any, *args: Any, **kwargs: Any) -> Any:
        return like(x, method(self, x, *args, **kwargs))

    return cast(_F, wrapped)
