"""The parts of a photo whose change is told apart: the face, its skin, the head around it, and the rest.

The face is an ellipse from chin to hair line laid by the landmarks: it is the same for every protection
whatever region its masks keep to.
"""

import math
from typing import NamedTuple

import numpy as np

from tipim_jax.core.geometry import ARCFACE_112, fit_similarity

# (x, y) of centres and half axes in the 112 × 112 crop, about 35 pixels between the eyes.
FACE = ((56.0, 60.0), (46.0, 60.0))
SKIN = ((56.0, 64.0), (34.0, 44.0))
EYE = (12.0, 9.0)
MOUTH = (22.0, 11.0)
HEAD = 2.2  # half the side of the square around a head, in units of the landmarks' longer extent


class Regions(NamedTuple):
    """Of a photo [H,W].

    Attributes:
      face: [H,W] bool, inside the outline of any protected face.
      skin: [H,W] bool, of the main face without eyes, brows and mouth.
      head: the square around the main face, cut at the photo's border, as (rows, columns).
      eyes: pixels between the eyes of the main face.
    """

    face: np.ndarray
    skin: np.ndarray
    head: tuple[slice, slice]
    eyes: float


def regions(size: tuple[int, int], landmarks: np.ndarray, faces: np.ndarray) -> Regions:
    """Lays the regions.

    Args:
      size: (height, width) of the photo.
      landmarks: [5,2] of the main face.
      faces: [N,5,2] of all protected faces.
    """
    face = np.zeros(size, bool)
    for one in faces:
        face |= _inside(_at(size, one), *FACE)
    where = _at(size, landmarks)
    left, right, _, *mouth = ARCFACE_112
    features = [
        _inside(where, left, EYE),
        _inside(where, right, EYE),
        _inside(where, np.mean(mouth, axis=0), MOUTH),
    ]
    skin = _inside(where, *SKIN) & ~np.any(features, axis=0)
    eyes = float(np.linalg.norm(landmarks[0] - landmarks[1]))
    return Regions(face, skin, head(size, landmarks), eyes)


def head(size: tuple[int, int], landmarks: np.ndarray) -> tuple[slice, slice]:
    """(rows, columns) of the square around a head in a photo of (height, width)."""
    centre, half = landmarks.mean(0), HEAD * np.ptp(landmarks, axis=0).max()
    low, high = centre - half, centre + half
    rows, columns = (
        slice(max(0, int(low[i])), min(math.ceil(high[i]), size[1 - i])) for i in (1, 0)
    )
    return rows, columns


def _at(size: tuple[int, int], landmarks: np.ndarray) -> np.ndarray:
    """[2,H,W] where each pixel of a photo lies in the 112 × 112 crop: x, y."""
    matrix = fit_similarity(landmarks, ARCFACE_112)
    y, x = np.mgrid[: size[0], : size[1]].astype(np.float32)
    return np.stack([a * x + b * y + c for a, b, c in matrix.astype(np.float32)])


def _inside(where: np.ndarray, centre, half) -> np.ndarray:
    return ((where[0] - centre[0]) / half[0]) ** 2 + ((where[1] - centre[1]) / half[1]) ** 2 <= 1
