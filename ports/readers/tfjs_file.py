"""Reads TensorFlow.js models: a JSON manifest and its binary shards, dequantised."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np

_DTYPES = {
    "float32": "<f4",
    "int32": "<i4",
    "bool": "?",
    "uint8": "u1",
    "uint16": "<u2",
    "float16": "<f2",
}


def read(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """Name -> array from `model.json`; the shards it names lie in the same folder.

    Weights stored as float16 or as scaled uint8/uint16 come back as float32.

    Raises:
      ValueError: not a TensorFlow.js manifest, a shard is missing, or the sizes do not fit.
    """
    path = Path(path)
    try:
        groups = json.loads(path.read_text())["weightsManifest"]
        tensors: dict[str, np.ndarray] = {}
        for group in groups:
            data = b"".join(_shard(path, name) for name in group["paths"])
            position = 0
            for entry in group["weights"]:
                tensors[entry["name"]], position = _weight(entry, data, position)
            if position != len(data):
                raise ValueError(f"{len(data) - position} bytes of the shards are left over")
    except (ValueError, KeyError, TypeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not a readable TensorFlow.js model ({error})") from error
    return tensors


def _shard(manifest: Path, name: str) -> bytes:
    if Path(name).name != name:
        raise ValueError(f"the shard {name!r} lies outside the model's folder")
    file = manifest.parent / name
    if not file.is_file():
        raise ValueError(f"its shard {name} is missing beside it")
    return file.read_bytes()


def _weight(entry: dict[str, Any], data: bytes, position: int) -> tuple[np.ndarray, int]:
    quantization = entry.get("quantization", {})
    dtype = np.dtype(_DTYPES[quantization.get("dtype", entry["dtype"])])
    count = int(np.prod(entry["shape"], dtype=np.int64))
    end = position + count * dtype.itemsize
    if end > len(data):
        raise ValueError(f"the shards end before {entry['name']}")
    array = np.frombuffer(data, dtype, count, position).reshape(entry["shape"])
    if "scale" in quantization:
        array = array * np.float32(quantization["scale"]) + np.float32(quantization["min"])
    return array.astype(_DTYPES[entry["dtype"]]), end
