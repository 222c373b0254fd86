"""What probes saw of many images: an `xarray.Dataset`, a variable for each quantity, in one file.

Dimensions are "image", then "step" or, where it was measured at every stride-th step alone, "look", then those
of the quantity itself; coordinates name their places.
"""

import warnings
from collections.abc import Hashable
from pathlib import Path

import numpy as np
import xarray as xr

from experiments.reporting import results
from tipim_jax.errors import UserError


def save(path: Path, made: xr.Dataset) -> None:
    """Writes a recording whole or not at all."""
    results.write(path, bytes(made.to_netcdf(engine="scipy")))


def load(path: Path) -> xr.Dataset:
    """Reads a recording; a `UserError` if there is none at `path`."""
    try:
        return xr.load_dataset(path, engine="scipy")
    except (OSError, TypeError, ValueError, LookupError) as error:
        raise UserError(f"{path} is not a recording of `experiments.dynamics`") from error


def places(values: xr.DataArray, axis: Hashable) -> list[str]:
    """What the places on an axis are called: by its coordinate, or their numbers from 1."""
    if axis in values.coords:
        return [str(name) for name in values[axis].values]
    return [str(i + 1) for i in range(values.sizes[axis])]


def quantiles(values: xr.DataArray, q: float | list[float]) -> np.ndarray:
    """Over the images, those that are NaN left out; NaN where all are: [...] or [q, ...]."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "All-NaN slice")
        return np.nanquantile(np.asarray(values, np.float64), q, axis=0)
