"""The Hessian of a loss over a data set, and its Gauss-Newton matrix, as linear operators."""

import warnings

import numpy as np
import scipy.sparse.linalg
import tensorflow as tf
import tqdm

from thesis_tf._core import checks
from thesis_tf._keras.objective import Objective
from thesis_tf._keras.sharding import ShardedData
from thesis_tf.hessian.checks import self_check
from thesis_tf.hessian.products.forward_mode import UnsupportedError
from thesis_tf.hessian.products.modes import (
    GAUSS_NEWTON,
    HESSIAN,
    frozen_gradient,
    gradient,
    trace,
)
from thesis_tf.persistence import fingerprint

DEFAULT_MEMORY = 2 << 30


class FallbackWarning(UserWarning):
    """Products are computed in another mode than the one that was asked for."""


class _Operator:
    """What both operators share; a subclass names in `_WAYS` how products can be computed."""

    def __init__(
        self,
        model,
        loss,
        data,
        *,
        mode="forward_over_back",
        parameters=None,
        batch_size=1000,
        check=True,
        memory=DEFAULT_MEMORY,
        progress=False,
    ):
        self.mode = checks.one_of("`mode`", mode, self._WAYS)
        self.objective = Objective(model, loss, parameters)
        self.data = ShardedData(data, batch_size)
        self.memory = memory
        self.products = 0
        self.refresh()
        if check:
            self_check.inputs(self)
        self._add = self.data.on_replicas(tf.add)
        self._keep, self._product = self._trace()
        self._gradient, self._loss = self._trace_loss()
        if check:
            self_check.derivatives(self)
        self._bar = tqdm.tqdm(
            desc="products", unit="", leave=False, disable=None if progress else True
        )

    @property
    def shape(self):
        """(d, d), with d the number of parameters."""
        return (self.objective.layout.size,) * 2

    @property
    def dtype(self):
        """The NumPy dtype of vectors, which is that of the parameters."""
        return np.dtype(self.objective.layout.dtype.as_numpy_dtype)

    @property
    def parameters(self):
        """The parameters at which the operator is taken: a `tf.Tensor` (d,)."""
        return self.objective.layout.pack(self._parameters)

    def refresh(self):
        """Takes the operator at the weights that the model has now."""
        self._parameters, self._constants = self.objective.read()
        self._kept, self._kept_examples, self._all_kept = [], 0, False

    def __matmul__(self, vectors):
        """The product with a vector (d,), or with the columns of a matrix (d, k) in one pass.

        Returns:
            NumPy for NumPy and a `tf.Tensor` for a `tf.Tensor`, of the same shape and dtype.

        Raises:
            ValueError: the vector is of another length.
            TypeError: it is of another dtype.
        """
        is_tensor = isinstance(vectors, (tf.Tensor, tf.Variable))
        vectors = tf.convert_to_tensor(vectors)
        size, dtype = self.objective.layout.size, self.objective.layout.dtype
        if vectors.dtype != dtype:
            raise checks.invalid(
                "The vector",
                f"of dtype {dtype.name}, as the parameters",
                vectors.dtype.name,
                "Convert it: v.astype(H.dtype).",
                kind=TypeError,
            )
        if vectors.shape.rank not in (1, 2) or vectors.shape[0] != size:
            shape = tuple(vectors.shape)
            raise checks.invalid("The vector", f"of shape ({size},) or ({size}, k)", shape)
        if vectors.shape.rank == 1:
            (result,) = self.multiply([vectors])
        else:
            columns = tf.unstack(vectors, axis=1)
            result = tf.stack(self.multiply(columns), axis=1) if columns else vectors
        return result if is_tensor else result.numpy()

    matvec = matmat = __matmul__

    def multiply(self, vectors):
        """Products with a list of tensors (d,), in one pass over the data; a list of tensors."""
        sums = [None] * len(vectors)

        def add(kept):
            for i, vector in enumerate(vectors):
                part = self._product(vector, self._parameters, self._constants, kept)
                sums[i] = part if sums[i] is None else self._add(sums[i], part)

        for kept in self._kept:
            add(kept)
        examples = self._kept_examples
        if not self._all_kept:
            all_kept = True
            for batch, count in self.data.batches(self._kept_examples):
                kept = self._keep(self._parameters, self._constants, *batch)
                examples += count
                if (len(self._kept) + 1) * self.data.size_of(kept) <= self.memory:
                    self._kept.append(kept)
                    self._kept_examples += count
                else:
                    all_kept = False
                add(kept)
            self._all_kept = all_kept
        self.products += len(vectors)
        self._bar.update(len(vectors))
        return [self.data.total(total) / examples for total in sums]

    def gradient(self, parameters=None):
        """The gradient of the loss: a NumPy array (d,).

        Args:
            parameters: where to take it, a vector (d,); None for the operator's own.
        """
        total, examples = self._summed(self._gradient, parameters)
        return (total / examples).numpy()

    def loss(self, parameters=None):
        """The loss averaged over the data set, a float; summed in float64.

        Args:
            parameters: where to take it, a vector (d,); None for the operator's own.
        """
        total, examples = self._summed(self._loss, parameters)
        return float(total) / examples

    def _summed(self, function, parameters):
        """The sum over the data of a function (vector, constants, batch), and their number."""
        total, examples, vector = None, 0, self._vector(parameters)
        for batch, count in self.data.batches():
            part = function(vector, self._constants, *batch)
            total = part if total is None else self._add(total, part)
            examples += count
        if not examples:
            raise checks.invalid("`data`", "at least one example", "an empty tf.data.Dataset")
        return self.data.total(total), examples

    def to_scipy(self):
        """The operator as a `scipy.sparse.linalg.LinearOperator`."""

        def multiply(vectors):
            return self @ np.ascontiguousarray(vectors, self.dtype)

        return scipy.sparse.linalg.LinearOperator(
            self.shape, matvec=multiply, rmatvec=multiply, matmat=multiply, dtype=self.dtype
        )

    def _vector(self, parameters):
        if parameters is None:
            return self.parameters
        vector = tf.convert_to_tensor(parameters, self.objective.layout.dtype)
        if vector.shape != (self.shape[0],):
            expected = f"of shape ({self.shape[0]},)"
            raise checks.invalid("`parameters`", expected, tuple(vector.shape))
        return vector

    def identity(self, weights=True):
        """A hash of the model, its weights, the parameters, the loss and the data.

        Args:
            weights: whether those count; without, it is the same all through a training.
        """
        values = [*self._parameters, *self._constants] if weights else []
        chosen = {id(variable) for variable in self.objective.variables}
        trainable = self.objective.model.trainable_variables
        return fingerprint.of_json(
            {
                "kind": type(self).__name__,
                "weights": fingerprint.of_arrays([np.atleast_1d(v.numpy()) for v in values]),
                # Not by their names, which another model of the same layers doesn't share.
                "parameters": [i for i, v in enumerate(trainable) if id(v) in chosen],
                "model": fingerprint.of_model(self.objective.model, weights=False),
                "data": self.data.stream.fingerprint(),
                "loss": self.objective.loss_name,
            }
        )

    def __repr__(self):
        """The kind, the size, the model and how it is computed."""
        return (
            f"<{type(self).__name__} {self.shape[0]} x {self.shape[0]} {self.dtype} of"
            f" {self.objective.model.name}, {self.mode}, {self.products} products>"
        )

    def specs(self):
        """The `tf.TensorSpec`s (vector, parameters, constants, batch) of what is traced."""
        layout = self.objective.layout

        def of(tensors):
            return [tf.TensorSpec(t.shape, t.dtype) for t in tensors]

        vector = tf.TensorSpec((layout.size,), layout.dtype)
        return vector, of(self._parameters), of(self._constants), self.data.spec()

    def _trace(self):
        """Traces the products, by reverse mode alone if the mode can't do this model."""
        try:
            keep, product = trace(self.way(), self.specs())
        except (UnsupportedError, LookupError, NotImplementedError) as error:
            if self.mode == "back_over_back":
                raise _impossible(self.objective.model, error) from error
            warnings.warn(
                f"Products of {self.objective.model.name} are computed by back_over_back, as"
                f" {self.mode} can't: {error}",
                FallbackWarning,
                stacklevel=4,
            )
            self.mode = "back_over_back"
            try:
                keep, product = trace(self.way(), self.specs())
            except (LookupError, NotImplementedError) as error:
                raise _impossible(self.objective.model, error) from error
        return self.data.on_replicas(keep), self.data.on_replicas(product)

    def _trace_loss(self):
        layout = self.objective.layout

        def of_vector(function):
            def traced(vector, constants, x, y, weights):
                return function(layout.unpack(vector), constants, x, y, weights)

            vector, _, constants, batch = self.specs()
            compiled = tf.function(traced, autograph=False)
            return self.data.on_replicas(compiled.get_concrete_function(vector, constants, *batch))

        slope = of_vector(lambda p, c, *batch: gradient(self.objective, p, c, batch))
        return slope, of_vector(lambda *args: self.objective.total(*args, dtype=tf.float64))

    def way(self):
        """A new object that computes products in this operator's mode."""
        return self._WAYS[self.mode](self.objective)

    def on_batch(self, vector, batch):
        """The sum over the examples of one batch of their products with a vector (d,)."""
        kept = self._keep(self._parameters, self._constants, *batch)
        product = self._product(vector, self._parameters, self._constants, kept)
        return self.data.total(product)


def _impossible(model, error):
    return self_check.SelfCheckError(
        f"TensorFlow has no second derivative of an operation in {model.name}: {error}. Replace its"
        " layer, or name other `parameters`."
    )


class HessianOperator(_Operator):
    """The Hessian of a model's loss over a data set.

        H = HessianOperator(model, "mse", (x, y))
        H @ v  # one pass over the data
        scipy.sparse.linalg.eigsh(H.to_scipy(), 10, which="SA")

    All parameters form one vector (thesis, section 11.2.1). The loss is the average over the data
    set, with every layer as at inference and the weights' regularisers included. The operator holds
    the weights that the model had when it was made; `refresh` takes those it has now.

    Under a `tf.distribute` strategy's scope each batch is divided among the replicas; with
    `MultiWorkerMirroredStrategy` every process passes the same data and takes part in each product.

    Args:
        model: a built Keras model.
        loss: a `keras.losses.Loss`, the name of one, or a function from (labels, outputs) to
            one value an example.
        data: (x, y), arrays or structures of arrays, or a finite batched `tf.data.Dataset` of such
            pairs that comes in the same order on each pass.
        mode: "forward_over_back", forward mode over the tape's gradient with what it needs of the
            gradient's own values kept between products; "forward_accumulator",
            `tf.autodiff.ForwardAccumulator` over the tape; "back_over_back", two tapes. A mode that
            can't do the model (loops, as in an LSTM) gives way to the last, with a warning.
        parameters: None for all trainable parameters; or layers, variables, their names, or
            globs ("conv*/kernel"): the Hessian with respect to those alone, a diagonal block.
        batch_size: examples computed at once, over all replicas.
        check: whether to test the derivatives before any long work (`self_check`).
        memory: bytes that may be taken by values kept between products; batches whose values
            don't fit are computed anew in each product, at 1.3 times the cost.
        progress: whether to show a count of products on a terminal.

    Attributes:
        mode: the mode that is used.
        products: the number of products so far; a product with k columns counts k.
        objective, data, parameters: what was passed.

    Raises:
        ValueError, TypeError: bad arguments, labels and outputs that don't fit, a layer that was
            left in training mode.
        SelfCheckError: derivatives are wrong, the loss is not finite, or the data change from pass
            to pass.
    """

    _WAYS = HESSIAN

    def differentiated(self, parameters, frozen, constants, batch):
        """What the products are derivatives of, with respect to `parameters`: the gradient."""
        return gradient(self.objective, parameters, constants, batch)


class GaussNewtonOperator(_Operator):
    """The Gauss-Newton matrix J' H_L J of a model's loss over a data set.

    J is the Jacobian of the model's outputs, H_L the Hessian of the loss with respect to them:
    what is left of the Hessian when the model is taken as linear in its parameters. It has no
    negative eigenvalue if the loss is convex in the outputs. With softmax cross-entropy it is the
    Fisher information. Regularisers count as in the Hessian.

    It takes the arguments of `HessianOperator` and has its methods; `mode` is "forward_over_back"
    or "back_over_back".
    """

    _WAYS = GAUSS_NEWTON

    def differentiated(self, parameters, frozen, constants, batch):
        """What the products are derivatives of, with respect to `parameters`."""
        return frozen_gradient(self.objective, parameters, frozen, constants, batch)
