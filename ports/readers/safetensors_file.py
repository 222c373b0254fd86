"""Reads `.safetensors` files (package `safetensors`)."""

import os

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file


def read(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """Name -> array; bfloat16 comes as `ml_dtypes.bfloat16`.

    Raises:
      ValueError: the file is damaged or holds a dtype that NumPy lacks.
    """
    try:
        return dict(load_file(os.fspath(path)))
    except (SafetensorError, KeyError, TypeError) as error:
        raise ValueError(f"{path}: not a readable safetensors file ({error})") from error
