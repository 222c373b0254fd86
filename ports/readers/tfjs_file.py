"""Reads TensorFlow.js models: a JSON manifest and its binary shards, dequantised."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np

from ports.readers.limits import Allowance, refused

_AXES = 64  # NumPy's limit
_DTYPES = {
    "float32": "<f4",
    "int32": "<i4",
    "bool": "?",
    "uint8": "u1",
    "uint16": "<u2",
    "float16": "<f2",
}


def read(path: Path, allowance: Allowance) -> dict[str, np.ndarray]:
    """Name -> array from `model.json`; the shards it names lie in the same folder.

    Weights stored as float16 or as scaled uint8/uint16 come back as float32.

    Raises:
      UserError: not a TensorFlow.js manifest, a shard is missing, or the sizes do not fit.
    """
    with refused(path, "not a readable TensorFlow.js model"):
        allowance.take(path.stat().st_size)
        groups = json.loads(path.read_text(encoding="utf-8"))["weightsManifest"]
        allowance = Allowance(path, *{_shard(path, name) for g in groups for name in g["paths"]})
        tensors: dict[str, np.ndarray] = {}
        for group in groups:
            shards = [_shard(path, name) for name in group["paths"]]
            allowance.take(sum(shard.stat().st_size for shard in shards))
            data = b"".join(shard.read_bytes() for shard in shards)
            position = 0
            for entry in group["weights"]:
                tensors[entry["name"]], position = _weight(entry, data, position)
            if position != len(data):
                raise ValueError(f"{len(data) - position} bytes of the shards are left over")
    return tensors


def _shard(manifest: Path, name: str) -> Path:
    if Path(name).name != name:
        raise ValueError(f"the shard {name!r} lies outside the model's folder")
    file = manifest.parent / name
    if not file.is_file():
        raise ValueError(f"its shard {name} is missing beside it")
    return file


def _weight(entry: dict[str, Any], data: bytes, position: int) -> tuple[np.ndarray, int]:
    quantization = entry.get("quantization", {})
    dtype = np.dtype(_DTYPES[quantization.get("dtype", entry["dtype"])])
    name, shape = entry["name"], entry["shape"]
    if not isinstance(name, str) or len(shape) > _AXES or not all(type(n) is int for n in shape):
        raise ValueError("a weight without a name or a shape")
    count = math.prod(shape)
    end = position + count * dtype.itemsize
    if min(shape, default=0) < 0 or end > len(data):
        raise ValueError(f"the shards end before {name}")
    array = np.frombuffer(data, dtype, count, position).reshape(shape)
    if "scale" in quantization:
        array = array * np.float32(quantization["scale"]) + np.float32(quantization["min"])
    return array.astype(_DTYPES[entry["dtype"]]), end
