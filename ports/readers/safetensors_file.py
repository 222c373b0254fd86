"""Reads `.safetensors` files (package `safetensors`)."""

from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file

from ports.readers.limits import Allowance, refused


def read(path: Path, allowance: Allowance) -> dict[str, np.ndarray]:
    """Name -> array; bfloat16 comes as `ml_dtypes.bfloat16`.

    Raises:
      UserError: the file is damaged or holds a dtype that NumPy lacks.
    """
    with refused(path, "not a readable safetensors file"):
        allowance.take(path.stat().st_size)  # the package checks that the tensors fill the file
        try:
            return dict(load_file(path))
        except SafetensorError as error:
            raise ValueError(str(error)) from error
