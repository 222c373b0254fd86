"""Finds the faces of a whole photo, large and small: several looks with YuNet, merged."""

import itertools
import math
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import numpy as np
from PIL import Image

from ports.networks.yunet import Faces, detect

Detect = Callable[..., tuple[Faces, Any]]

COARSE, SIDE, FINE = 320, 640, 1600  # longest sides, in pixels, of the looks at the whole photo
BUCKETS = (320, 640, 1088, 1600)  # sides of the padded squares that are compiled for
LARGEST = 320  # box side in pixels above which a coarser look is the better one
# A photo that the finest look would reduce more than this is looked at in tiles as well, reduced by this.
# YuNet sees nearly every face of 15 pixels and few below 10; recognisers see none below 20.
TILED = 0.75
# Pixels that neighbouring tiles share; the looks at the whole photo find what is larger.
OVERLAP = 96
# The smallest score of a face that only a tile shows: there is much to mistake for one.
TILED_SCORE = 0.7
NOTHING = Faces(np.zeros((0, 4)), np.zeros((0, 5, 2)), np.zeros(0))


def find_faces(
    params: Any, photo: np.ndarray, *, score: float = 0.6, detect: Detect = detect
) -> Faces:
    """Every face of one photo, large and small: Faces of NumPy [N,...] in the photo's pixels.

    YuNet sees faces of about 10 to 300 pixels. The photo is therefore looked at with its longest
    side at 640 pixels, at 320 for faces that fill it, and, if it is large, at 1088 or 1600 for small
    ones; where that reduces it to less than `TILED`, then also in tiles, for faces down to 20 pixels.
    The first look that sees a face well gives its landmarks. Photos are never enlarged.

    Args:
      params: from `load`.
      photo: [H,W,3] uint8 RGB.
      score: smallest score of a face; `TILED_SCORE` at least for what only a tile shows.
      detect: `yunet.detect`, or what stands in for it.

    Raises:
      ValueError: `photo` is not [H,W,3] uint8.
    """
    if photo.ndim != 3 or photo.shape[2] != 3 or photo.dtype != np.uint8:
        raise ValueError(f"a photo must be [H,W,3] uint8, not {photo.shape} {photo.dtype}")
    longest = max(photo.shape[:2])
    sides = [min(longest, SIDE)]
    if longest > COARSE:
        sides.append(COARSE)
    if longest > 1.25 * SIDE:
        sides.append(_fine_side(longest))
    found = NOTHING
    for side in sides:
        faces = _look(partial(detect, params), photo, side, score)
        scale = min(1.0, side / longest)
        fits = (faces.boxes[:, 2:] - faces.boxes[:, :2]).max(1, initial=0) * scale <= LARGEST
        new = ~_covered(faces.boxes, found.boxes) & (fits | (side <= COARSE))
        found = _joined(found, _only(faces, new))
    if longest * TILED > FINE:
        faces = _look_in_tiles(partial(detect, params), photo, max(score, TILED_SCORE))
        found = _joined(found, _only(faces, ~_covered(faces.boxes, found.boxes)))
    return _only(found, np.argsort(-found.scores, kind="stable"))


def _fine_side(longest: int) -> int:
    """The longest side of the finest look at a whole photo: a bucket's, to pad nothing, if that will do."""
    wide_enough = (
        bucket for bucket in BUCKETS if SIDE < bucket <= longest and bucket >= TILED * longest
    )
    return next(wide_enough, min(longest, FINE))


def _look(detect: Detect, photo: np.ndarray, side: int, score: float) -> Faces:
    """Faces of one photo reduced to a longest side of `side`, in the photo's pixels."""
    small = _reduced(photo, side / max(photo.shape[:2]))
    bucket = next(b for b in BUCKETS if b >= side)
    return _enlarged(_faces_of(detect, small, bucket, score), small, photo)


def _look_in_tiles(detect: Detect, photo: np.ndarray, score: float) -> Faces:
    """Faces of a large photo reduced by `TILED` and cut into overlapping tiles, in the photo's pixels."""
    small = _reduced(photo, TILED)
    corners = itertools.product(*(_starts(length) for length in small.shape[:2]))
    found = NOTHING
    for top, left in corners:
        tile = small[top : top + FINE, left : left + FINE]
        faces = _faces_of(detect, tile, FINE, score)
        # What touches an edge that the photo goes on beyond is cut, and whole in the next tile.
        height, width = tile.shape[:2]
        goes_on = np.array(
            [left > 0, top > 0, left + width < small.shape[1], top + height < small.shape[0]]
        )
        edges = np.array([1, 1, width - 2, height - 2])
        beyond = np.concatenate([faces.boxes[:, :2] < edges[:2], faces.boxes[:, 2:] > edges[2:]], 1)
        small_enough = (faces.boxes[:, 2:] - faces.boxes[:, :2]).max(1, initial=0) <= OVERLAP
        whole = _only(faces, small_enough & ~np.any(beyond & goes_on, axis=1))
        shift = np.array([left, top])
        moved = Faces(whole.boxes + np.tile(shift, 2), whole.landmarks + shift, whole.scores)
        found = _joined(found, moved)
    return _enlarged(_suppressed(found), small, photo)


def _suppressed(faces: Faces) -> Faces:
    """Faces by falling score, without those that a better one covers."""
    kept = NOTHING
    for i in np.argsort(-faces.scores, kind="stable"):
        face = _only(faces, np.array([i]))
        if not _covered(face.boxes, kept.boxes)[0]:
            kept = _joined(kept, face)
    return kept


def _starts(length: int) -> list[int]:
    """Where tiles of `FINE` pixels begin that cover `length` evenly and share at least `OVERLAP`."""
    last = max(length - FINE, 0)
    count = 1 + math.ceil(last / (FINE - OVERLAP))
    return [round(last * i / max(count - 1, 1)) for i in range(count)]


def _reduced(photo: np.ndarray, scale: float) -> np.ndarray:
    """A photo [H,W,3] reduced by `scale`, or itself where that would enlarge it."""
    if scale >= 1:
        return photo
    height, width = photo.shape[:2]
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    image = Image.fromarray(photo).resize(size, Image.Resampling.BILINEAR, reducing_gap=3)
    return np.asarray(image)


def _faces_of(detect: Detect, image: np.ndarray, bucket: int, score: float) -> Faces:
    """Faces of an image [h,w,3] padded to a square of `bucket` pixels."""
    padded = np.zeros((1, bucket, bucket, 3), np.uint8)
    padded[0, : image.shape[0], : image.shape[1]] = image
    sizes = np.array([image.shape[:2]], np.int32)
    faces, valid = jax.device_get(detect(padded, sizes, score=score))
    return Faces(*(np.asarray(a[0][valid[0]], np.float64) for a in faces))


def _enlarged(faces: Faces, small: np.ndarray, photo: np.ndarray) -> Faces:
    """Faces of a reduced photo in the pixels of the photo."""
    # a pixel's centre, not its corner, is at an integer
    ratio = np.array(photo.shape[1::-1]) / small.shape[1::-1]
    boxes = (faces.boxes.reshape(-1, 2, 2) + 0.5) * ratio - 0.5
    return Faces(boxes.reshape(-1, 4), (faces.landmarks + 0.5) * ratio - 0.5, faces.scores)


def _only(faces: Faces, index: np.ndarray) -> Faces:
    return Faces(*(a[index] for a in faces))


def _joined(some: Faces, others: Faces) -> Faces:
    return Faces(*(np.concatenate(pair) for pair in zip(some, others, strict=True)))


def _covered(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Which boxes [N,4] share over half of the smaller area with one of `others` [M,4]."""
    low = np.maximum(boxes[:, None, :2], others[:, :2])
    high = np.minimum(boxes[:, None, 2:], others[:, 2:])
    common = np.prod(np.maximum(high - low, 0), axis=-1)
    areas = [np.prod(np.maximum(b[:, 2:] - b[:, :2], 0), axis=-1) for b in (boxes, others)]
    return np.any(common > 0.5 * np.minimum(areas[0][:, None], areas[1]), axis=1)
