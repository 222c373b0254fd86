"""Writes weight files without the frameworks they are of: sound ones, and ones that ask to run something."""

import os
import zipfile

import flatbuffers
import numpy as np
import onnx
import tflite
from onnx import TensorProto, helper, numpy_helper


class Command:
    """Unpickled by a careless reader, this runs a shell command."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.system, (f"touch {self.marker}",)


class Evaluation(Command):
    def __reduce__(self):
        return eval, (f"open({str(self.marker)!r}, 'w')",)


def write_zip(path, program, storages=()):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", program)
        for key, data in enumerate(storages):
            archive.writestr(f"archive/data/{key}", data)


def tensor_program(offset, size, stride, storage="FloatStorage", name="w"):
    """The pickle of {name: tensor} over storage 0."""

    def numbers(values):
        return "(" + "".join(f"I{value}\n" for value in values) + "t"

    return (
        f"}}V{name}\nctorch._utils\n_rebuild_tensor_v2\n"
        f"((Vstorage\nctorch\n{storage}\nV0\nVcpu\nI4\ntQI{offset}\n"
        f"{numbers(size)}{numbers(stride)}I00\nNtRs."
    ).encode()


def quantised_convolution(tmp_path, rng):
    """A blocked int8 convolution whose weights are graph inputs too, and its float output."""
    quantised = rng.integers(-128, 128, (4, 27), dtype=np.int8)
    scales = rng.uniform(0.01, 0.02, (4, 3)).astype(np.float32)  # blocks of 10, 10 and 7
    zeros = rng.integers(-5, 5, (4, 3), dtype=np.int8)
    bias = rng.integers(-128, 128, 4, dtype=np.int8)
    initialisers = {
        "w_quantized": quantised,
        "w_scales": scales,
        "w_zero_point": zeros,
        "w_shape": np.array([4, 3, 3, 3]),
        "b_quantized": bias,
        "b_scales": np.float32(0.1),
    }
    nodes = [
        helper.make_node(
            "DequantizeLinear",
            ["w_quantized", "w_scales", "w_zero_point"],
            ["w_dequantized"],
            axis=1,
            block_size=10,
        ),
        helper.make_node("Reshape", ["w_dequantized", "w_shape"], ["w_reshaped"]),
        helper.make_node("DequantizeLinear", ["b_quantized", "b_scales"], ["b_dequantized"]),
        helper.make_node("Conv", ["x", "w_reshaped", "b_dequantized"], ["y"], pads=[1, 1, 1, 1]),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [
            helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 5, 5]),
            helper.make_tensor_value_info("w", TensorProto.FLOAT, [4, 3, 3, 3]),
        ],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 4, 5, 5])],
        [numpy_helper.from_array(np.asarray(a), name) for name, a in initialisers.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)])
    path = tmp_path / "quantised.onnx"
    onnx.save(model, path)
    return path, model


def tflite_model(tensors, operator):
    """A one-operation model of tensors (name, shape, type, data, scales, zeros, axis); data may be None or the
    number of a tensor whose data it shares."""
    b = flatbuffers.Builder(1024)

    def vector(start, items, prepend):
        start(b, len(items))
        for item in reversed(items):
            prepend(item)
        return b.EndVector()

    buffers, offsets = [], []
    for i, (name, shape, kind, data, scales, zeros, axis) in enumerate(tensors):
        own = isinstance(data, np.ndarray)
        content = b.CreateByteVector(data.tobytes()) if own else None
        tflite.BufferStart(b)
        if content is not None:
            tflite.BufferAddData(b, content)
        buffers.append(tflite.BufferEnd(b))
        quantization = None
        if scales is not None:
            s, z = b.CreateNumpyVector(scales), b.CreateNumpyVector(zeros)
            tflite.QuantizationParametersStart(b)
            tflite.QuantizationParametersAddScale(b, s)
            tflite.QuantizationParametersAddZeroPoint(b, z)
            tflite.QuantizationParametersAddQuantizedDimension(b, axis)
            quantization = tflite.QuantizationParametersEnd(b)
        label, dims = b.CreateString(name), b.CreateNumpyVector(np.array(shape, np.int32))
        tflite.TensorStart(b)
        tflite.TensorAddName(b, label)
        tflite.TensorAddShape(b, dims)
        tflite.TensorAddType(b, kind)
        tflite.TensorAddBuffer(b, data if isinstance(data, int) else i)
        if quantization is not None:
            tflite.TensorAddQuantization(b, quantization)
        offsets.append(tflite.TensorEnd(b))
    tflite.Conv2DOptionsStart(b)
    tflite.Conv2DOptionsAddStrideH(b, 2)
    tflite.Conv2DOptionsAddStrideW(b, 1)
    tflite.Conv2DOptionsAddPadding(b, tflite.Padding.VALID)
    tflite.Conv2DOptionsAddFusedActivationFunction(b, tflite.ActivationFunctionType.RELU)
    options = tflite.Conv2DOptionsEnd(b)
    inputs, outputs = (b.CreateNumpyVector(np.array(v, np.int32)) for v in operator)
    tflite.OperatorStart(b)
    tflite.OperatorAddInputs(b, inputs)
    tflite.OperatorAddOutputs(b, outputs)
    tflite.OperatorAddBuiltinOptionsType(b, tflite.BuiltinOptions.Conv2DOptions)
    tflite.OperatorAddBuiltinOptions(b, options)
    operation = tflite.OperatorEnd(b)
    relative = b.PrependUOffsetTRelative
    tensors_at = vector(tflite.SubGraphStartTensorsVector, offsets, relative)
    operations_at = vector(tflite.SubGraphStartOperatorsVector, [operation], relative)
    into, out_of = (b.CreateNumpyVector(np.array([v[0]], np.int32)) for v in operator)
    tflite.SubGraphStart(b)
    tflite.SubGraphAddTensors(b, tensors_at)
    tflite.SubGraphAddOperators(b, operations_at)
    tflite.SubGraphAddInputs(b, into)
    tflite.SubGraphAddOutputs(b, out_of)
    subgraph = tflite.SubGraphEnd(b)
    tflite.OperatorCodeStart(b)
    tflite.OperatorCodeAddDeprecatedBuiltinCode(b, tflite.BuiltinOperator.CONV_2D)
    code = tflite.OperatorCodeEnd(b)
    codes_at = vector(tflite.ModelStartOperatorCodesVector, [code], relative)
    subgraphs_at = vector(tflite.ModelStartSubgraphsVector, [subgraph], relative)
    buffers_at = vector(tflite.ModelStartBuffersVector, buffers, relative)
    tflite.ModelStart(b)
    tflite.ModelAddOperatorCodes(b, codes_at)
    tflite.ModelAddSubgraphs(b, subgraphs_at)
    tflite.ModelAddBuffers(b, buffers_at)
    b.Finish(tflite.ModelEnd(b), file_identifier=b"TFL3")
    return bytes(b.Output())


def _dlib_integer(value):
    data = value.to_bytes(max(1, (value.bit_length() + 7) // 8), "little")
    return bytes([len(data)]) + data


def dlib_layer(tag, array, before=(), after=()):
    numbers = b"".join(_dlib_integer(n) for n in (2, array.size, 1, 1, 1))
    head = _dlib_integer(len(tag)) + tag.encode() + b"".join(map(_dlib_integer, before))
    return head + numbers + array.astype("<f4").tobytes() + b"".join(map(_dlib_integer, after))
