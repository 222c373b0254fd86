"""What is done to photos: made smaller, saved anew, cropped, taken off a screen; and what removes masks."""

from collections.abc import Callable

import numpy as np
from PIL import Image

from experiments.protection import degradations

# photo [H,W,3] uint8, generator -> the photo after, and the matrix [2,3] from the old to the new coordinates
Journey = Callable[[np.ndarray, np.random.Generator], tuple[np.ndarray, np.ndarray]]
_STAYS = np.eye(2, 3)


def in_place(apply: Callable[[np.ndarray, np.random.Generator], np.ndarray]) -> Journey:
    """A degradation that moves nothing."""
    return lambda photo, rng: (apply(photo, rng), _STAYS)


def cropped(most: float) -> Journey:
    """A share of the width and the height, up to `most`, cut off at every side."""

    def apply(photo: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        height, width = photo.shape[:2]
        top, bottom, left, right = (
            rng.uniform(0, most, 4) * [height, height, width, width]
        ).astype(int)
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


_JPEG, _WEBP = (in_place(degradations.encoded(format, 75)) for format in ("JPEG", "WEBP"))
_HALF, _BLUR = in_place(degradations.scaled(0.5)), in_place(degradations.blurred(1.0))
_CROP, _SCREEN = cropped(0.1), in_place(degradations.screenshot)
_JPEG_50 = in_place(degradations.encoded("JPEG", 50))
# "half" is half the size and back, "1080" a longest edge of so many pixels.
JOURNEYS: dict[str, Journey] = {
    "JPEG 75": _JPEG,
    "WebP 75": _WEBP,
    "half": _HALF,
    "blur 1": _BLUR,
    "crop": _CROP,
    "screenshot": _SCREEN,
    "half + JPEG 75": chain(_HALF, _JPEG),
    "1080 + JPEG 75": chain(fitted(1080), _JPEG),
    "crop + JPEG 75 + WebP 75": chain(_CROP, _JPEG, _WEBP),
    "screenshot + JPEG 75": chain(_SCREEN, _JPEG),
    "median 3": in_place(degradations.median(3)),
    "median 5": in_place(degradations.median(5)),
    "bilateral": in_place(degradations.bilateral(30, 2.0)),
    "total variation": in_place(degradations.total_variation(0.1)),
    "JPEG 50 + half": chain(_JPEG_50, _HALF),
}
