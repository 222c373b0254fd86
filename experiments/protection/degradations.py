"""What happens to a photo on its way through the world, on aligned faces; NumPy and Pillow.

Each takes a canvas [160,160,3] uint8 and a random generator, and gives one back.
"""

import io
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageFilter


class Degradation(NamedTuple):
    """One way of losing detail.

    Attributes:
      family: a key of `FAMILIES`; "" for one of its kind.
      strength: how strong within the family, in its unit; more is harsher.
      apply: (canvas [H,W,3] uint8, generator) -> the same.
    """

    family: str
    strength: float
    apply: Callable[[np.ndarray, np.random.Generator], np.ndarray]


def encoded(format: str, quality: int) -> Callable[..., np.ndarray]:
    """Through a lossy file, chroma subsampled as is usual."""

    def apply(canvas: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        buffer = io.BytesIO()
        Image.fromarray(canvas).save(buffer, format, quality=quality)
        return np.asarray(Image.open(buffer).convert("RGB"))

    return apply


def scaled(factor: float) -> Callable[..., np.ndarray]:
    """Made smaller or larger by a factor, and back to its size."""

    def apply(canvas: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        height, width = canvas.shape[:2]
        size = (round(width * factor), round(height * factor))
        image = Image.fromarray(canvas).resize(size, Image.Resampling.BICUBIC)
        return np.asarray(image.resize((width, height), Image.Resampling.BICUBIC))

    return apply


def blurred(sigma: float) -> Callable[..., np.ndarray]:
    """A Gaussian of so many pixels."""
    return lambda canvas, rng: np.asarray(
        Image.fromarray(canvas).filter(ImageFilter.GaussianBlur(sigma))
    )


def median(size: int) -> Callable[..., np.ndarray]:
    """Each channel's median over size × size pixels."""
    return lambda canvas, rng: np.asarray(
        Image.fromarray(canvas).filter(ImageFilter.MedianFilter(size))
    )


def bilateral(levels: float, sigma: float) -> Callable[..., np.ndarray]:
    """A Gaussian of so many pixels, times another of so many levels of the difference in colour."""
    half = round(2 * sigma)
    shifts = [(y, x) for y in range(2 * half + 1) for x in range(2 * half + 1)]

    def apply(canvas: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        image = canvas.astype(np.float32)
        height, width = canvas.shape[:2]
        padded = np.pad(image, ((half, half), (half, half), (0, 0)), mode="edge")
        total, weights = np.zeros_like(image), np.zeros((height, width, 1), np.float32)
        for y, x in shifts:
            neighbour = padded[y : y + height, x : x + width]
            apart = np.sum((neighbour - image) ** 2, axis=2, keepdims=True) / levels**2
            weight = np.exp(-(apart + ((y - half) ** 2 + (x - half) ** 2) / sigma**2) / 2)
            total += weight * neighbour
            weights += weight
        return np.rint(total / weights).astype(np.uint8)

    return apply


def total_variation(weight: float) -> Callable[..., np.ndarray]:
    """Denoised by total variation (Chambolle, 2004); a larger weight removes more."""
    from skimage.restoration import denoise_tv_chambolle

    def apply(canvas: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        smooth = denoise_tv_chambolle(canvas, weight=weight, channel_axis=2)
        return np.rint(255 * smooth).astype(np.uint8)

    return apply


def coarsened(bits: int) -> Callable[..., np.ndarray]:
    """So many bits per sample instead of eight (Xu et al., 2018)."""
    levels = 2**bits - 1
    return lambda canvas, rng: np.rint(np.rint(canvas / 255 * levels) / levels * 255).astype(
        np.uint8
    )


def resized_and_padded(smallest: float) -> Callable[..., np.ndarray]:
    """Shrunk by U(smallest, 1) and put at a random place on black (Xie et al., 2018)."""

    def apply(canvas: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        length = len(canvas)
        size = round(length * rng.uniform(smallest, 1))
        top, left = rng.integers(0, length - size + 1, 2)
        padded = np.zeros_like(canvas)
        small = Image.fromarray(canvas).resize((size, size), Image.Resampling.BILINEAR)
        padded[top : top + size, left : left + size] = small
        return padded

    return apply


def screenshot(canvas: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Shown at 1.37 times its size, taken off the screen by a fraction of a pixel, saved as JPEG 85."""
    height, width = canvas.shape[:2]
    factor = 1.37
    shift = rng.uniform(-0.5, 0.5, 2)
    size = (round(width * factor), round(height * factor))
    shown = Image.fromarray(canvas).resize(size, Image.Resampling.BILINEAR)
    taken = shown.transform(
        (width, height),
        Image.Transform.AFFINE,
        (factor, 0, shift[0], 0, factor, shift[1]),
        Image.Resampling.BICUBIC,
    )
    return encoded("JPEG", 85)(np.asarray(taken), rng)


FAMILIES = {
    "JPEG": "100 − quality",
    "WebP": "100 − quality",
    "blur": "σ, pixels",
    "bits": "bits dropped",
}
AS_MADE = "as made"
DEGRADATIONS = {
    AS_MADE: Degradation("", 0, lambda canvas, rng: canvas),
    **{f"JPEG {q}": Degradation("JPEG", 100 - q, encoded("JPEG", q)) for q in (95, 75, 50)},
    **{f"WebP {q}": Degradation("WebP", 100 - q, encoded("WEBP", q)) for q in (95, 75, 50)},
    "scaled × 0.5": Degradation("", 0, scaled(0.5)),
    "scaled × 2": Degradation("", 0, scaled(2.0)),
    **{f"blur {s:g}": Degradation("blur", s, blurred(s)) for s in (0.5, 1.0, 2.0)},
    **{f"{bits} bits": Degradation("bits", 8 - bits, coarsened(bits)) for bits in (5, 4, 3)},
    "resize and pad": Degradation("", 0, resized_and_padded(0.9)),
    "screenshot": Degradation("", 0, screenshot),
}
