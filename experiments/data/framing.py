"""What of a photo recognisers are shown: published results differ in it, and cannot be compared across it."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from PIL import Image

from experiments.data import dataset
from experiments.protection.specs import Frame, as_it_is
from tipim_jax.core.geometry import CANVAS_LANDMARKS, CANVAS_SIZE
from tipim_jax.core.types import Recogniser
from tipim_jax.photos.portrait import main_face


class Framing(NamedTuple):
    """A way from a photo to what recognisers see."""

    kind: str  # the folder of its canvases in the cache
    # pixels [H,W,3] -> [160,160,3], on which masks are made
    canvas: Callable[[np.ndarray], np.ndarray]
    frame: Frame  # a recogniser -> the same, looking at that canvas


def whole_canvas(recogniser: Recogniser) -> Recogniser:
    """A recogniser that sees the canvas resized to its height, the middle of it if it is narrower."""
    height, width = recogniser.size
    scale = height / CANVAS_SIZE
    landmarks = (CANVAS_LANDMARKS + 0.5) * scale - 0.5
    return recogniser._replace(landmarks=landmarks - [(CANVAS_SIZE * scale - width) / 2, 0])


def _resized(pixels: np.ndarray) -> np.ndarray:
    size = (CANVAS_SIZE, CANVAS_SIZE)
    return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BILINEAR))


def _box(pixels: np.ndarray) -> np.ndarray:
    left, top, width, height = main_face(dataset.detector(), pixels).box
    rows = slice(max(0, round(top)), round(top + height))
    columns = slice(max(0, round(left)), round(left + width))
    return _resized(np.ascontiguousarray(pixels[rows, columns]))


FRAMINGS = {
    # AMT-GAN: the whole photo, resized.
    "whole": Framing("canvases-whole", _resized, whole_canvas),
    # CLIP2Protect, WeakenDiff: the detected box, resized. They detect with MTCNN, we with YuNet.
    "box": Framing("canvases-box", _box, whole_canvas),
    # Ours, and the paper's: aligned by landmarks.
    "aligned": Framing("canvases", dataset.aligned, as_it_is),
}
