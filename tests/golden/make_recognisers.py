"""Writes recognisers.npz: what the runtimes of the installable models make of two aligned faces.

The embeddings come from onnxruntime, dlib and LiteRT, or for the TensorFlow.js model (no runtime on
PyPI) from its graph evaluated in PyTorch. The input gradients come from PyTorch in float64, whose
embeddings are checked against the runtimes' first. `NAME_random` are the embeddings with weights
drawn by `random_weights.network`, for tests where the file is absent. The faces are scikit-image's
public-domain astronaut, aligned to each template, and her mirror image.

    TIPIM_MODELS=... python tests/golden/make_recognisers.py

Needs the extras `parity` and `test`, and the black boxes in $TIPIM_MODELS (`tipim models fetch`).
"""

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import dlib
import numpy as np
import onnx
import onnxruntime
import torch
from ai_edge_litert.interpreter import Interpreter
from skimage import data
from torch.nn import functional as F

from ports import architectures, packages, random_weights, readers, zoo
from ports.architectures import ARCHITECTURES
from ports.convert import export
from ports.readers import onnx_file, tflite_file
from ports.readers.graph import Operation
from tipim_jax.core.geometry import fit_similarity

STEP = 16  # the gradient is kept at every STEP-th pixel of both axes

Tensors = dict[str, np.ndarray]


def main() -> None:
    golden: dict[str, np.ndarray] = {}
    photo = data.astronaut()
    landmarks = detect(photo)
    for name, card in zoo.CARDS.items():
        path = zoo.locate(card)
        template = np.array(card.landmarks)
        matrix = fit_similarity(landmarks, template)
        crop = cv2.warpAffine(photo, matrix, card.size[::-1])
        golden[f"crop_{card.size[0]}"] = crop
        crops = np.stack([crop, crop[:, ::-1]])
        usual = ARCHITECTURES[card.architecture]
        order = slice(None, None, -1 if card.channels == "BGR" else 1)
        normalised = (crops[..., order] - np.array(usual.mean)) * usual.scale
        expected = RUNTIMES[name](path, crops, normalised.astype(np.float32))
        expected = expected / np.sqrt((expected**2).sum(1, keepdims=True) + 1e-5)

        pixels = torch.tensor(crops, dtype=torch.float64, requires_grad=True)
        inputs = (pixels.flip(-1) if card.channels == "BGR" else pixels) - torch.tensor(usual.mean)
        inputs = (inputs * usual.scale).permute(0, 3, 1, 2)
        tensors = readers.read(path)
        embeddings = unit(GRAPHS[name](path, tensors, inputs))
        error = np.abs(embeddings.detach().numpy() - expected).max()
        assert error < 1e-5 * np.abs(expected).max() * 2, (name, error)
        # the cosine to an embedding of alternating signs
        signs = torch.tensor((-1.0) ** np.arange(embeddings.shape[1])) / embeddings.shape[1] ** 0.5
        (embeddings @ signs).sum().backward()
        golden[f"{name}_embedding"] = expected.astype(np.float32)
        network = random_weights.network(architectures.abstract(card.architecture))
        drawn = tensors | export(network, usual.table)
        random = unit(GRAPHS[name](path, drawn, inputs.detach())).numpy()
        assert np.isfinite(random).all(), name
        golden[f"{name}_random"] = random.astype(np.float32)
        golden[f"{name}_gradient"] = pixels.grad[:, ::STEP, ::STEP].numpy().astype(np.float32)
        print(
            f"{name}: PyTorch in float64 is within {error:.1e} of the runtime; "
            f"with random weights the two faces have cosine {random[0] @ random[1]:.4f}"
        )
    np.savez_compressed(Path(__file__).with_name("recognisers.npz"), **golden)


def unit(embeddings: torch.Tensor) -> torch.Tensor:
    return embeddings / (embeddings.square().sum(1, keepdim=True) + 1e-5).sqrt()


def detect(photo: np.ndarray) -> np.ndarray:
    """The landmarks [5,2] of the best face, by OpenCV's YuNet."""
    path = str(packages.locate(packages.YUNET))
    detector = cv2.FaceDetectorYN.create(path, "", photo.shape[1::-1], 0.6)
    _, faces = detector.detect(np.ascontiguousarray(photo[..., ::-1]))
    return faces[faces[:, 14].argmax(), 4:14].reshape(5, 2).astype(np.float64)


def run_onnx(path: Path, crops: np.ndarray, normalised: np.ndarray) -> np.ndarray:
    model = onnx.load(path)
    # SFace lists its weights as inputs, and normalises inside its graph
    feed = model.graph.input[0]
    del model.graph.input[1:]
    images = crops.astype(np.float32) if feed.name == "data" else normalised
    session = onnxruntime.InferenceSession(model.SerializeToString())
    images = images.transpose(0, 3, 1, 2)
    return np.concatenate([session.run(None, {feed.name: image[None]})[0] for image in images])


def run_dlib(path: Path, crops: np.ndarray, normalised: np.ndarray) -> np.ndarray:
    network = dlib.face_recognition_model_v1(str(path))
    crops = [np.ascontiguousarray(crop) for crop in crops]
    return np.array([network.compute_face_descriptor(crop) for crop in crops])


def run_tflite(path: Path, crops: np.ndarray, normalised: np.ndarray) -> np.ndarray:
    interpreter = Interpreter(str(path))  # its batch is fixed at 2
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], normalised)
    interpreter.invoke()
    return interpreter.get_tensor(interpreter.get_output_details()[0]["index"])


def run_tfjs(path: Path, crops: np.ndarray, normalised: np.ndarray) -> np.ndarray:
    images = torch.tensor(normalised.transpose(0, 3, 1, 2))
    return evaluate_tfjs(path, readers.read(path), images).numpy()


RUNTIMES = {
    "sface": run_onnx,
    "dlib": run_dlib,
    "frfeat": run_onnx,
    "expo": run_tflite,
    "faceres": run_tfjs,
}


def same_conv(x: torch.Tensor, kernel: torch.Tensor, stride: int, groups: int = 1) -> torch.Tensor:
    """TensorFlow's SAME convolution of NCHW by OIHW, square images and kernels."""
    size, window = x.shape[2], kernel.shape[2]
    missing = max((-(-size // stride) - 1) * stride + window - size, 0)
    low, high = missing // 2, missing - missing // 2
    return F.conv2d(F.pad(x, (low, high, low, high)), kernel, stride=stride, groups=groups)


def channels(x: torch.Tensor) -> torch.Tensor:
    return x.reshape(1, -1, 1, 1) if x.ndim == 1 else x


def evaluate_onnx(path: Path, tensors: Tensors, images: torch.Tensor) -> torch.Tensor:
    graph = onnx_file.read_graph(path)
    values = {name: torch.tensor(array).to(images.dtype) for name, array in tensors.items()}
    values[graph.operations[0].inputs[0]] = images
    for op in graph.operations:
        values[op.outputs[0]] = _onnx(op, [values.get(name) for name in op.inputs])
    return values[graph.outputs[0]]


def _onnx(op: Operation, x: list[Any]) -> torch.Tensor:
    match op.kind:
        case "Conv":
            (pad, *_), (stride, _) = op.attributes["pads"], op.attributes["strides"]
            bias = x[2] if len(x) > 2 else None
            return F.conv2d(x[0], x[1], bias, stride, pad, groups=op.attributes["group"])
        case "BatchNormalization":
            return F.batch_norm(x[0], x[3], x[4], x[1], x[2], eps=op.attributes["epsilon"])
        case "PRelu":
            return F.prelu(x[0], x[1].flatten())
        case "Gemm":
            return x[0] @ x[1].T + x[2]
        case "Add":
            return x[0] + x[1]
        case "Sub":  # SFace's own normalisation has been done
            return x[0]
        case "Mul" | "Dropout":
            return x[0]
        case "Flatten" | "Reshape":
            return x[0].flatten(1)
    raise NotImplementedError(op.kind)


def evaluate_tflite(path: Path, tensors: Tensors, images: torch.Tensor) -> torch.Tensor:
    graph = tflite_file.read_graph(path)
    values = {name: torch.tensor(array).to(images.dtype) for name, array in tensors.items()}
    values[graph.inputs[0]] = images
    for op in graph.operations:
        values[op.outputs[0]] = _tflite(op, [values[name] for name in op.inputs])
    return values[graph.outputs[0]]


def _tflite(op: Operation, x: list[torch.Tensor]) -> torch.Tensor:
    match op.kind:
        case "CONV_2D" | "DEPTHWISE_CONV_2D":
            deep = op.kind == "DEPTHWISE_CONV_2D"
            kernel = x[1].permute((3, 0, 1, 2) if deep else (0, 3, 1, 2))
            groups, stride = kernel.shape[0] if deep else 1, op.attributes["stride"][0]
            if op.attributes["padding"] == "SAME":
                return same_conv(x[0], kernel, stride, groups) + channels(x[2])
            return F.conv2d(x[0], kernel, x[2], stride, groups=groups)
        case "RELU":
            return x[0].relu()
        case "ABS":
            return x[0].abs()
        case "ADD":
            return channels(x[0]) + channels(x[1])
        case "SUB":
            return channels(x[0]) - channels(x[1])
        case "MUL":
            return channels(x[0]) * channels(x[1])
        case "RESHAPE":
            return x[0].flatten(1)
    raise NotImplementedError(op.kind)


def evaluate_tfjs(path: Path, tensors: Tensors, images: torch.Tensor) -> torch.Tensor:
    values = {name: torch.tensor(array).to(images.dtype) for name, array in tensors.items()}
    values["input_1"] = images
    for node in json.loads(path.read_text())["modelTopology"]["node"]:
        if node["op"] in ("Const", "Placeholder"):
            continue
        values[node["name"]] = _tfjs(node, [values[name] for name in node["input"]])
        if node["name"] == "global_pooling/Mean":
            return values[node["name"]]
    raise ValueError("no global_pooling/Mean in the graph")


def _tfjs(node: dict[str, Any], x: list[torch.Tensor]) -> torch.Tensor:
    match node["op"]:
        case "Conv2D" | "DepthwiseConv2dNative":
            attributes = node["attr"]
            assert base64.b64decode(attributes["padding"]["s"]) == b"SAME"
            deep = node["op"] == "DepthwiseConv2dNative"
            kernel = x[1].permute((2, 3, 0, 1) if deep else (3, 2, 0, 1))
            stride = int(attributes["strides"]["list"]["i"][1])
            return same_conv(x[0], kernel, stride, kernel.shape[0] if deep else 1)
        case "Add":
            return x[0] + channels(x[1])
        case "Mul":
            return x[0] * channels(x[1])
        case "Relu":
            return x[0].relu()
        case "Minimum":
            return torch.minimum(x[0], x[1])
        case "Maximum":
            return torch.maximum(x[0], x[1])
        case "Mean":
            return x[0].mean((2, 3))
    raise NotImplementedError(node["op"])


def evaluate_dlib(path: Path, tensors: Tensors, images: torch.Tensor) -> torch.Tensor:
    """dlib's `dnn_face_recognition_ex.cpp`, from the input up."""
    values = {name: torch.tensor(array).to(images.dtype) for name, array in tensors.items()}
    numbers: Iterator[int] = iter(range(29))

    def conv(x: torch.Tensor, stride: int) -> torch.Tensor:
        n = next(numbers)
        kernel = values[f"con.{n}.weight"]
        padding = kernel.shape[2] // 2 if stride == 1 else 0
        x = F.conv2d(x, kernel, values[f"con.{n}.bias"], stride, padding)
        return x * channels(values[f"affine.{n}.gamma"]) + channels(values[f"affine.{n}.beta"])

    def block(x: torch.Tensor, stride: int) -> torch.Tensor:
        y = conv(conv(x, stride).relu(), 1)
        if stride == 2:
            x = F.avg_pool2d(x, 2, 2)
        _, depth, height, width = (max(sizes) for sizes in zip(x.shape, y.shape))
        grown = [
            F.pad(a, (0, width - a.shape[3], 0, height - a.shape[2], 0, depth - a.shape[1]))
            for a in (x, y)
        ]
        return (grown[0] + grown[1]).relu()

    x = F.max_pool2d(conv(images, 2).relu(), 3, 2)
    for strides in ((1, 1, 1), (2, 1, 1, 1), (2, 1, 1), (2, 1, 1), (2,)):
        for stride in strides:
            x = block(x, stride)
    return x.mean((2, 3)) @ values["fc.0.weight"]


GRAPHS = {
    "sface": evaluate_onnx,
    "dlib": evaluate_dlib,
    "frfeat": evaluate_onnx,
    "expo": evaluate_tflite,
    "faceres": evaluate_tfjs,
}


if __name__ == "__main__":
    main()
