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
from tipim_jax.bulk import tensorboard
from tipim_jax.errors import UserError

STEPS = ("step", "look")
_MOST = 16  # places of a quantity, beyond which it is not written for TensorBoard


def save(path: Path, made: xr.Dataset) -> None:
    """Writes a recording whole or not at all."""
    results.write(path, bytes(made.to_netcdf(engine="scipy")))


def load(path: Path) -> xr.Dataset:
    """Reads a recording.

    Raises:
      UserError: there is none at `path`.
    """
    try:
        return xr.load_dataset(path, engine="scipy")
    except (OSError, TypeError, ValueError, LookupError) as error:
        raise UserError(f"{path} is not a recording of `experiments.dynamics`") from error


def write_scalars(folder: Path, made: xr.Dataset) -> int:
    """Every quantity as TensorBoard scalars: the median over images, one curve for each place of its
    other dimensions. Returns how many curves; quantities with more than 16 places are left out.

    Raises:
      UserError: the extra `tensorboard` is not installed.
    """
    curves = 0
    with tensorboard.open_writer(folder) as writer:
        for name, values in made.items():
            step, own = "".join(map(str, values.dims[1:2])), values.dims[2:]
            if step not in STEPS or max(values.shape[2:], default=1) > _MOST:
                continue
            middle = quantiles(values, 0.5)
            for place in np.ndindex(*values.shape[2:]):
                labels = [places(values, axis)[i] for axis, i in zip(own, place)]
                curves += 1
                for number, value in zip(values[step].values, middle[(..., *place)]):
                    writer.add_scalar("/".join([str(name), *labels]), value, int(number))
    return curves


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
