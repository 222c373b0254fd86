"""Carries masks from their canvases back to the full-resolution photo, and nothing but the masks."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from tipim_jax.core.geometry import invert
from tipim_jax.photos.crops import apply, corners, crop

# Canvas pixels over which the mask fades out. The recognisers' crops begin 24 pixels from the border.
FEATHER = 12
# Rows handled at a time: a face may fill a photo of a hundred megapixels.
_BAND = 512


class FaceMask(NamedTuple):
    """One face's mask.

    Attributes:
      mask: [h,w,3] protected canvas − clean canvas, pixel levels.
      matrix: [2,3] from canvas to photo coordinates; the one the canvas was cropped with.
    """

    mask: np.ndarray
    matrix: np.ndarray


def window(size: tuple[int, int], feather: float = FEATHER) -> np.ndarray:
    """[h,w] float32, 0 on the canvas' border, rising to 1 over `feather` pixels (smoothstep).

    A mask made with the budget ε · window is pasted without loss.
    """

    def rise(length: int) -> np.ndarray:
        inside = np.minimum(np.arange(length), np.arange(length)[::-1])
        t = np.clip(inside / feather, 0, 1)
        return t * t * (3 - 2 * t)

    return np.minimum(rise(size[0])[:, None], rise(size[1])[None]).astype(np.float32)


def paste(
    photo: np.ndarray, faces: Sequence[FaceMask], epsilon: float, feather: float = FEATHER
) -> np.ndarray:
    """The protected photo: a copy with the masks added.

    Each mask is limited to ε · `window` on its canvas and sampled through the inverse of its matrix.
    Where faces overlap the masks add up, limited to ε again. Hence for every pixel and channel

      |protected − photo| ≤ ε, in whole levels; protected = photo outside the faces' canvases.

    The sum is rounded to the nearest level, towards zero where that would leave the ε ball.

    Args:
      photo: [H,W,3] uint8.
      faces: a face may lie partly outside the photo.
      epsilon: pixel levels, the cap at every pixel; below 1 nothing can change.
      feather: canvas pixels over which a mask fades out.

    Returns:
      [H,W,3] uint8.

    Raises:
      ValueError: a mask holds NaN or infinity, or epsilon is not within 0–255.
    """
    if not 0 <= epsilon <= 255:
        raise ValueError(f"epsilon is {epsilon}; give pixel levels from 0 to 255")
    protected = photo.copy()
    pieces = []
    for face in faces:
        if not np.isfinite(face.mask).all():
            raise ValueError("a mask holds NaN or infinity")
        limit = epsilon * window(face.mask.shape[:2], feather)[..., None]
        mask = np.clip(face.mask, -limit, limit).astype(np.float32)
        pieces.append((mask, invert(face.matrix), _box(face, photo.shape[:2])))

    cap = math.floor(epsilon)
    for top in range(0, photo.shape[0], _BAND):
        here = [piece for piece in pieces if piece[2][1] < top + _BAND and piece[2][3] > top]
        if not here:
            continue
        left = min(box[0] for _, _, box in here)
        right = max(box[2] for _, _, box in here)
        band = protected[top : top + _BAND, left:right]
        total = np.zeros(band.shape, np.float32)
        for mask, matrix, (x0, y0, x1, y1) in here:
            y0, y1 = max(y0, top), min(y1, top + _BAND)
            moved = np.column_stack([matrix[:, :2], apply(matrix, np.array([x0, y0]))])
            sampled = crop(mask, moved, (y1 - y0, x1 - x0))
            # The footprint of a pixel of a small face may reach into a canvas that its centre is not in.
            sampled *= _inside(moved, sampled.shape[:2], mask.shape[:2])[..., None]
            total[y0 - top : y1 - top, x0 - left : x1 - left] += sampled
        change = np.clip(np.rint(total), -cap, cap).astype(np.int16)
        band[...] = np.clip(band + change, 0, 255)
    return protected


def round_trip(scale: float, length: int) -> np.ndarray:
    """What is left of a mask that was pasted at photo resolution and cropped again.

    Both ways smooth, and where the face has fewer pixels than the canvas, most of a mask that was
    made without regard to it is lost. A mask m made to work as B · m · Bᵀ, with B this matrix,
    keeps what can survive. It is the mean over the offsets of the two pixel grids; rotation is left aside.

    Args:
      scale: photo pixels per canvas pixel, the scale of the canvas-to-photo matrix.
      length: canvas pixels along one axis.

    Returns:
      [length,length] float32, rows summing to one.
    """
    count = math.ceil(length * scale) + 4
    total = np.zeros((length, length))
    for offset in np.arange(8) / 8 - 2:
        onto_photo = _footprints((np.arange(count) + offset) / scale, length, 1 / scale)
        onto_canvas = _footprints(np.arange(length) * scale - offset, count, scale)
        total += onto_canvas @ onto_photo
    return (total / total.sum(1, keepdims=True)).astype(np.float32)


def _footprints(centres: np.ndarray, length: int, width: float) -> np.ndarray:
    """[len(centres), length] weights of `crop` along one axis; width: input pixels per output pixel."""
    samples = max(1, math.ceil(width - 1e-6))
    places = ((np.arange(samples) + 0.5) / samples - 0.5) * width
    distance = np.abs((centres[:, None] + places)[..., None] - np.arange(length))
    return np.maximum(0, 1 - distance).mean(1)


def _inside(matrix: np.ndarray, size: tuple[int, int], canvas: tuple[int, int]) -> np.ndarray:
    """[h,w] whether the centre of an output pixel falls on the canvas."""
    y, x = np.ogrid[: size[0], : size[1]]
    u = matrix[0, 0] * x + matrix[0, 1] * y + matrix[0, 2]
    v = matrix[1, 0] * x + matrix[1, 1] * y + matrix[1, 2]
    return (np.minimum(u, v) >= 0) & (u <= canvas[1] - 1) & (v <= canvas[0] - 1)


def _box(face: FaceMask, size: tuple[int, int]) -> tuple[int, int, int, int]:
    """Left, top, right, bottom (exclusive) of the photo pixels inside the face's canvas."""
    reach = apply(np.asarray(face.matrix), corners(face.mask.shape[:2]))
    low = np.clip(np.ceil(reach.min(0)), 0, size[::-1]).astype(int)
    high = np.clip(np.floor(reach.max(0)) + 1, low, size[::-1]).astype(int)
    if np.any(low == high):
        return 0, 0, 0, 0
    return int(low[0]), int(low[1]), int(high[0]), int(high[1])
