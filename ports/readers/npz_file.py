"""Reads NumPy `.npz` archives, refusing pickled objects."""

import io
import math
from pathlib import Path

import numpy as np
from numpy.lib import format as npy

from ports.readers import zip_file
from ports.readers.limits import Allowance, refused

_HEADER = 1_000  # characters; it is parsed as Python, which takes the more the longer it is
_HEADERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}


def read(path: Path, allowance: Allowance) -> dict[str, np.ndarray]:
    """Name -> array.

    Raises:
      UserError: the file is damaged, or an entry is a pickled object.
    """
    with (
        refused(path, "not a readable npz archive of plain arrays"),
        zip_file.opened(path, allowance) as archive,
    ):
        return {name.removesuffix(".npy"): _array(archive.read(name)) for name in archive.names}


def _array(data: bytes) -> np.ndarray:
    file = io.BytesIO(data)
    version = npy.read_magic(file)
    if version not in _HEADERS:
        raise ValueError(f"an array of version {version}")
    shape, fortran, dtype = _HEADERS[version](file, max_header_size=_HEADER)
    if dtype.hasobject:
        raise ValueError("it holds pickled objects")
    count = math.prod(shape)
    if min(shape, default=0) < 0 or count * dtype.itemsize != len(data) - file.tell():
        raise ValueError(f"an array of shape {shape} in {len(data) - file.tell()} bytes")
    flat = np.frombuffer(data, dtype, count, file.tell())
    return flat.reshape(shape, order="F" if fortran else "C")
