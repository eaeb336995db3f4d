"""The Hessian of a loss over a data set, and its Gauss-Newton matrix, as linear operators."""

import dataclasses
from typing import Any, ClassVar, TypeAlias, TypeVar

import keras
import numpy as np
import scipy.sparse.linalg
import tensorflow as tf

from thesis_tf._core import checks
from thesis_tf._core.types import Data, Loss, TensorLike, Verbose
from thesis_tf._keras.loss import fit as loss_fit
from thesis_tf._keras.objective import Objective
from thesis_tf._keras.sharding import ShardedData
from thesis_tf.hessian.checks import data as data_checks
from thesis_tf.hessian.checks import self_check
from thesis_tf.hessian.products import modes
from thesis_tf.hessian.products.averages import Averages
from thesis_tf.hessian.products.fallback import NO_DERIVATIVE
from thesis_tf.persistence import fingerprint
from thesis_tf.reporting import progress

DEFAULT_MEMORY_LIMIT = 2 << 30

_Vectors = TypeVar("_Vectors")


class _Operator:
    """The base of both operators; a subclass chooses the matrix."""

    _kind: ClassVar[modes.MatrixKind]

    def __init__(
        self,
        model: keras.Model,
        loss: Loss | None,
        data: Data,
        *,
        mode: str = "forward_over_reverse",
        parameters: Any = None,
        batch_size: int = 1000,
        check: bool = True,
        memory_limit: float = DEFAULT_MEMORY_LIMIT,
        verbose: Verbose = 0,
    ) -> None:
        checks.one_of("`mode`", mode, self._kind.modes)
        sharded = ShardedData(data, batch_size)
        objective = Objective(model, loss, parameters, inputs=sharded.stream.spec[0])
        if check:
            self_check.check_data(sharded.stream)
            data_checks.check_labels(objective, sharded.stream)
        try:
            self._averages = Averages(objective, sharded, self._kind, mode, memory_limit)
        except NO_DERIVATIVE as error:
            raise self_check.SelfCheckError(
                f"TensorFlow has no second derivative of an operation in {model.name}: {error}."
                " Replace its layer, or choose other `parameters`."
            ) from error
        if check:
            self_check.check_derivatives(self._averages)
            (x, _), count = next(sharded.stream.batches())
            few = tf.nest.map_structure(lambda a: tf.convert_to_tensor(a[: min(count, 4)]), x)
            loss_fit.warn_of_misfit(objective, few, stacklevel=3)
        self._bar = progress.bar(verbose, description="products", unit="", leave=False)

    @property
    def model(self) -> keras.Model:
        """The model."""
        return self._averages.objective.model

    @property
    def mode(self) -> str:
        """The mode that is used."""
        return self._averages.mode

    @property
    def products(self) -> int:
        """The number of products so far; a product with k columns counts k."""
        return self._averages.products

    @property
    def shape(self) -> tuple[int, int]:
        """(d, d), with d the number of parameters."""
        size = self._averages.objective.layout.size
        return size, size

    @property
    def dtype(self) -> np.dtype[Any]:
        """The NumPy dtype of the parameters, in which products are computed."""
        return np.dtype(self._averages.objective.layout.dtype.as_numpy_dtype)

    @property
    def parameters(self) -> "tf.Tensor":
        """The parameters at which the matrix is taken, (d,)."""
        return self._averages.objective.layout.pack(self._averages.parameters)

    def refresh(self) -> None:
        """Updates the parameters to those that the model has now."""
        self._averages.refresh()

    def __matmul__(self, vectors: _Vectors) -> _Vectors:
        """Returns the product with a vector (d,), or with the columns of a matrix (d, k).

        All columns share one pass over the data. Vectors of another floating dtype than the
        operator's are cast to it, and the products are cast back.

        Returns:
            A `tf.Tensor` for a tensor or variable, otherwise a NumPy array; of the shape and dtype
            of `vectors`.

        Raises:
            ValueError: the vectors have another length.
            TypeError: their dtype is not a floating dtype.
        """
        is_tensor = isinstance(vectors, (tf.Tensor, tf.Variable, keras.Variable))
        given = tf.convert_to_tensor(vectors if is_tensor else np.asarray(vectors))
        if not given.dtype.is_floating:
            raise checks.invalid(
                "The vector",
                "of a floating dtype",
                given.dtype.name,
                "Convert it: v.astype(H.dtype).",
                kind=TypeError,
            )
        layout = self._averages.objective.layout
        if given.shape.rank not in (1, 2) or given.shape[0] != layout.size:
            expected = f"of shape ({layout.size},) or ({layout.size}, k)"
            raise checks.invalid("The vector", expected, tuple(given.shape))
        columns = tf.cast(given, layout.dtype)
        columns = [columns] if given.shape.rank == 1 else tf.unstack(columns, axis=1)
        products = self._averages.multiply(columns) if columns else []
        self._bar.update(len(products))
        if given.shape.rank == 1:
            result = products[0]
        else:
            result = tf.stack(products, axis=1) if products else given
        result = tf.cast(result, given.dtype)
        return result if is_tensor else result.numpy()

    matvec = matmat = __matmul__

    def gradient(self, parameters: TensorLike | None = None) -> np.ndarray:
        """Returns the gradient of the loss, (d,).

        Args:
            parameters: where to compute it, a vector (d,); None for the operator's parameters.
        """
        gradient: np.ndarray = self._averages.gradient(self._vector(parameters)).numpy()
        return gradient

    def loss(self, parameters: TensorLike | None = None) -> float:
        """Returns the average of the loss over the data set; summed in float64.

        Args:
            parameters: where to compute it, a vector (d,); None for the operator's parameters.
        """
        return self._averages.loss(self._vector(parameters))

    def to_scipy(self) -> scipy.sparse.linalg.LinearOperator:
        """Returns the operator as a `scipy.sparse.linalg.LinearOperator`."""

        def multiply(vectors: np.ndarray) -> np.ndarray:
            return self @ np.ascontiguousarray(vectors, self.dtype)

        return scipy.sparse.linalg.LinearOperator(
            self.shape, matvec=multiply, rmatvec=multiply, matmat=multiply, dtype=self.dtype
        )

    def fingerprint(self, *, weights: bool = True) -> str:
        """Returns a hash of the model, the choice of parameters, the loss and the data.

        Args:
            weights: whether the values of the model's variables count; without them the hash stays
                the same while the model trains.
        """
        averages, objective = self._averages, self._averages.objective
        values = [*averages.parameters, *averages.constants] if weights else []
        chosen = {id(variable) for variable in objective.variables}
        trainable = objective.model.trainable_variables
        return fingerprint.of_json(
            {
                "kind": type(self).__name__,
                "weights": fingerprint.of_arrays([np.atleast_1d(v.numpy()) for v in values]),
                # By position: another model of the same layers has other names.
                "parameters": [i for i, v in enumerate(trainable) if id(v) in chosen],
                "model": fingerprint.of_model(objective.model, weights=False),
                "data": averages.data.stream.fingerprint(),
                "loss": objective.loss_name,
            }
        )

    def _vector(self, parameters: TensorLike | None) -> "tf.Tensor | None":
        if parameters is None:
            return None
        vector = tf.convert_to_tensor(parameters, self._averages.objective.layout.dtype)
        if vector.shape != (self.shape[0],):
            expected = f"of shape ({self.shape[0]},)"
            raise checks.invalid("`parameters`", expected, tuple(vector.shape))
        return vector

    def __repr__(self) -> str:
        """Returns the kind, the size, the model and the mode."""
        return (
            f"<{type(self).__name__} {self.shape[0]} x {self.shape[0]} {self.dtype} of"
            f" {self.model.name}, {self.mode}, {self.products} products>"
        )


class HessianOperator(_Operator):
    """The Hessian of a model's loss over a data set.

        H = HessianOperator(model, "mse", (x, y))
        H @ v  # one pass over the data
        scipy.sparse.linalg.eigsh(H.to_scipy(), 10, which="SA")

    All parameters form one vector (thesis, section 11.2.1). The loss is the average over the data
    set, with all layers in inference mode, including regularization. The operator keeps the
    parameters that the model had when the operator was created; `refresh` updates them.

    Under a `tf.distribute` strategy's scope each batch is divided among the replicas; with
    `MultiWorkerMirroredStrategy` every process passes the same data and takes part in each product.

    Args:
        model: a Keras model; if it isn't built, it is built for the inputs of `data`.
        loss: what `compile` takes: a `keras.losses.Loss`, the name of one, a function (labels,
            outputs) -> (n, ...), or a list or dict of one for each output; or a function of all
            labels and outputs -> (n,). None for the loss and `loss_weights` of the compiled model.
            Losses are divided as Keras divides them, by the entries of the whole data set that are
            not masked.
        data: (x, y) or (x, y, sample_weight), arrays or structures of arrays, or a finite batched
            `tf.data.Dataset` of such that comes in the same order on each pass.
        mode: "forward_over_reverse", forward mode along the operations of the tape's gradient,
            whose values are kept between products; "forward_accumulator",
            `tf.autodiff.ForwardAccumulator` over the tape; or "reverse_over_reverse", two tapes. If
            a mode doesn't support the model, as with the loop of an LSTM, "reverse_over_reverse" is
            used, with a warning.
        parameters: None for all trainable parameters; or layers, variables, their names, or
            globs ("conv*/kernel"): the Hessian with respect to these only, a diagonal block.
        batch_size: examples that are computed at once, over all replicas.
        check: whether to run a self-check of the derivatives first (`SelfCheckError`).
        memory_limit: bytes for the values that are kept between products; the values of batches
            that don't fit are computed again for each product, at 1.3 times the cost.
        verbose: "auto", 0, 1 or 2: whether to show a count of products.

    Attributes:
        model, parameters: the model, and the parameters at which the Hessian is taken.
        mode: the mode that is used.
        products: the number of products so far; a product with k columns counts k.

    Raises:
        ValueError, TypeError: an argument is invalid, labels don't fit outputs, or a layer is in
            training mode.
        SelfCheckError: derivatives are wrong or don't exist, the loss is not finite, or the data
            change from pass to pass.
    """

    _kind = modes.HESSIAN


class GaussNewtonOperator(_Operator):
    """The Gauss-Newton matrix J' H_L J of a model's loss over a data set.

    J is the Jacobian of the model's outputs, H_L the Hessian of the loss with respect to them: the
    Hessian of the loss with the model linearized in its parameters. It has no negative eigenvalue
    if the loss is convex in the outputs. With softmax cross-entropy it is the Fisher information;
    of a model that ends in a softmax or sigmoid, Keras' cross-entropies use the logits, and so does
    this matrix.
    Regularization is included as in the Hessian.

    Arguments, attributes and methods are those of `HessianOperator`; `mode` is
    "forward_over_reverse" or "reverse_over_reverse".
    """

    _kind = modes.GAUSS_NEWTON


Operator: TypeAlias = HessianOperator | GaussNewtonOperator


@dataclasses.dataclass(frozen=True, kw_only=True)
class OperatorOptions:
    """The options of an operator that another object creates.

    Attributes:
        mode, parameters, batch_size, check, memory_limit: as for `HessianOperator`.
    """

    mode: str = "forward_over_reverse"
    parameters: Any = None
    batch_size: int = 1000
    check: bool = True
    memory_limit: float = DEFAULT_MEMORY_LIMIT

    def hessian(self, model: keras.Model, loss: Loss | None, data: Data) -> HessianOperator:
        """Returns a `HessianOperator`."""
        return HessianOperator(model, loss, data, **vars(self))

    def gauss_newton(
        self, model: keras.Model, loss: Loss | None, data: Data
    ) -> GaussNewtonOperator:
        """Returns a `GaussNewtonOperator`."""
        return GaussNewtonOperator(model, loss, data, **vars(self))


DEFAULT_OPTIONS = OperatorOptions()
