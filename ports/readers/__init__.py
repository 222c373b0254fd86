"""Readers of weight files: `read(path)` gives source name -> NumPy array, whatever the format.

One module per format, none of which needs the framework that wrote the file. The optional packages
(`onnx`, `tflite`, `safetensors`) are imported only when such a file is read.

A file may come from anywhere: no code of it is run, and of a file of n bytes at most 64 MiB + 16 n are
unpacked (`limits`), with as much again for the work. What is damaged or claims more is refused in one sentence.
"""

import importlib
import importlib.util
import os
import zipfile
from pathlib import Path

import numpy as np

from ports.readers.limits import Allowance, refused
from tipim_jax.errors import UserError

_EXTRA = {"onnx": "models", "tflite": "models", "safetensors": "readers"}
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
      UserError: no such file, an unknown format, a damaged or malicious file, or an optional package is
        missing (the message names the pip command).
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: there is no such weight file")
    module, package = _format(path)
    if package is not None and importlib.util.find_spec(package) is None:
        raise UserError(
            f"{path}: reading this format needs the package {package}: "
            f'pip install "tipim-jax[{_EXTRA[package]}]"'
        )
    return importlib.import_module(f"{__name__}.{module}").read(path, Allowance(path))


def _format(path: Path) -> tuple[str, str | None]:
    with open(path, "rb") as file:
        head = file.read(32)
    if head[:4] == b"PK\x03\x04" and zipfile.is_zipfile(path):
        with refused(path, "not a readable archive"), zipfile.ZipFile(path) as archive:
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
        raise UserError(f"{path}: unknown weight format; known extensions are {known}")
    return _FORMATS[extension]
