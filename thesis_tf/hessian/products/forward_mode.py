"""Forward-mode differentiation of a TensorFlow graph whose values are kept.

`push` iterates over the operations of one graph and adds operations to another graph, which compute
the tangents. The values of the first graph that tangents need come from a `Lookup`: they can be
computed once and kept, so that each further direction needs only the computation of tangents. A
zero tangent costs nothing. A linear operation is applied to tangents directly. Any operation
without a rule is differentiated by two passes of reverse mode.

The result is the derivative of the function that the operations compute. If this function is a
gradient, it depends on the value that `tf.stop_gradient` returns, so tangents pass through
`tf.stop_gradient`. TensorFlow's layer and group normalization stop the gradient of the mean in the
variance, which is correct for first derivatives only: reverse mode over reverse mode, which stops
it again, has errors of 40 %.

`tf.autodiff.ForwardAccumulator` computes values and tangents together each time, materializes
zeros, and uses two reverse passes throughout. On a LeNet it takes 1.3 times as long as this module
without kept values and 1.5 times as long as with kept values.
"""

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import Any, Protocol, TypeAlias

import tensorflow as tf

from thesis_tf._core import max_pooling

# Tangents of the inputs or outputs of an operation; None for a tangent that is zero.
Tangents: TypeAlias = list[Any]

# Operations that are jointly linear in these inputs; None for every input.
LINEAR = {
    "Add": (0, 1), "AddN": None, "AddV2": (0, 1), "AvgPool": (0,), "AvgPool3D": (0,),
    "AvgPool3DGrad": (1,), "AvgPoolGrad": (1,), "BatchToSpaceND": (0,), "BiasAdd": (0, 1),
    "BiasAddGrad": (0,), "BroadcastTo": (0,), "ConcatV2": None, "Cumsum": (0,),
    "DepthToSpace": (0,), "ExpandDims": (0,), "GatherNd": (0,), "GatherV2": (0,),
    "Identity": (0,), "IdentityN": None, "MatrixBandPart": (0,), "Mean": (0,), "MirrorPad": (0,),
    "MirrorPadGrad": (0,), "Neg": (0,), "Pack": None, "Pad": (0,), "PadV2": (0, 2),
    "PreventGradient": (0,), "Reshape": (0,), "ResizeBicubic": (0,), "ResizeBicubicGrad": (0,),
    "ResizeBilinear": (0,), "ResizeBilinearGrad": (0,), "ResizeNearestNeighbor": (0,),
    "ResizeNearestNeighborGrad": (0,), "ReverseV2": (0,), "Roll": (0,), "ScatterNd": (1,),
    "Select": (1, 2), "SelectV2": (1, 2), "Slice": (0,), "SpaceToBatchND": (0,),
    "SpaceToDepth": (0,), "Split": (1,), "SplitV": (0,), "Squeeze": (0,), "StopGradient": (0,),
    "StridedSlice": (0,),
    "StridedSliceGrad": (4,), "Sub": (0, 1), "Sum": (0,), "Tile": (0,), "Transpose": (0,),
    "Unpack": (0,), "UnsortedSegmentSum": (0,),
}  # fmt: skip
# Operations that are linear in each of these inputs with the others fixed; None for every input.
MULTILINEAR = {
    "BatchMatMul": (0, 1), "BatchMatMulV2": (0, 1), "Conv2D": (0, 1),
    "Conv2DBackpropFilter": (0, 2), "Conv2DBackpropInput": (1, 2), "Conv3D": (0, 1),
    "Conv3DBackpropFilterV2": (0, 2), "Conv3DBackpropInputV2": (1, 2),
    "DepthwiseConv2dNative": (0, 1), "DepthwiseConv2dNativeBackpropFilter": (0, 2),
    "DepthwiseConv2dNativeBackpropInput": (1, 2), "Einsum": None, "LeakyReluGrad": (0,),
    "MatMul": (0, 1), "MaxPool3DGrad": (2,), "MaxPoolGrad": (2,), "MaxPoolGradGrad": (2,),
    "Mul": (0, 1), "Relu6Grad": (0,), "ReluGrad": (0,),
}  # fmt: skip
# Operations whose derivative with respect to these inputs is zero; None for every input.
CONSTANT = {
    "Ceil": None, "Floor": None, "LeakyReluGrad": (1,), "MaxPool3DGrad": (0, 1),
    "MaxPoolGrad": (0, 1), "MaxPoolGradGrad": (0, 1), "OnesLike": None, "Relu6Grad": (1,),
    "ReluGrad": (1,), "ResizeBicubicGrad": (1,), "ResizeBilinearGrad": (1,), "Rint": None,
    "Round": None, "Sign": None, "ZerosLike": None,
}  # fmt: skip


class UnsupportedError(Exception):
    """An operation that can't be differentiated in forward mode."""


class Lookup(Protocol):
    """Provides the values that tangents need, in the graph that is being built."""

    def __call__(self, tensor: "tf.Tensor") -> "tf.Tensor":
        """Returns the value of a tensor."""

    def derive(self, key: Hashable, make: Callable[[], "tf.Tensor"]) -> "tf.Tensor":
        """Returns a tensor that `make` computes from values; `key` identifies it."""


class Recording:
    """A `Lookup` in the graph of the values itself, which records the requested tensors.

    Attributes:
        derived: {key: tensor} of tensors that were computed from values.
    """

    def __init__(self) -> None:
        self._tensors: dict[Any, tf.Tensor] = {}
        self.derived: dict[Hashable, tf.Tensor] = {}

    @property
    def tensors(self) -> list["tf.Tensor"]:
        """The requested tensors that are not constants, without duplicates."""
        return list(self._tensors.values())

    def __call__(self, tensor: "tf.Tensor") -> "tf.Tensor":
        """Returns the value of a tensor in the graph that is being built."""
        constant = _constant(tensor)
        if constant is not None:
            return constant
        self._tensors.setdefault(tensor.ref(), tensor)
        return tensor

    def derive(self, key: Hashable, make: Callable[[], "tf.Tensor"]) -> "tf.Tensor":
        """Returns a tensor that `make` computes from values, in the graph that holds them."""
        if key not in self.derived:
            self.derived[key] = make()
        return self(self.derived[key])


class Supplied:
    """A `Lookup` in another graph, into which the values are passed.

    Args:
        recording: the `Recording` in the first graph.
        pairs: (tensor of the first graph, its value in this one).
    """

    def __init__(
        self, recording: Recording, pairs: Iterable[tuple["tf.Tensor", "tf.Tensor"]]
    ) -> None:
        self._derived = recording.derived
        self._values = {tensor.ref(): value for tensor, value in pairs}

    def __call__(self, tensor: "tf.Tensor") -> "tf.Tensor":
        """Returns the value of a tensor in the graph that is being built."""
        constant = _constant(tensor)
        return self._values[tensor.ref()] if constant is None else constant

    def derive(self, key: Hashable, make: Callable[[], "tf.Tensor"]) -> "tf.Tensor":
        """Returns the tensor that the recording computed under this key."""
        return self(self._derived[key])


def _constant(tensor: "tf.Tensor") -> "tf.Tensor | None":
    value = tf.get_static_value(tensor)
    return None if value is None else tf.constant(value, tensor.dtype)


def push(
    operations: Iterable["tf.Operation"], tangents: dict[Any, "tf.Tensor"], lookup: Lookup
) -> None:
    """Computes the tangents of the outputs of operations.

    Args:
        operations: `tf.Operation`s in an order in which they can run.
        tangents: {tensor.ref(): tangent}; the tangents of the operations' outputs are added. A
            tensor that is missing has a tangent of zero.
        lookup: a `Recording` or `Supplied`.

    Raises:
        UnsupportedError: an operation has no derivative in TensorFlow, or runs functions (a loop).
    """
    for operation in operations:
        given = [tangents.get(tensor.ref()) for tensor in operation.inputs]
        still = _at(CONSTANT, operation)
        given = [None if i in still else tangent for i, tangent in enumerate(given)]
        if all(tangent is None for tangent in given):
            continue
        for output, tangent in zip(
            operation.outputs, _carry(operation, given, lookup), strict=True
        ):
            if tangent is not None:
                tangents[output.ref()] = tangent


def _carry(operation: "tf.Operation", given: Tangents, lookup: Lookup) -> Tangents:
    """Returns the tangents of an operation's outputs, from those of its inputs."""
    moving = [i for i, tangent in enumerate(given) if tangent is not None]
    if operation.type in RULES:
        outputs = RULES[operation.type](operation, given, lookup)
        if outputs is not None:
            return outputs
    if set(moving) <= _at(LINEAR, operation):
        return _linear(operation, given, lookup)
    if set(moving) <= _at(MULTILINEAR, operation):
        terms = []
        for i in moving:
            inputs = [given[i] if i == j else lookup(t) for j, t in enumerate(operation.inputs)]
            terms.append(_again(operation, inputs)[0])
        return [terms[0] if len(terms) == 1 else tf.add_n(terms)]
    return _two_reverse_passes(operation, given, lookup)


def _at(table: Mapping[str, Sequence[int] | None], operation: "tf.Operation") -> set[int]:
    """Returns the indices of inputs that a table has for an operation."""
    inputs = table.get(operation.type, ())
    return set(range(len(operation.inputs)) if inputs is None else inputs)


def _again(operation: "tf.Operation", inputs: Sequence["tf.Tensor"]) -> Tangents:
    """Returns the outputs of the same operation for other inputs."""
    names = [name for name in operation.node_def.attr if not name.startswith("_")]
    return (
        tf.compat.v1.get_default_graph()
        .create_op(
            operation.type,
            inputs,
            [output.dtype for output in operation.outputs],
            attrs={name: operation.node_def.attr[name] for name in names},
        )
        .outputs
    )


def _shape(tensor: "tf.Tensor", lookup: Lookup) -> Any:
    """Returns a tensor's shape: static where it is known."""
    static = tensor.shape
    return static if static.is_fully_defined() else tf.shape(lookup(tensor))


def _linear(operation: "tf.Operation", given: Tangents, lookup: Lookup) -> Tangents:
    """Returns the tangents of an operation that is linear in the inputs with tangents."""
    places, (output, *_) = _at(LINEAR, operation), operation.outputs
    moving = [i for i, tangent in enumerate(given) if tangent is not None]
    if operation.type == "AddN":
        return [tf.add_n([given[i] for i in moving])]
    if operation.type in ("Add", "AddV2", "BiasAdd", "Sub") and len(moving) == 1:
        tangent = given[moving[0]]
        if operation.type == "Sub" and moving == [1]:
            tangent = -tangent
        if not (tangent.shape.is_fully_defined() and tangent.shape == output.shape):
            if operation.type == "BiasAdd" and operation.get_attr("data_format") == b"NCHW":
                tangent = tf.reshape(tangent, [-1] + [1] * (output.shape.rank - 2))
            tangent = tf.broadcast_to(tangent, _shape(output, lookup))
        return [tangent]
    inputs = []
    for i, tensor in enumerate(operation.inputs):
        if given[i] is not None:
            inputs.append(given[i])
        elif i in places and tensor.dtype.is_floating:
            inputs.append(tf.zeros(_shape(tensor, lookup), tensor.dtype))
        else:
            inputs.append(lookup(tensor))
    return _again(operation, inputs)


def check_gradient(operation: "tf.Operation") -> None:
    """Raises UnsupportedError if outputs vary with inputs, but TensorFlow takes them as constant.

    This is so for functions of NumPy, and for floating numbers that are taken as integers.
    """
    of_numpy = operation.type in ("PyFunc", "PyFuncStateless")
    if operation.type == "Bitcast" or (
        of_numpy and any(output.dtype.is_floating for output in operation.outputs)
    ):
        raise UnsupportedError(f"{operation.name} ({operation.type}) has no gradient in TensorFlow")


def _is_opaque(dtype: "tf.DType") -> bool:
    """Returns whether tensors of a dtype may depend on parameters, but have no tangents here."""
    return bool(dtype.is_complex) or dtype in (tf.variant, tf.resource)


def _two_reverse_passes(operation: "tf.Operation", given: Tangents, lookup: Lookup) -> Tangents:
    """Returns J t for any operation: the transpose of v -> J'v, which is linear."""
    if any(attr.HasField("func") for attr in operation.node_def.attr.values()):
        raise UnsupportedError(f"{operation.name} ({operation.type}) runs functions, as loops do.")
    moving = [i for i, tangent in enumerate(given) if tangent is not None]
    # Copies, since an input may depend on another input, but here inputs are independent.
    inputs = [tf.identity(lookup(tensor)) for tensor in operation.inputs]
    outputs = _again(operation, inputs)
    opaque = [output for output in outputs if _is_opaque(output.dtype)]
    if opaque:
        raise UnsupportedError(
            f"{operation.name} ({operation.type}) puts out {opaque[0].dtype.name} tensors."
        )
    check_gradient(operation)
    smooth = [output for output in outputs if output.dtype.is_floating]
    if not smooth:
        return [None] * len(outputs)
    weights = [tf.ones_like(output) for output in smooth]
    try:
        products = tf.gradients(smooth, [inputs[i] for i in moving], grad_ys=weights)
        pairs = [(p, given[i]) for p, i in zip(products, moving, strict=True) if p is not None]
        if not pairs:
            return [None] * len(outputs)
        results = tf.gradients(
            [tf.convert_to_tensor(p) for p, _ in pairs], weights, grad_ys=[t for _, t in pairs]
        )
    except (LookupError, NotImplementedError, TypeError, ValueError) as error:
        raise UnsupportedError(
            f"{operation.name} ({operation.type}) has no second derivative in TensorFlow: {error}"
        ) from error
    results = iter(results)
    return [next(results) if output.dtype.is_floating else None for output in outputs]


def _relu(operation: "tf.Operation", given: Tangents, lookup: Lookup) -> Tangents:
    # From the output rather than the input, since later operations need the output too.
    return [tf.raw_ops.ReluGrad(gradients=given[0], features=lookup(operation.outputs[0]))]


def _softsign(operation: "tf.Operation", given: Tangents, lookup: Lookup) -> Tangents:
    return [tf.raw_ops.SoftsignGrad(gradients=given[0], features=lookup(operation.inputs[0]))]


def _softsign_grad(operation: "tf.Operation", given: Tangents, lookup: Lookup) -> Tangents:
    # g / (1 + |x|)^2: TensorFlow has no derivative of it.
    gradients, features = (lookup(tensor) for tensor in operation.inputs)
    base = 1 + abs(features)
    terms = []
    if given[0] is not None:
        terms.append(given[0] / base**2)
    if given[1] is not None:
        terms.append(-2 * given[1] * gradients * tf.sign(features) / base**3)
    return [tf.add_n(terms)]


def _tiles(operation: "tf.Operation") -> dict[str, Any] | None:
    """Returns ksize, strides and padding if the windows of a pooling don't overlap, else None."""
    size, padding = operation.get_attr("ksize"), operation.get_attr("padding")
    image = operation.inputs[0].shape
    if (
        size != operation.get_attr("strides")
        or operation.get_attr("data_format") != b"NHWC"
        or not image.is_fully_defined()
        or padding == b"EXPLICIT"
        or (padding == b"SAME" and any(n % k for n, k in zip(image, size, strict=True)))
    ):
        return None
    return {"ksize": size, "strides": size, "padding": "VALID"}


def _winners(operation: "tf.Operation", output: "tf.Tensor", lookup: Lookup) -> "tf.Tensor":
    """Returns 1 at the pixel that a max-pooling chose in each window, else 0, by its gradient."""
    image = operation.inputs[0]

    def make() -> "tf.Tensor":
        attributes = {name: operation.get_attr(name) for name in ("ksize", "strides")}
        return tf.raw_ops.MaxPoolGrad(
            orig_input=image,
            orig_output=output,
            grad=tf.ones_like(output),
            padding=operation.get_attr("padding").decode(),
            **attributes,
        )

    return lookup.derive(("winners", image.ref(), output.ref()), make)


def _area(tiles: dict[str, Any], dtype: "tf.DType") -> "tf.Tensor":
    return tf.constant(tiles["ksize"][1] * tiles["ksize"][2], dtype)


# Where windows don't overlap, a mask of the winners and a mean are 3 times as fast on a CPU as the
# gradient of the gradient of a max-pooling.


def _max_pool(operation: "tf.Operation", given: Tangents, lookup: Lookup) -> Tangents:
    tiles = _tiles(operation)
    if tiles is None:
        image, pooled = lookup(operation.inputs[0]), lookup(operation.outputs[0])
        return [max_pooling.at_maxima(image, pooled, given[0], operation.get_attr)]
    chosen = given[0] * _winners(operation, operation.outputs[0], lookup)
    return [tf.raw_ops.AvgPool(value=chosen, **tiles) * _area(tiles, chosen.dtype)]


def _max_pool_grad(operation: "tf.Operation", given: Tangents, lookup: Lookup) -> Tangents | None:
    tiles = _tiles(operation)
    if tiles is None:
        return None
    image, output, _ = operation.inputs
    everywhere = tf.raw_ops.AvgPoolGrad(orig_input_shape=image.shape, grad=given[2], **tiles)
    area = _area(tiles, everywhere.dtype)
    return [everywhere * (area * _winners(operation, output, lookup))]


RULES: dict[str, Callable[..., Tangents | None]] = {
    "MaxPool": _max_pool,
    "MaxPoolGrad": _max_pool_grad,
    "Relu": _relu,
    "Softsign": _softsign,
    "SoftsignGrad": _softsign_grad,
}
