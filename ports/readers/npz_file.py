"""Reads NumPy `.npz` archives, refusing pickled objects."""

import os
import zipfile
import zlib

import numpy as np


def read(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """Name -> array.

    Raises:
      ValueError: the file is damaged, or an entry is a pickled object.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except (ValueError, EOFError, OSError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(f"{path}: not a readable npz archive of plain arrays ({error})") from error
