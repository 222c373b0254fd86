"""Readers of weight files: `read(path)` gives source name -> NumPy array, whatever the format.

One module per format, none of which needs the framework that wrote the file. The optional packages
(`onnx`, `tflite`, `safetensors`) are imported only when such a file is read.
"""

import importlib
import importlib.util
import os
import zipfile
from pathlib import Path

import numpy as np

_EXTRA = {"onnx": "models", "tflite": "readers", "safetensors": "readers"}
# extension -> (module, package it needs or None)
_FORMATS = {
    ".onnx": ("onnx_file", "onnx"),
    ".tflite": ("tflite_file", "tflite"),
    ".safetensors": ("safetensors_file", "safetensors"),
    ".npz": ("npz_file", None),
    ".dat": ("dlib_file", None),
    ".json": ("tfjs_file", None),
    **dict.fromkeys((".pt", ".pth", ".ckpt", ".tar", ".bin", ".pkl"), ("torch_file", None)),
}


def read(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """Every tensor of a weight file, by its name in the file.

    Formats: PyTorch checkpoints (zip and legacy), safetensors, npz, ONNX, TFLite, TensorFlow.js
    (`model.json`) and dlib networks. The content decides; the extension only where it cannot.

    Raises:
      ValueError: unknown format, damaged or malicious file, or an optional package is missing
        (the message names the pip command).
      FileNotFoundError: no such file.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: there is no such file")
    module, package = _format(path)
    if package is not None and importlib.util.find_spec(package) is None:
        raise ValueError(
            f"{path}: reading this format needs the package {package}: "
            f'pip install "tipim-jax[{_EXTRA[package]}]"'
        )
    return importlib.import_module(f"{__name__}.{module}").read(path)


def _format(path: Path) -> tuple[str, str | None]:
    with open(path, "rb") as file:
        head = file.read(32)
    if head[:4] == b"PK\x03\x04" and zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            arrays = all(name.endswith(".npy") for name in archive.namelist())
        return _FORMATS[".npz" if arrays else ".pt"]
    if head[4:8] == b"TFL3":
        return _FORMATS[".tflite"]
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") < path.stat().st_size:
        return _FORMATS[".safetensors"]
    if b"loss_metric_" in head:
        return _FORMATS[".dat"]
    extension = path.suffix.lower()
    if extension not in _FORMATS:
        known = ", ".join(sorted(_FORMATS))
        raise ValueError(f"{path}: unknown weight format; known extensions are {known}")
    return _FORMATS[extension]
