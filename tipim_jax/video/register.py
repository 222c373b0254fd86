"""Where exactly a face lies in a frame, as against another frame: a mask that is off by two pixels is lost.

Landmarks of a detector scatter by a pixel or two of the canvas, so that they are no more than a first guess.
From there the picture of the face itself is laid over that of the frame that its mask was made on, by the steps
of Lucas and Kanade (inverse compositional; Baker and Matthews, 2004) over shift, turn and size.
"""

from functools import cache
from typing import NamedTuple

import numpy as np

from tipim_jax.core.geometry import CANVAS_SIZE
from tipim_jax.photos.crops import crop
from tipim_jax.photos.faces import Face

_GRID = 2  # canvas pixels from one sample to the next
_SIZE = CANVAS_SIZE // _GRID
_BLUR = 1.0  # samples, standard deviation: how far off the guess may be
_GREEN = 1  # the channel that stands for lightness
_STEPS = 8
_STILL = 0.02  # canvas pixels at the rim; a smaller step is the last one
_FARTHEST = 8.0  # canvas pixels; beyond, or where pictures correlate less than `_ALIKE`, the face has changed
_ALIKE = 0.8


class Template(NamedTuple):
    """A face that others are laid over.

    Attributes:
      inside: [80,80] which samples lie inside the face.
      picture: [n] their values, smooth.
      solve: [6,n] from the difference of a picture to the four numbers of a movement, contrast and brightness.
    """

    inside: np.ndarray
    picture: np.ndarray
    solve: np.ndarray


def template(face: Face) -> Template:
    """What is needed to find a face again."""
    blocks = face.canvas[..., _GREEN].reshape(_SIZE, _GRID, _SIZE, _GRID)
    picture = _smooth(blocks.mean((1, 3)))
    down, across = np.gradient(picture, _GRID)
    y, x = _places()
    columns = [across * x + down * y, down * x - across * y, across, down]
    columns += [picture, np.ones_like(picture)]
    inside = face.region[::_GRID, ::_GRID, 0] > 0.2
    design = np.stack([column[inside] for column in columns], axis=1).astype(np.float64)
    return Template(inside, picture[inside], np.linalg.pinv(design).astype(np.float32))


def register(pixels: np.ndarray, guess: np.ndarray, known: Template) -> np.ndarray:
    """The map from the canvas of a known face to a frame where it is seen again.

    Args:
      pixels: [H,W,3] uint8, the frame.
      guess: [2,3] about that map, by landmarks.
      known: of `template`.

    Returns:
      [2,3]; the guess itself where the picture leads nowhere.
    """
    middle = (CANVAS_SIZE - 1) / 2
    centre = np.array([[1, 0, middle], [0, 1, middle], [0, 0, 1]])
    sample = np.array([[_GRID, 0, 0.5], [0, _GRID, 0.5], [0, 0, 1]])  # its middle on the canvas
    green = np.ascontiguousarray(pixels[..., _GREEN : _GREEN + 1])
    to_frame = np.vstack([guess, [0, 0, 1]]) @ centre
    moved = np.eye(3)
    for _ in range(_STEPS):
        matrix = (to_frame @ moved @ np.linalg.inv(centre) @ sample)[:2]
        seen = _smooth(crop(green, matrix, (_SIZE, _SIZE))[..., 0])[known.inside]
        grow, turn, right, down = (known.solve @ (seen - known.picture))[:4].astype(float)
        step = np.array([[1 + grow, -turn, right], [turn, 1 + grow, down], [0, 0, 1]])
        moved = moved @ np.linalg.inv(step)
        reach = middle * np.hypot(grow, turn) + np.hypot(right, down)
        if not reach < _FARTHEST:
            return guess
        if reach < _STILL:
            break
    off = moved - np.eye(3)
    far = middle * np.hypot(off[0, 0], off[1, 0]) + np.hypot(*off[:2, 2])
    if far > _FARTHEST or not np.corrcoef(seen, known.picture)[0, 1] >= _ALIKE:
        return guess
    return (to_frame @ moved @ np.linalg.inv(centre))[:2]


def _smooth(samples: np.ndarray) -> np.ndarray:
    """[80,80] samples, blurred."""
    return _blur() @ samples @ _blur().T


@cache
def _blur() -> np.ndarray:
    distance = np.subtract.outer(np.arange(_SIZE), np.arange(_SIZE))
    weights = np.exp(-((distance / _BLUR) ** 2) / 2)
    return (weights / weights.sum(1, keepdims=True)).astype(np.float32)


def _places() -> np.ndarray:
    """[2,80,80] (y, x) of the samples, from the middle of the canvas."""
    return _GRID * (np.mgrid[:_SIZE, :_SIZE] - (_SIZE - 1) / 2)
