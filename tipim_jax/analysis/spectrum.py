"""Where an image of gradients or of a mask has its energy: by spatial frequency, and by part of the face."""

from functools import lru_cache

import jax
import jax.numpy as jnp
import numpy as np

from tipim_jax.core.geometry import CANVAS_LANDMARKS

REGIONS = ("eyes", "nose", "mouth", "rest")


def frequencies(size: int) -> np.ndarray:
    """[size // 2 + 1] centres of the rings of `radial` for a square image, in cycles per pixel."""
    return np.arange(size // 2 + 1) / size


def radial(image: jax.Array) -> jax.Array:
    """Radially averaged power spectrum of a square image [S,S,C] -> [S // 2 + 1].

    Ring r averages |F|² over the frequencies at rounded radius r (in 1/S cycles per pixel) and over the
    channels, divided by the mean of |F|² over all frequencies: white noise gives 1 everywhere. The corners
    beyond the Nyquist radius are left out. An image of zeros gives zeros.

    Raises:
      ValueError: for an image that is not square.
    """
    if image.shape[0] != image.shape[1]:
        raise ValueError(f"a radial spectrum needs a square image, not {list(image.shape[:2])}")
    size = image.shape[0]
    power = jnp.sum(jnp.abs(jnp.fft.rfft2(image, axes=(0, 1))) ** 2, axis=-1)
    rings = jnp.asarray(_rings(size), power.dtype) @ power.reshape(-1)
    # Parseval: the mean of |F|² is the energy of the image.
    mean = jnp.sum(image**2)
    return jnp.where(mean > 0, rings / jnp.where(mean > 0, mean, 1), 0)


@lru_cache(maxsize=8)
def _rings(size: int) -> np.ndarray:
    """[S//2+1, S·(S//2+1)] weights that average the half plane of `rfft2` over rings of the whole."""
    rows, columns = np.fft.fftfreq(size) * size, np.fft.rfftfreq(size) * size
    radius = np.rint(np.hypot(rows[:, None], columns)).astype(int)
    # Every column but the first, and the last of an even size, stands for its mirror image too.
    twice = np.where((columns == 0) | (2 * columns == size), 1.0, 2.0)
    weights = np.broadcast_to(twice, radius.shape).reshape(-1)
    hit = radius.reshape(-1) == np.arange(size // 2 + 1)[:, None]
    weights = hit * weights
    return weights / weights.sum(axis=1, keepdims=True)


@lru_cache(maxsize=8)
def regions(size: tuple[int, int], landmarks: tuple[tuple[float, float], ...]) -> np.ndarray:
    """[4,H,W] masks of the `REGIONS` of an aligned face, which add up to 1 at every pixel.

    Sizes follow the distance d between the eyes: discs of 0.3 d around the eyes, an ellipse of 0.3 d × 0.4 d
    around a point 0.1 d above the nose tip, and one of half the mouth's width and 0.15 d × 0.3 d around it.

    Args:
      size: (H, W).
      landmarks: 5 × (x, y): eyes, nose, mouth corners.
    """
    points = np.asarray(landmarks)
    d = float(np.linalg.norm(points[1] - points[0]))
    y, x = np.mgrid[: size[0], : size[1]]

    def ellipse(centre: np.ndarray, width: float, height: float) -> np.ndarray:
        return ((x - centre[0]) / width) ** 2 + ((y - centre[1]) / height) ** 2 <= 1

    eyes = ellipse(points[0], 0.3 * d, 0.3 * d) | ellipse(points[1], 0.3 * d, 0.3 * d)
    nose = ellipse(points[2] - [0, 0.1 * d], 0.3 * d, 0.4 * d) & ~eyes
    half = float(np.linalg.norm(points[4] - points[3])) / 2
    mouth = ellipse((points[3] + points[4]) / 2, half + 0.15 * d, 0.3 * d) & ~eyes & ~nose
    return np.stack([eyes, nose, mouth, ~(eyes | nose | mouth)]).astype(np.float32)


def by_region(image: jax.Array, landmarks: np.ndarray = CANVAS_LANDMARKS) -> jax.Array:
    """Share of the energy of an aligned image [H,W,C] inside each of the `REGIONS`: [4]; zeros for none.

    Args:
      image: [H,W,C].
      landmarks: [5,2] of its alignment, (x, y).
    """
    masks = regions(image.shape[:2], tuple(map(tuple, landmarks.tolist())))
    energy = jnp.sum(image**2, axis=-1)
    shares = jnp.einsum("khw,hw->k", jnp.asarray(masks, energy.dtype), energy)
    total = jnp.sum(energy)
    return jnp.where(total > 0, shares / jnp.where(total > 0, total, 1), 0)
