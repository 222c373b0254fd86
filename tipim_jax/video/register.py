"""Where exactly a face lies in a frame, as against another frame: a mask that is off by two pixels is lost.

Landmarks of a detector scatter by a pixel or two of the canvas, so that they are no more than a first guess.
From there the picture of the face itself is laid over that of the frame that its mask was made on (Lucas and
Kanade, from coarse to fine), first by an affine map and then by a quadratic one, which is what a curved face
that turns looks like from the front (Bergen et al., 1992).
"""

from functools import cache
from typing import NamedTuple

import numpy as np
from PIL import Image

from tipim_jax.core.geometry import CANVAS_SIZE
from tipim_jax.photos.crops import crop
from tipim_jax.photos.faces import Face
from tipim_jax.photos.paste import FaceMask

_GRID = 2  # canvas pixels from one sample to the next
_SIZE = CANVAS_SIZE // _GRID
_GREEN = 1  # the channel that stands for lightness
# Blur (samples, standard deviation), terms of the movement, and steps at the most
_FINEST = 1.0
_LEVELS = ((4.0, 3, 8), (2.0, 3, 8), (_FINEST, 3, 8), (_FINEST, 6, 12))
# Places are counted from the middle of the canvas, and are 1 at its right and lower border.
_HALF = (CANVAS_SIZE - 1) / 2
_STILL = 2e-4  # a smaller step is the last one of its level
_FARTHEST, _MOST_BENT = 0.4, 0.3  # what moves or bends farther is no movement
_ALIKE = 0.8  # where pictures correlate less the face has changed
# A mask is bent where that leaves no more than this share of what the affine map does not explain.
_BETTER = 0.67
_CELLS = 16  # of the mesh that bends a mask, along one side


class Level(NamedTuple):
    """A template at one blur.

    Attributes:
      picture: [n] its samples inside the face.
      solve: [2·terms+2,n] from the difference of a picture to a movement, contrast and brightness.
    """

    picture: np.ndarray
    solve: np.ndarray


class Template(NamedTuple):
    """A face that others are laid over.

    Attributes:
      inside: [80,80] which samples lie inside the face.
      levels: from coarse to fine.
    """

    inside: np.ndarray
    levels: tuple[Level, ...]


class Place(NamedTuple):
    """Where a known face is seen again.

    Attributes:
      matrix: [2,3] from its canvas to the frame.
      bend: [3,2] how far in x and y the canvas is bent before, by the terms x², xy and y² of its places.
      alike: the correlation of the face there with the known one; 0 where the guess was kept.
    """

    matrix: np.ndarray
    bend: np.ndarray
    alike: float

    def laid(self, mask: np.ndarray) -> FaceMask:
        """The mask [160,160,3] of the known face, on the face here."""
        return FaceMask(bent(mask, self.bend), self.matrix)


def template(face: Face) -> Template:
    """What is needed to find a face again."""
    samples = _means(face.canvas[..., _GREEN])
    inside = face.region[::_GRID, ::_GRID, 0] > 0.2
    terms = _terms(_places()[inside])
    levels = []
    for blur, count, _ in _LEVELS:
        picture = _smooth(samples, blur)
        slopes = np.gradient(picture, _GRID / _HALF)
        down, across = (slope[inside][:, None] for slope in slopes)
        columns = [across * terms[:, :count], down * terms[:, :count]]
        columns += [picture[inside][:, None], np.ones((len(terms), 1))]
        solve = np.linalg.pinv(np.concatenate(columns, axis=1))
        levels.append(Level(picture[inside], solve))
    return Template(inside, tuple(levels))


def register(pixels: np.ndarray, guess: np.ndarray, known: Template) -> Place:
    """Finds where a known face is in a frame.

    Args:
      pixels: [H,W,3] uint8, the frame.
      guess: [2,3] about the map from its canvas, by landmarks.
      known: of `template`.

    Returns:
      The best place; the guess itself where the picture leads nowhere.
    """
    green = np.ascontiguousarray(pixels[..., _GREEN : _GREEN + 1])
    samples = _means(crop(green, guess, (CANVAS_SIZE, CANVAS_SIZE))[..., 0])
    places = _places()[known.inside]
    terms = _terms(places)
    move = np.zeros((6, 2))
    best = Place(guess, np.zeros((3, 2)), 0.0)
    for (blur, count, steps), (picture, solve) in zip(_LEVELS, known.levels, strict=True):
        there = _smooth(samples, blur)
        seen = _bilinear(there, places + terms @ move)
        for _ in range(steps):
            step = (solve @ (picture - seen))[: 2 * count].reshape(2, count).T
            move[:count] += step
            seen = _bilinear(there, places + terms @ move)
            if np.abs(terms[:, :count] @ step).max() < _STILL:
                break
        alike = float(np.corrcoef(seen, picture)[0, 1])
        better = alike >= _ALIKE and 1 - alike < _BETTER * (1 - best.alike)
        if blur == _FINEST and better:
            best = _placed(guess, move, alike) or best
    return best


def _placed(guess: np.ndarray, move: np.ndarray, alike: float) -> Place | None:
    """The place that a movement [6,2] leads to, unless nothing moves so."""
    shift, affine = move[0], np.eye(2) + move[1:3].T
    if not np.abs(move[:3]).sum(0).max() < _FARTHEST:
        return None
    bend = np.linalg.solve(affine, move[3:].T).T
    if not np.abs(bend).sum(0).max() < _MOST_BENT:
        return None
    offset = _HALF * (1 + shift - affine.sum(1))
    matrix = guess[:, :2] @ np.column_stack([affine, offset])
    matrix[:, 2] += guess[:, 2]
    return Place(matrix, bend, alike)


def bent(mask: np.ndarray, bend: np.ndarray) -> np.ndarray:
    """The mask [160,160,3] float32, its places moved as `Place.bend` says."""
    if not bend.any():
        return mask
    edges = np.linspace(0, CANVAS_SIZE, _CELLS + 1)
    corners = np.stack(np.meshgrid(edges, edges), -1)
    middle = CANVAS_SIZE / 2  # as Pillow counts, from the corner of the first pixel
    places = (corners - middle) / _HALF
    origins = places
    for _ in range(8):  # from where `bend` leads here
        origins = places - _terms(origins)[..., 3:] @ bend
    origins = middle + _HALF * origins
    mesh = []
    for i, j in np.ndindex(_CELLS, _CELLS):
        box = (*corners[i, j].astype(int), *corners[i + 1, j + 1].astype(int))
        around = (origins[i, j], origins[i + 1, j], origins[i + 1, j + 1], origins[i, j + 1])
        mesh.append((box, tuple(np.concatenate(around))))
    channels = [
        Image.fromarray(np.ascontiguousarray(mask[..., i])).transform(
            (CANVAS_SIZE, CANVAS_SIZE), Image.Transform.MESH, mesh, Image.Resampling.BICUBIC
        )
        for i in range(mask.shape[2])
    ]
    return np.stack([np.asarray(channel) for channel in channels], -1)


def _means(channel: np.ndarray) -> np.ndarray:
    """[80,80] means of squares of a canvas [160,160]."""
    return channel.reshape(_SIZE, _GRID, _SIZE, _GRID).mean((1, 3))


def _places() -> np.ndarray:
    """[80,80,2] (x, y) of the samples."""
    line = (np.arange(_SIZE) - (_SIZE - 1) / 2) * _GRID / _HALF
    return np.stack(np.meshgrid(line, line), -1)


def _terms(places: np.ndarray) -> np.ndarray:
    """[...,6] 1, x, y, x², xy, y² of places [...,2]."""
    x, y = places[..., 0], places[..., 1]
    return np.stack([np.ones_like(x), x, y, x * x, x * y, y * y], -1)


def _bilinear(samples: np.ndarray, places: np.ndarray) -> np.ndarray:
    """[n] of samples [80,80] at places [n,2], the nearest ones outside."""
    at = np.clip(places * _HALF / _GRID + (_SIZE - 1) / 2, 0, _SIZE - 1)
    first = np.minimum(at.astype(int), _SIZE - 2)
    (x, y), (i, j) = (at - first).T, first.T
    upper = samples[j, i] * (1 - x) + samples[j, i + 1] * x
    lower = samples[j + 1, i] * (1 - x) + samples[j + 1, i + 1] * x
    return upper * (1 - y) + lower * y


def _smooth(samples: np.ndarray, blur: float) -> np.ndarray:
    """[80,80] samples, blurred."""
    return _blur(blur) @ samples @ _blur(blur).T


@cache
def _blur(blur: float) -> np.ndarray:
    distance = np.subtract.outer(np.arange(_SIZE), np.arange(_SIZE))
    weights = np.exp(-((distance / blur) ** 2) / 2)
    return (weights / weights.sum(1, keepdims=True)).astype(np.float32)
