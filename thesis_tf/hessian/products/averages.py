"""The loss of a model, its gradient and products with its Hessian, averaged over a data set."""

import functools
from collections.abc import Callable, Iterable
from typing import Any

import tensorflow as tf

from thesis_tf._core import checks
from thesis_tf._keras.objective import Objective
from thesis_tf._keras.sharding import ShardedData
from thesis_tf.hessian.products import modes
from thesis_tf.hessian.products.fallback import traced_with_fallback


class Averages:
    """Computes averages over a data set, at fixed parameters.

    Args:
        objective: the model and its loss.
        data: the examples.
        kind: `modes.HESSIAN` or `modes.GAUSS_NEWTON`.
        mode: a name in `kind.modes`.
        memory_limit: bytes for values that are kept between products.

    Attributes:
        objective, data, kind: as given.
        mode: the mode that is used.
        parameters, constants: the values of the model's variables, lists of tensors.
        products: the number of products so far.

    Raises:
        UnsupportedError, LookupError, NotImplementedError: TensorFlow has no second derivative of
            an operation in the model.
    """

    def __init__(
        self,
        objective: Objective,
        data: ShardedData,
        kind: modes.MatrixKind,
        mode: str,
        memory_limit: float,
    ) -> None:
        self.objective, self.data, self.kind = objective, data, kind
        self._memory_limit = memory_limit
        self.products = 0
        self.refresh()
        self._add = data.replicas.on_each(tf.add)
        self._loss = self._traced_loss()
        if objective.example_loss.divides or objective.example_loss.sums:
            objective.measure_divisors(
                tf.nest.map_structure(lambda array: array[:count], batch)  # noqa: B023
                for batch, count in data.stream.batches()
            )
            self._loss = self._traced_loss()
        self.mode, keep, product = traced_with_fallback(
            kind, mode, objective, self._specs(), stacklevel=5
        )
        self._keep, self._product = data.replicas.on_each(keep), data.replicas.on_each(product)
        self._gradient = self._traced(lambda p, c, *batch: modes.gradient(objective, p, c, batch))

    def refresh(self) -> None:
        """Updates the parameters to those that the model has now."""
        self.parameters, self.constants = self.objective.read()
        self._kept: list[Any] = []
        self._kept_examples, self._all_kept = 0, False

    def multiply(self, vectors: list["tf.Tensor"]) -> list["tf.Tensor"]:
        """Returns the products with vectors (d,), by one pass over the data."""
        sums: list[Any] = [None] * len(vectors)

        def add(kept: Any) -> None:
            for i, vector in enumerate(vectors):
                product = self._product(vector, self.parameters, self.constants, kept)
                sums[i] = product if sums[i] is None else self._add(sums[i], product)

        for kept in self._kept:
            add(kept)
        examples = self._kept_examples
        if not self._all_kept:
            all_kept = True
            for batch, count in self.data.batches(self._kept_examples):
                kept = self._keep(self.parameters, self.constants, *batch)
                examples += count
                size = self.data.replicas.size_of(kept)
                if (len(self._kept) + 1) * size <= self._memory_limit:
                    self._kept.append(kept)
                    self._kept_examples += count
                else:
                    all_kept = False
                add(kept)
            self._all_kept = all_kept
        self.products += len(vectors)
        return [self.data.replicas.total(total) / examples for total in sums]

    def gradient(self, vector: "tf.Tensor | None" = None) -> "tf.Tensor":
        """Returns the gradient (d,) at parameters (d,); None uses the fixed parameters."""
        total, examples = self._summed(self._gradient, vector)
        return total / examples

    def loss(self, vector: "tf.Tensor | None" = None) -> float:
        """Returns the loss at parameters (d,), summed in float64."""
        total, examples = self._summed(self._loss, vector)
        return float(total) / examples

    def on_batch(self, vector: "tf.Tensor", batch: modes.Batch) -> "tf.Tensor":
        """Returns the sum over one batch's examples of their products with a vector (d,)."""
        kept = self._keep(self.parameters, self.constants, *batch)
        product = self._product(vector, self.parameters, self.constants, kept)
        return self.data.replicas.total(product)

    def _summed(
        self, function: Callable[..., Any], vector: "tf.Tensor | None"
    ) -> tuple["tf.Tensor", int]:
        """Returns a function's sum over the data, and the number of examples."""
        if vector is None:
            vector = self.objective.layout.pack(self.parameters)
        total, examples = None, 0
        for batch, count in self.data.batches():
            value = function(vector, self.constants, *batch)
            total = value if total is None else self._add(total, value)
            examples += count
        if not examples:
            raise checks.invalid("`data`", "at least one example", "an empty tf.data.Dataset")
        return self.data.replicas.total(total), examples

    def _specs(self) -> tuple[Any, Any, Any, Any]:
        """Returns the `tf.TensorSpec`s (vector, parameters, constants, batch) for tracing."""
        layout = self.objective.layout

        def specs(tensors: Iterable["tf.Tensor"]) -> list["tf.TensorSpec"]:
            return [tf.TensorSpec(t.shape, t.dtype) for t in tensors]

        vector = tf.TensorSpec((layout.size,), layout.dtype)
        return vector, specs(self.parameters), specs(self.constants), self.data.spec()

    def _traced_loss(self) -> Callable[..., Any]:
        return self._traced(functools.partial(self.objective.total, dtype=tf.float64))

    def _traced(self, function: Callable[..., "tf.Tensor"]) -> Callable[..., Any]:
        """Traces a function of (parameters, constants, x, y, weights) as one of a vector."""
        layout = self.objective.layout

        def on_vector(
            vector: "tf.Tensor", constants: Any, x: Any, y: Any, weights: "tf.Tensor"
        ) -> "tf.Tensor":
            return function(layout.unpack(vector), constants, x, y, weights)

        vector, _, constants, batch = self._specs()
        compiled = tf.function(on_vector, autograph=False)
        return self.data.replicas.on_each(compiled.get_concrete_function(vector, constants, *batch))
