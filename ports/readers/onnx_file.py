"""Reads ONNX models (package `onnx`): weights with constant arithmetic folded, and operations."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from onnx import numpy_helper

from ports.readers.graph import Graph, Operation
from ports.readers.limits import Allowance, refused

Attributes = dict[str, Any]


def read(path: Path, allowance: Allowance) -> dict[str, np.ndarray]:
    """Name -> array of every constant that an operation uses; see `read_graph`."""
    return read_graph(path, allowance).tensors


def read_graph(path: Path, allowance: Allowance | None = None) -> Graph:
    """The weights, and the operations that are left once weight-only operations are folded.

    Folded: `Constant`, `Identity`, `Cast`, `Transpose`, `Reshape`, `Squeeze`,
    `Unsqueeze` and `DequantizeLinear` (per tensor, per axis, and blocked) whose inputs are all
    constants. A folded tensor takes the name that it had before quantisation (`x` for a chain that
    starts at `x_quantized`), so one weight table fits the float file and the quantised one.

    Raises:
      UserError: not an ONNX model, its weights lie in other files, or a folded operation is used in a way
        that is not supported.
    """
    with refused(path, "not a readable ONNX model"):
        try:
            model = onnx.load(path, load_external_data=False)
        except DecodeError as error:
            raise ValueError(str(error)) from error
        if not model.graph.node:
            raise ValueError("it holds no operation")
        return _fold(model.graph, allowance or Allowance(path))


def _fold(graph: onnx.GraphProto, allowance: Allowance) -> Graph:
    constants = {i.name: _array(i, allowance) for i in graph.initializer}
    nodes = [
        Operation(
            node.op_type,
            tuple(node.input),
            tuple(node.output),
            {a.name: _attribute(a, allowance) for a in node.attribute},
        )
        for node in graph.node
    ]
    taken = set(constants).union(*(node.outputs for node in nodes))
    renamed: dict[str, str] = {}  # folded tensor -> the name it had before quantisation
    operations = []
    for node in nodes:
        if node.kind in _FOLDS and all(name in constants for name in node.inputs if name):
            arrays = [constants[name] if name else None for name in node.inputs]
            (output,) = node.outputs
            constants[output] = _FOLDS[node.kind](node.attributes, *arrays)
            if not any(a is not None and np.may_share_memory(a, constants[output]) for a in arrays):
                allowance.take(constants[output].nbytes)
            if node.inputs:
                origin = renamed.get(node.inputs[0], node.inputs[0].removesuffix("_quantized"))
                if origin not in taken:
                    renamed[output] = origin
        else:
            operations.append(node)
    operations = [
        node._replace(inputs=tuple(renamed.get(name, name) for name in node.inputs))
        for node in operations
    ]
    named = {renamed.get(name, name): array for name, array in constants.items()}
    used = {name: named[name] for node in operations for name in node.inputs if name in named}
    # some exporters list the weights among the inputs
    inputs = tuple(i.name for i in graph.input if i.name not in named)
    return Graph(used, tuple(operations), inputs, tuple(o.name for o in graph.output))


def _array(tensor: onnx.TensorProto, allowance: Allowance) -> np.ndarray:
    if tensor.data_location == onnx.TensorProto.EXTERNAL:
        raise ValueError("its weights lie in other files; save it as one file")
    if tensor.data_type == onnx.TensorProto.STRING:
        raise ValueError("it holds text among its weights")
    array = numpy_helper.to_array(tensor)  # at most eight times as large as it is stored
    allowance.take(array.nbytes)
    return array


def _attribute(attribute: onnx.AttributeProto, allowance: Allowance) -> Any:
    if attribute.type == onnx.AttributeProto.TENSOR:
        return _array(attribute.t, allowance)
    return onnx.helper.get_attribute_value(attribute)


def _dequantize(
    attributes: Attributes, x: np.ndarray, scale: np.ndarray, zero: np.ndarray | None = None
) -> np.ndarray:
    block = attributes.get("block_size", 0)
    axis = attributes.get("axis", 1)
    if zero is None:
        zero = np.zeros(scale.shape, x.dtype)
    if block:  # so many elements along `axis` share a scale; the last may be fewer
        blocks = list(x.shape)
        blocks[axis] = -(-x.shape[axis] // block)
        if {scale.shape, zero.shape} != {tuple(blocks)}:
            raise ValueError(f"scales {scale.shape} for blocks of {x.shape}")
        index = np.arange(x.shape[axis]) // block
        scale, zero = (np.take(a, index, axis) for a in (scale, zero))
    elif scale.ndim == 1 and scale.size > 1:
        along = [1] * x.ndim
        along[axis] = scale.size
        scale, zero = scale.reshape(along), zero.reshape(along)
    if np.broadcast_shapes(x.shape, scale.shape, zero.shape) != x.shape:
        raise ValueError(f"scales {scale.shape} for {x.shape}")
    y = x.astype(np.float32)
    y -= zero
    y *= scale
    return y


def _reshape(attributes: Attributes, x: np.ndarray, shape: np.ndarray) -> np.ndarray:
    if not attributes.get("allowzero", 0):
        shape = np.array([x.shape[i] if n == 0 else n for i, n in enumerate(shape)])
    return x.reshape(shape)


def _axes(attributes: Attributes, axes: np.ndarray | None) -> tuple[int, ...]:
    """The axes of (un)squeeze: an input since opset 13, an attribute before."""
    return tuple(int(axis) for axis in (attributes["axes"] if axes is None else axes))


def _constant(attributes: Attributes) -> np.ndarray:
    (value,) = attributes.values()
    return np.asarray(value)


def _cast(attributes: Attributes, x: np.ndarray) -> np.ndarray:
    if attributes["to"] == onnx.TensorProto.STRING:
        raise ValueError("it casts weights to text")
    return x.astype(onnx.helper.tensor_dtype_to_np_dtype(attributes["to"]))


_FOLDS: dict[str, Callable[..., np.ndarray]] = {
    "Constant": _constant,
    "Identity": lambda attributes, x: x,
    "Cast": _cast,
    "Transpose": lambda attributes, x: x.transpose(attributes.get("perm")),
    "Reshape": _reshape,
    "Squeeze": lambda attributes, x, axes=None: np.squeeze(x, _axes(attributes, axes)),
    "Unsqueeze": lambda attributes, x, axes=None: np.expand_dims(x, _axes(attributes, axes)),
    "DequantizeLinear": _dequantize,
}
