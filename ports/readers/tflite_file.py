"""Reads TensorFlow Lite models (package `tflite`): weights, dequantised, and operations."""

from pathlib import Path
from typing import Any

import numpy as np
import tflite

from ports.readers.graph import Graph, Operation
from ports.readers.limits import Allowance, refused

_DTYPES = {
    tflite.TensorType.FLOAT32: "<f4",
    tflite.TensorType.FLOAT16: "<f2",
    tflite.TensorType.FLOAT64: "<f8",
    tflite.TensorType.INT32: "<i4",
    tflite.TensorType.INT64: "<i8",
    tflite.TensorType.INT16: "<i2",
    tflite.TensorType.INT8: "i1",
    tflite.TensorType.UINT8: "u1",
    tflite.TensorType.BOOL: "?",
}
_INDEX = 16  # bytes that an index of a tensor takes here
_OPERATORS = {v: k for k, v in vars(tflite.BuiltinOperator).items() if isinstance(v, int)}
_PADDINGS = {tflite.Padding.SAME: "SAME", tflite.Padding.VALID: "VALID"}
_ACTIVATIONS = {v: k for k, v in vars(tflite.ActivationFunctionType).items() if isinstance(v, int)}


def read(path: Path, allowance: Allowance) -> dict[str, np.ndarray]:
    """Name -> array of every constant tensor; see `read_graph`."""
    return read_graph(path, allowance).tensors


def read_graph(path: Path, allowance: Allowance | None = None) -> Graph:
    """The first subgraph: constants by name (in TFLite's OHWI; depthwise 1HWC), and operations.

    float16 weights and integer weights with a scale come back as float32; `DEQUANTIZE` operations
    on constants are folded away. Convolutions and pools carry `stride` (rows, columns), `padding`
    and `activation`.

    Raises:
      UserError: not a TFLite model, or damaged.
    """
    with refused(path, "the TFLite model is damaged or unsupported"):
        allowance = allowance or Allowance(path)
        allowance.take(path.stat().st_size)
        data = path.read_bytes()
        if data[4:8] != b"TFL3":
            raise ValueError("it has no signature")
        return _graph(tflite.Model.GetRootAsModel(data, 0), allowance)


def _graph(model: Any, allowance: Allowance) -> Graph:
    subgraph = model.Subgraphs(0)
    names = [_name(subgraph.Tensors(i), allowance) for i in range(subgraph.TensorsLength())]
    tensors: dict[str, np.ndarray] = {}
    for i, name in enumerate(names):
        array = _constant(model, subgraph.Tensors(i), allowance)
        if array is not None:
            tensors[name] = array
    operations = []
    for i in range(subgraph.OperatorsLength()):
        operator = subgraph.Operators(i)
        code = model.OperatorCodes(operator.OpcodeIndex())
        kind = _OPERATORS[code.BuiltinCode()]
        allowance.take(_INDEX * (operator.InputsLength() + operator.OutputsLength()))
        inputs = tuple(names[j] if j >= 0 else "" for j in operator.InputsAsNumpy())
        outputs = tuple(names[j] for j in operator.OutputsAsNumpy())
        if kind == "DEQUANTIZE" and inputs[0] in tensors:
            tensors[outputs[0]] = tensors.pop(inputs[0]).astype(np.float32)
        else:
            operations.append(Operation(kind, inputs, outputs, _attributes(kind, operator)))
    return Graph(
        tensors,
        tuple(operations),
        tuple(names[j] for j in subgraph.InputsAsNumpy()),
        tuple(names[j] for j in subgraph.OutputsAsNumpy()),
    )


def _name(tensor: Any, allowance: Allowance) -> str:
    name = tensor.Name()
    allowance.take(len(name))  # tensors can share a name, a buffer and even themselves
    return name.decode()


def _constant(model: Any, tensor: Any, allowance: Allowance) -> np.ndarray | None:
    buffer = model.Buffers(tensor.Buffer())
    if buffer.DataLength() == 0:
        return None
    allowance.take(4 * buffer.DataLength())
    shape = tensor.ShapeAsNumpy() if tensor.ShapeLength() else ()
    array = np.frombuffer(buffer.DataAsNumpy().tobytes(), _DTYPES[tensor.Type()]).reshape(shape)
    quantization = tensor.Quantization()
    if quantization is None or quantization.ScaleLength() == 0:
        return array
    scale, zero = quantization.ScaleAsNumpy(), quantization.ZeroPointAsNumpy()
    along = [1] * array.ndim
    if scale.size > 1:  # one scale per slice of one axis
        along[quantization.QuantizedDimension()] = scale.size
    if np.broadcast_shapes(array.shape, scale.reshape(along).shape) != array.shape:
        raise ValueError("there are more scales than weights")
    centred = array.astype(np.float32) - zero.reshape(along).astype(np.float32)
    return centred * scale.reshape(along).astype(np.float32)


def _attributes(kind: str, operator: Any) -> dict[str, Any]:
    options = {
        "CONV_2D": tflite.Conv2DOptions,
        "DEPTHWISE_CONV_2D": tflite.DepthwiseConv2DOptions,
        "AVERAGE_POOL_2D": tflite.Pool2DOptions,
        "MAX_POOL_2D": tflite.Pool2DOptions,
    }.get(kind)
    table = operator.BuiltinOptions()
    if options is None or table is None:
        return {}
    option = options()
    option.Init(table.Bytes, table.Pos)
    return {
        "stride": (option.StrideH(), option.StrideW()),
        "padding": _PADDINGS[option.Padding()],
        "activation": _ACTIVATIONS[option.FusedActivationFunction()],
    }
