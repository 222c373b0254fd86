"""What happens to a photo on its way through the world, and what removes masks.

A degradation takes an image [H,W,3] uint8 and a random generator, and gives one of the same size back; a
journey may move things and says where to.
"""

import hashlib
import io
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageFilter

# (canvas [H,W,3] uint8, generator) -> the same
Apply = Callable[[np.ndarray, np.random.Generator], np.ndarray]


class Degradation(NamedTuple):
    """One way of losing detail."""

    family: str  # a key of `FAMILIES`; "" for one of its kind
    strength: float  # how strong within the family, in its unit; more is harsher
    apply: Apply


def generator(seed: int, pixels: np.ndarray) -> np.random.Generator:
    """Of an image's own content, so that it fares the same whatever others there are."""
    content = int.from_bytes(hashlib.sha256(pixels.tobytes()).digest()[:8], "big")
    return np.random.default_rng([seed, content])


def encoded(format: str, quality: int) -> Apply:
    """Through a lossy file, chroma subsampled as is usual."""

    def apply(canvas: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        buffer = io.BytesIO()
        Image.fromarray(canvas).save(buffer, format, quality=quality)
        return np.asarray(Image.open(buffer).convert("RGB"))

    return apply


def scaled(factor: float) -> Apply:
    """Made smaller or larger by a factor, and back to its size."""

    def apply(canvas: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        height, width = canvas.shape[:2]
        size = (round(width * factor), round(height * factor))
        image = Image.fromarray(canvas).resize(size, Image.Resampling.BICUBIC)
        return np.asarray(image.resize((width, height), Image.Resampling.BICUBIC))

    return apply


def filtered(kernel: ImageFilter.Filter) -> Apply:
    """Through a filter of Pillow."""
    return lambda canvas, rng: np.asarray(Image.fromarray(canvas).filter(kernel))


def blurred(sigma: float) -> Apply:
    """A Gaussian of so many pixels."""
    return filtered(ImageFilter.GaussianBlur(sigma))


def median(size: int) -> Apply:
    """Each channel's median over size × size pixels."""
    return filtered(ImageFilter.MedianFilter(size))


def bilateral(levels: float, sigma: float) -> Apply:
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


def total_variation(weight: float) -> Apply:
    """Denoised by total variation (Chambolle, 2004); a larger weight removes more."""

    def apply(canvas: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        from skimage.restoration import denoise_tv_chambolle  # of the extra `visibility`

        smooth = denoise_tv_chambolle(canvas, weight=weight, channel_axis=2)
        return np.rint(255 * smooth).astype(np.uint8)

    return apply


def coarsened(bits: int) -> Apply:
    """So many bits per sample instead of eight (Xu et al., 2018)."""
    levels = 2**bits - 1

    def apply(canvas: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        return np.rint(np.rint(canvas / 255 * levels) / levels * 255).astype(np.uint8)

    return apply


def resized_and_padded(smallest: float) -> Apply:
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

# photo [H,W,3] uint8, generator -> the photo after, and the matrix [2,3] from the old to the new coordinates
Journey = Callable[[np.ndarray, np.random.Generator], tuple[np.ndarray, np.ndarray]]
_STAYS = np.eye(2, 3)


def in_place(apply: Apply) -> Journey:
    """A degradation that moves nothing."""
    return lambda photo, rng: (apply(photo, rng), _STAYS)


def cropped(most: float) -> Journey:
    """A share of the width and the height, up to `most`, cut off at every side."""

    def apply(photo: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        height, width = photo.shape[:2]
        sides = rng.uniform(0, most, 4) * [height, height, width, width]
        top, bottom, left, right = sides.astype(int)
        moved = np.column_stack([np.eye(2), [-left, -top]])
        return photo[top : height - bottom, left : width - right], moved

    return apply


def fitted(longest: int) -> Journey:
    """Made smaller until no side is longer than that many pixels."""

    def apply(photo: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        height, width = photo.shape[:2]
        factor = longest / max(height, width)
        if factor >= 1:
            return photo, _STAYS
        size = (max(1, round(width * factor)), max(1, round(height * factor)))
        smaller = np.asarray(Image.fromarray(photo).resize(size, Image.Resampling.LANCZOS))
        scale = np.array(size) / [width, height]
        # a pixel's centre, not its corner, is at an integer
        return smaller, np.column_stack([np.diag(scale), scale / 2 - 0.5])

    return apply


def chain(*steps: Journey) -> Journey:
    """One after the other."""

    def apply(photo: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        whole = _STAYS
        for step in steps:
            photo, matrix = step(photo, rng)
            whole = matrix @ np.vstack([whole, [0, 0, 1]])
        return photo, whole

    return apply


_JPEG, _WEBP = (in_place(encoded(format, 75)) for format in ("JPEG", "WEBP"))
_HALF, _CROP, _SCREEN = in_place(scaled(0.5)), cropped(0.1), in_place(screenshot)
# "half" is half the size and back, "1080" a longest edge of so many pixels.
JOURNEYS: dict[str, Journey] = {
    "JPEG 75": _JPEG,
    "WebP 75": _WEBP,
    "half": _HALF,
    "blur 1": in_place(blurred(1.0)),
    "crop": _CROP,
    "screenshot": _SCREEN,
    "half + JPEG 75": chain(_HALF, _JPEG),
    "1080 + JPEG 75": chain(fitted(1080), _JPEG),
    "crop + JPEG 75 + WebP 75": chain(_CROP, _JPEG, _WEBP),
    "screenshot + JPEG 75": chain(_SCREEN, _JPEG),
    "median 3": in_place(median(3)),
    "median 5": in_place(median(5)),
    "bilateral": in_place(bilateral(30, 2.0)),
    "total variation": in_place(total_variation(0.1)),
    "JPEG 50 + half": chain(in_place(encoded("JPEG", 50)), _HALF),
}
