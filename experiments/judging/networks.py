"""Recognisers that this project has no port of: ONNX and TFLite files, run by their own runtimes.

They are described by a JSON file, `judges.json` in their folder or any other whose `file` entries lead to
them, absolute or from where it lies:

    {"NAME": {"file": "net.onnx", "template": "arcface", "crop": [112, 112], "mean": 127.5, "scale": 128,
              "layout": "NCHW", "channels": "RGB"}}

`template` is where a crop of (width, height) has the eyes, the nose and the corners of the mouth: five points,
image-left first, or "arcface", those of the 112 × 112 crop moved to the middle of this one. The network gets
(level − mean) / scale, numbers or one a channel. Needs the extra `judges`.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tipim_jax.core.geometry import ARCFACE_112
from tipim_jax.errors import UserError

DESCRIPTION = "judges.json"
LAYOUTS, CHANNELS = ("NCHW", "NHWC"), ("RGB", "BGR")
_FIELDS = {"file", "template", "crop", "mean", "scale", "layout", "channels"}
_INSTALL = 'install "tipim-jax[judges]"'

Run = Callable[[np.ndarray], np.ndarray]  # what a network takes, [1,...] float32 -> [1,D]


class Network(NamedTuple):
    """A file of weights and what its network wants to see."""

    name: str  # of the judge
    file: Path  # .onnx or .tflite
    template: np.ndarray  # [5,2] landmarks (x, y) in the crop
    crop: tuple[int, int]  # (width, height)
    # mean, scale: [3], pixel levels, in the order of `channels`
    mean: np.ndarray
    scale: np.ndarray
    # layout, channels: of `LAYOUTS` and `CHANNELS`
    layout: str
    channels: str

    @property
    def digest(self) -> str:
        """Changes with the weights and with the description."""
        content = hashlib.sha256(self.file.read_bytes())
        for part in (self.template, self.crop, self.mean, self.scale, self.layout, self.channels):
            content.update(repr(part).encode())
        return content.hexdigest()[:12]


def described(place: Path) -> list[Network]:
    """The networks of a folder that holds a `judges.json`, or of such a file."""
    path = place / DESCRIPTION if place.is_dir() else place
    try:
        items = list(json.loads(path.read_text(encoding="utf-8")).items())
    except (OSError, AttributeError, json.JSONDecodeError) as error:
        raise UserError(
            f"{path} describes no judges ({error!r}); see the top of experiments/judging/networks.py"
        ) from error
    if not items:
        raise UserError(f"{path} names no judge; add one or leave out --judges")
    return [_network(path, name, entry) for name, entry in items]


def _network(path: Path, name: str, entry: Any) -> Network:
    if not isinstance(entry, Mapping) or set(entry) != _FIELDS:
        raise UserError(f"{path}: {name} must have {', '.join(sorted(_FIELDS))}, and no more")
    file = path.parent / entry["file"]
    if file.suffix not in _READERS:
        raise UserError(f"{path}: {name} is {file.name}, neither .onnx nor .tflite")
    if not file.is_file():
        raise UserError(f"{path}: {file}, the file of {name}, does not exist")
    for field, known in (("layout", LAYOUTS), ("channels", CHANNELS)):
        if entry[field] not in known:
            raise UserError(f"{path}: {field} of {name} is none of {', '.join(known)}")
    try:
        width, height = (int(length) for length in entry["crop"])
        middle = (np.array([width, height]) - 112) / 2
        points = ARCFACE_112 + middle if entry["template"] == "arcface" else entry["template"]
        template = np.asarray(points, np.float64).reshape(5, 2)
        mean, scale = (
            np.broadcast_to(np.asarray(entry[field], np.float32), 3) for field in ("mean", "scale")
        )
    except (TypeError, ValueError) as error:
        raise UserError(
            f"{path}: crop, template, mean or scale of {name} is not understood ({error})"
        ) from error
    if min(width, height) < 1 or not np.all(scale):
        raise UserError(f"{path}: crop and scale of {name} must not be zero")
    return Network(
        name, file, template, (width, height), mean, scale, entry["layout"], entry["channels"]
    )


def embedder(network: Network) -> Callable[[np.ndarray], np.ndarray]:
    """Crops [N,h,w,3] RGB, pixel levels -> embeddings [N,D] of unit norm, which do not depend on neighbours."""
    try:
        run = _READERS[network.file.suffix](network.file)
    except ImportError as error:
        raise UserError(f"{network.name} needs {error.name}; {_INSTALL}") from error
    except Exception as error:  # the runtimes raise classes of their own on damaged files
        raise UserError(f"{network.file} cannot be run ({error})") from error

    def embed(crops: np.ndarray) -> np.ndarray:
        ordered = crops if network.channels == "RGB" else crops[..., ::-1]
        inputs = ((ordered - network.mean) / network.scale).astype(np.float32)
        if network.layout == "NCHW":
            inputs = inputs.transpose(0, 3, 1, 2)
        rows = [run(np.ascontiguousarray(one[None])).reshape(-1) for one in inputs]
        embedded = np.stack(rows).astype(np.float64)
        norms = np.linalg.norm(embedded, axis=1, keepdims=True)
        return (embedded / np.maximum(norms, 1e-12)).astype(np.float32)

    return embed


def _onnx(file: Path) -> Run:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1  # the networks are small, and several judge at once
    options.log_severity_level = 3
    # By its bytes, since a path may hold what the runtime's own reader does not take.
    session = onnxruntime.InferenceSession(
        file.read_bytes(), options, providers=["CPUExecutionProvider"]
    )
    name = session.get_inputs()[0].name
    return lambda inputs: np.asarray(session.run(None, {name: inputs})[0])


def _tflite(file: Path) -> Run:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=file.read_bytes(), num_threads=1)
    interpreter.allocate_tensors()
    into = interpreter.get_input_details()[0]["index"]
    out = interpreter.get_output_details()[0]["index"]

    def run(inputs: np.ndarray) -> np.ndarray:
        interpreter.set_tensor(into, inputs)
        interpreter.invoke()
        return np.array(interpreter.get_tensor(out))

    return run


_READERS: Mapping[str, Callable[[Path], Run]] = {".onnx": _onnx, ".tflite": _tflite}
