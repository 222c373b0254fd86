"""Aligned crops of photos of any size, on the host, without aliasing.

The counterpart of `geometry.warp` for whole photos: compiling a program per photo size would cost more
than the crop. Every crop the project makes of a photo comes from `crop`, so that what is attacked,
what is verified and what `tipim verify` compares are the same pixels.
"""

import math

import numpy as np
from PIL import Image

# Zeros around what is sampled: the outside is black, as in `geometry.warp`.
_RING = 2


def crop(image: np.ndarray, matrix: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Samples an image through a similarity: [H,W,C] -> [h,w,C] float32, zero outside the image.

    Where one output pixel covers at most one input pixel this is bilinear sampling. Where it covers
    more, it is the mean of bilinear samples over its (rotated) footprint, so that a face much larger
    than the crop does not alias.

    Args:
      image: [H,W,C] uint8 or float.
      matrix: [2,3] from output to input coordinates, pixel centres at whole coordinates.
      size: output (height, width).
    """
    matrix = np.asarray(matrix, np.float64)
    scale = math.sqrt(abs(np.linalg.det(matrix[:, :2])))
    # Whole blocks first (cheap), down to 2–3 input pixels per output pixel; samples do the rest.
    block = max(1, int(scale // 2))
    samples = max(1, math.ceil(scale / block - 1e-6))

    region, origin = _region(image, matrix, size, margin=_RING * block)
    if region.size == 0:
        return np.zeros((*size, image.shape[2]), np.float32)
    region = _block_means(region, block)
    region = np.pad(region, ((_RING, _RING), (_RING, _RING), (0, 0)))

    # output sample -> output pixel -> image -> blocks of the region -> with its ring
    linear = matrix[:, :2] / (samples * block)
    half_step = np.array([0.5 / samples - 0.5] * 2)
    shift = matrix[:, :2] @ half_step + matrix[:, 2] - origin - (block - 1) / 2
    sampled = _bilinear(
        region, linear, shift / block + _RING, (size[0] * samples, size[1] * samples)
    )
    if samples == 1:
        return sampled
    return sampled.reshape(size[0], samples, size[1], samples, -1).mean((1, 3), dtype=np.float32)


def corners(size: tuple[int, int]) -> np.ndarray:
    """[4,2] the (x, y) of the corner pixels of an image of this (height, width), clockwise."""
    bottom, right = size[0] - 1, size[1] - 1
    return np.array([[0, 0], [right, 0], [right, bottom], [0, bottom]], np.float64)


def apply(matrix: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Maps points [N,2] through a matrix [2,3]."""
    return points @ matrix[:, :2].T + matrix[:, 2]


def _region(
    image: np.ndarray, matrix: np.ndarray, size: tuple[int, int], margin: int
) -> tuple[np.ndarray, np.ndarray]:
    """The part of the image that a crop touches, and the (x, y) of its first pixel."""
    reach = apply(matrix, corners(size))
    footprint = np.abs(matrix[:, :2]).sum(1) / 2  # corner pixels are squares, not points
    last = [image.shape[1], image.shape[0]]
    low = np.clip(np.floor(reach.min(0) - footprint) - margin, 0, last).astype(int)
    high = np.clip(np.ceil(reach.max(0) + footprint) + margin + 1, low, last).astype(int)
    return image[low[1] : high[1], low[0] : high[0]], low


def _block_means(image: np.ndarray, block: int) -> np.ndarray:
    """Means of block × block squares, the last ones completed with the outside, which is zero."""
    if block == 1:
        return image.astype(np.float32)
    image = np.pad(image, ((0, -image.shape[0] % block), (0, -image.shape[1] % block), (0, 0)))
    rows = image[::block].astype(np.float32)
    for i in range(1, block):
        rows += image[i::block]
    means = rows[:, ::block].copy()
    for i in range(1, block):
        means += rows[:, i::block]
    return means / np.float32(block**2)


def _bilinear(
    image: np.ndarray, linear: np.ndarray, shift: np.ndarray, size: tuple[int, int]
) -> np.ndarray:
    # Pillow counts from the corner of the first pixel, we from its centre.
    (a, b, c), (d, e, f) = np.column_stack([linear, shift + 0.5 - linear.sum(1) / 2]).tolist()
    channels = [
        Image.fromarray(np.ascontiguousarray(image[..., i])).transform(
            size[::-1], Image.Transform.AFFINE, (a, b, c, d, e, f), Image.Resampling.BILINEAR
        )
        for i in range(image.shape[2])
    ]
    return np.stack([np.asarray(channel) for channel in channels], -1)
