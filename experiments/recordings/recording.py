"""What probes saw of many images: arrays with named axes, in one compressed .npz file."""

import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple
from zipfile import BadZipFile

import numpy as np

from experiments.reporting import results
from tipim_jax.bulk import tensorboard
from tipim_jax.errors import UserError

_ABOUT = "about"  # the entry of the file that names axes; no quantity may be called so


class Recording(NamedTuple):
    """Quantities over the images and steps of one run.

    Attributes:
      arrays: {quantity: values}.
      axes: {quantity: names of its axes}, "image" first, then "step" where it has one.
      steps: {quantity: numbers of the steps at which it was measured}.
      labels: {axis: what its places are called}, where they have names.
    """

    arrays: Mapping[str, np.ndarray]
    axes: Mapping[str, tuple[str, ...]]
    steps: Mapping[str, np.ndarray]
    labels: Mapping[str, tuple[str, ...]]


def save(path: Path, recording: Recording) -> None:
    """Writes a recording whole or not at all."""
    about = {
        "axes": {k: list(v) for k, v in recording.axes.items()},
        "steps": {k: np.asarray(v).tolist() for k, v in recording.steps.items()},
        "labels": {k: list(v) for k, v in recording.labels.items()},
    }
    buffer = io.BytesIO()
    entries = {**recording.arrays, _ABOUT: np.array(json.dumps(about))}
    np.savez_compressed(buffer, **entries)  # type: ignore[arg-type]
    results.write_bytes(path, buffer.getvalue())


def load(path: Path) -> Recording:
    """Reads a recording.

    Raises:
      UserError: there is none at `path`.
    """
    try:
        with path.open("rb") as file, np.load(file) as stored:
            arrays = {name: stored[name] for name in stored.files}
        about = json.loads(str(arrays.pop(_ABOUT)))
        return Recording(
            arrays,
            {name: tuple(axes) for name, axes in about["axes"].items()},
            {name: np.array(steps) for name, steps in about["steps"].items()},
            {axis: tuple(names) for axis, names in about["labels"].items()},
        )
    except (OSError, EOFError, KeyError, ValueError, BadZipFile) as error:
        raise UserError(f"{path} is not a recording of `experiments.dynamics`") from error


def write_scalars(folder: Path, recording: Recording) -> int:
    """Every quantity as TensorBoard scalars: the median over images, one curve for each place of its
    other axes. Returns how many curves; axes of more than 16 places are left out.

    Raises:
      UserError: the extra `tensorboard` is not installed.
    """
    curves = 0
    with tensorboard.open_writer(folder) as writer:
        for name, steps in recording.steps.items():
            values = np.asarray(recording.arrays[name], np.float64)
            if max(values.shape[2:], default=1) > 16:
                continue
            middle = median(values)
            for place in np.ndindex(*values.shape[2:]):
                tag = "/".join([name, *place_names(recording, name, place)])
                curves += 1
                for row, step in enumerate(steps):
                    writer.add_scalar(tag, middle[(row, *place)], int(step))
    return curves


def place_names(recording: Recording, name: str, place: tuple[int, ...]) -> list[str]:
    """What a place on the axes after image and step is called."""
    own = recording.axes[name][2:]
    return [
        recording.labels[axis][i] if axis in recording.labels else str(i)
        for axis, i in zip(own, place)
    ]


def median(values: np.ndarray) -> np.ndarray:
    """Over the images [I, ...], those that are NaN left out; NaN where all are."""
    return quantile(values, 0.5)


def quantile(values: np.ndarray, q: float) -> np.ndarray:
    """As `median`, for any share q."""
    known = np.isfinite(values)
    safe = np.where(known.any(axis=0), np.where(known, values, np.nan), 0)
    return np.where(known.any(axis=0), np.nanquantile(safe, q, axis=0), np.nan)
