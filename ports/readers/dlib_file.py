"""Reads the convolutions, affine layers and fully connected layers of a dlib network (`.dat`).

dlib writes a network from its input to its output as tagged layers. A tag (`con_4`, `affine_`,
`fc_2`) is followed by the layer's parameters as one flat tensor: version 2, four dimensions, raw
little-endian float32. Integers are one control byte (low nibble: number of bytes, high bit: sign)
and that many bytes.
"""

import re
from pathlib import Path

import numpy as np

from ports.readers.limits import Allowance, refused

_TAG = re.compile(rb"\x01[\x04-\x07](con_[45]|affine_|fc_2)")


def read(path: Path, allowance: Allowance) -> dict[str, np.ndarray]:
    """Name -> float32 array, layers numbered from 0 per kind, from input to output.

    `con.N.weight` (O,I,kh,kw) and `con.N.bias` (O); `affine.N.gamma` and `affine.N.beta` (C);
    `fc.N.weight` (I,O), without bias.

    Raises:
      UserError: no layer is found or the file is cut short.
    """
    tensors: dict[str, np.ndarray] = {}
    counts = {"con": 0, "affine": 0, "fc": 0}
    position = 0
    with refused(path, "the dlib network is damaged or cut short"):
        allowance.take(2 * path.stat().st_size)  # the file, and tensors that do not overlap
        data = path.read_bytes()
        while match := _TAG.search(data, position):
            kind = match[1].split(b"_")[0].decode()
            name, start = f"{kind}.{counts[kind]}", match.end()
            if data[match.start() + 1] != len(match[1]):  # the bytes only look like a tag
                position = start
                continue
            if kind == "fc":
                outputs, start = _integer(data, start)
                inputs, start = _integer(data, start)
                flat, position = _tensor(data, start)
                if flat.size != inputs * outputs:
                    raise ValueError("a fully connected layer with bias is not supported")
                tensors[f"{name}.weight"] = flat.reshape(inputs, outputs)
            elif kind == "affine":
                flat, position = _tensor(data, start)
                tensors[f"{name}.gamma"], tensors[f"{name}.beta"] = np.split(flat, 2)
            else:
                flat, start = _tensor(data, start)
                filters, start = _integer(data, start)
                rows, start = _integer(data, start)
                columns, position = _integer(data, start)
                weight = flat[: flat.size - filters]
                tensors[f"{name}.weight"] = weight.reshape(filters, -1, rows, columns)
                tensors[f"{name}.bias"] = flat[flat.size - filters :]
            counts[kind] += 1
        if not tensors:
            raise ValueError("no convolution found")
    return tensors


def _integer(data: bytes, start: int) -> tuple[int, int]:
    """The integer at `start` and the position after it."""
    size = data[start] & 0x0F
    value = int.from_bytes(data[start + 1 : start + 1 + size], "little")
    return (-value if data[start] & 0x80 else value), start + 1 + size


def _tensor(data: bytes, start: int) -> tuple[np.ndarray, int]:
    """The flat tensor at `start` and the position after it."""
    version, start = _integer(data, start)
    if version != 2:
        raise ValueError(f"tensor version {version} instead of 2")
    count = 1
    for _ in range(4):
        dimension, start = _integer(data, start)
        count *= dimension
    if count <= 0 or start + 4 * count > len(data):
        raise ValueError(f"a tensor of {count} numbers at byte {start} does not fit the file")
    flat = np.frombuffer(data, "<f4", count, start).astype(np.float32)
    return flat, start + 4 * count
