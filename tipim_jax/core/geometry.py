"""Alignment: landmarks to similarity transforms, and images sampled through them.

Pixel centres lie at whole coordinates (the OpenCV convention). A matrix [2,3] maps (x, y, 1) to (x', y').
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

# Eyes, nose and mouth corners, image-left first, of the ArcFace 112×112 crop.
ARCFACE_112 = np.array(
    [
        [38.2946, 51.6963],
        [73.5318, 51.5014],
        [56.0252, 71.7366],
        [41.5493, 92.3655],
        [70.7299, 92.2041],
    ]
)
# The canvas on which masks are made: that crop and 24 pixels around it, so that every recogniser's own
# framing lies inside.
CANVAS_MARGIN = 24
CANVAS_SIZE = 112 + 2 * CANVAS_MARGIN
CANVAS_LANDMARKS = ARCFACE_112 + CANVAS_MARGIN


def fit_similarity(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """The rotation, uniform scale and shift that best map source onto target (Umeyama, 1991).

    Args:
      source: [N,2] points, N ≥ 2, not all the same.
      target: [N,2] where they should go.

    Returns:
      [2,3] float64.
    """
    source, target = np.asarray(source, np.float64), np.asarray(target, np.float64)
    centre_s, centre_t = source.mean(0), target.mean(0)
    # Rotation and scale in the plane are one complex factor, which least squares gives directly.
    s = (source - centre_s) @ [1, 1j]
    t = (target - centre_t) @ [1, 1j]
    factor = np.vdot(s, t) / np.vdot(s, s)
    linear = np.array([[factor.real, -factor.imag], [factor.imag, factor.real]])
    return np.column_stack([linear, centre_t - linear @ centre_s])


def invert(matrix: np.ndarray) -> np.ndarray:
    """The [2,3] matrix of the inverse map."""
    linear = np.linalg.inv(matrix[:, :2])
    return np.column_stack([linear, -linear @ matrix[:, 2]])


def warp(image: jax.Array, matrix: jax.Array, size: tuple[int, int]) -> jax.Array:
    """Bilinear sampling, zero outside: [H,W,C] -> [h,w,C].

    Args:
      image: [H,W,C].
      matrix: [2,3] from output to input coordinates.
      size: output (height, width).
    """
    return sample(image, mapped(matrix, size, image.dtype))


def mapped(matrix: jax.Array, size: tuple[int, int], dtype: jnp.dtype) -> jax.Array:
    """[h,w,2] the (x, y) that a matrix [2,3] maps the pixels of an image of this (height, width) to."""
    rows, columns = jnp.mgrid[: size[0], : size[1]].astype(dtype)
    matrix = jnp.asarray(matrix, dtype)
    x = matrix[0, 0] * columns + matrix[0, 1] * rows + matrix[0, 2]
    y = matrix[1, 0] * columns + matrix[1, 1] * rows + matrix[1, 2]
    return jnp.stack([x, y], axis=-1)


def sample(image: jax.Array, points: jax.Array) -> jax.Array:
    """Bilinear samples of an image [H,W,C] at (x, y) points [h,w,2], zero outside -> [h,w,C]."""
    x, y = points[..., 0], points[..., 1]
    left, top = jnp.floor(x), jnp.floor(y)
    pixels = image.reshape(-1, image.shape[-1])

    def tap(dx: int, dy: int) -> jax.Array:
        i, j = top + dy, left + dx
        inside = (i >= 0) & (i < image.shape[0]) & (j >= 0) & (j < image.shape[1])
        weight = (1 - jnp.abs(x - j)) * (1 - jnp.abs(y - i)) * inside
        index = jnp.where(inside, i * image.shape[1] + j, 0).astype(jnp.int32)
        return pixels[index] * weight[..., None]

    return tap(0, 0) + tap(1, 0) + tap(0, 1) + tap(1, 1)


def crop_between(
    landmarks: np.ndarray, to_landmarks: np.ndarray, size: tuple[int, int], canvas: tuple[int, int]
) -> Callable[[jax.Array], jax.Array]:
    """The function that frames an aligned image anew: [H,W,C] -> [h,w,C].

    Both framings are upright, so the map is a scale and a shift. It is computed once and applied as
    a slice where it is whole pixels, otherwise as two small matrix products, one per axis, whose
    gradients are matrix products again (a gather's would be a scatter).

    Args:
      landmarks: [5,2] template of the image.
      to_landmarks: [5,2] template of the crop.
      size: crop (height, width).
      canvas: image (height, width).
    """
    down, across = frame(landmarks, to_landmarks, size, canvas)
    rows, columns = as_slice(down), as_slice(across)
    if rows is not None and columns is not None:
        return lambda image: image[rows, columns]

    def crop(image: jax.Array) -> jax.Array:
        rows = jnp.einsum("hH,HWc->hWc", down.astype(image.dtype), image)
        return jnp.einsum("wW,hWc->hwc", across.astype(image.dtype), rows)

    return crop


def frame(
    landmarks: np.ndarray,
    to_landmarks: np.ndarray,
    size: tuple[int, int],
    canvas: tuple[int, int] = (CANVAS_SIZE, CANVAS_SIZE),
) -> tuple[np.ndarray, np.ndarray]:
    """The crop of `crop_between` as bilinear weights: of rows [h,H] and of columns [w,W]."""
    source = np.asarray(to_landmarks, np.float64)
    centre_s, centre_t = source.mean(0), np.asarray(landmarks, np.float64).mean(0)
    scale = np.sum((source - centre_s) * (landmarks - centre_t)) / np.sum((source - centre_s) ** 2)
    across, down = centre_t - scale * centre_s
    return (
        _interpolation(scale * np.arange(size[0]) + down, canvas[0]),
        _interpolation(scale * np.arange(size[1]) + across, canvas[1]),
    )


def as_slice(weights: np.ndarray) -> slice | None:
    """The slice that bilinear weights [n,N] amount to, or None if they are not whole pixels."""
    first = int(weights[0].argmax())
    whole = np.eye(weights.shape[1])[first : first + len(weights)]
    same = whole.shape == weights.shape and np.allclose(weights, whole, atol=1e-4)
    return slice(first, first + len(weights)) if same else None


def _interpolation(coordinates: np.ndarray, length: int) -> np.ndarray:
    """Bilinear weights [len(coordinates), length] of the points at `coordinates`, zero outside."""
    weights = 1 - np.abs(coordinates[:, None] - np.arange(length))
    return np.maximum(weights, 0)
