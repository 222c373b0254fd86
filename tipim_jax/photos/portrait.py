"""Whom a portrait is about: its main face, where there are others behind."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from tipim_jax.photos.faces import Face, find
from tipim_jax.photos.photo import PhotoError


def main_face(detector: Any, pixels: np.ndarray) -> Face:
    """Finds the face that a portrait [H,W,3] is about: large, and near the centre.

    Raises:
      PhotoError: there is none.
    """
    found = find(detector, pixels)
    if not found:
        raise PhotoError("no face was found")
    return found[main([face.box for face in found], pixels.shape[:2])]


def main(boxes: Sequence[Sequence[float]], size: tuple[int, int]) -> int:
    """Chooses the box (left, top, width, height) that a portrait of (height, width) is about; its index."""
    centre = np.array(size[::-1]) / 2

    def weight(box: Sequence[float]) -> float:
        left, top, width, height = box
        off = np.array([left + width / 2, top + height / 2]) - centre
        return width * height / (1 + float(np.sum((off / (centre / 2)) ** 2)))

    return max(range(len(boxes)), key=lambda i: weight(boxes[i]))
