"""How much of a protection is seen: measures of a whole photo at its own resolution, part by part.

PSNR, SSIM, largest change and CIEDE2000 always; SSIMULACRA2 (90: no difference seen, 70: high quality, 50:
medium, 30: low) and ColorVideoVDP (10: no difference, one less: three of four people see it) where their
packages are installed: the extras `visibility` and `cvvdp`.

The parts are the face, its skin, the head around it, and the rest. The face is an ellipse from chin to hair
line laid by the landmarks: it is the same for every protection whatever region its masks keep to.
"""

import io
import math
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from typing import NamedTuple

import numpy as np
from PIL import Image

from tipim_jax.core.geometry import ARCFACE_112, fit_similarity

MOST = 99.0  # dB, of equal images
NOTES = """Face: inside its outline (for SSIMULACRA2 and JOD, which take rectangles, the square around the
head). Around: outside every protected face's outline (for those two, the whole photo with the faces put back).
Skin: the main face without eyes, brows and mouth. Changed around: share of pixels there that differ from the
photo saved in the same way without a mask."""


# (x, y) of centres and half axes in the 112 × 112 crop, about 35 pixels between the eyes.
FACE = ((56.0, 60.0), (46.0, 60.0))
SKIN = ((56.0, 64.0), (34.0, 44.0))
EYE = (12.0, 9.0)
MOUTH = (22.0, 11.0)
HEAD = 2.2  # half the side of the square around a head, in units of the landmarks' longer extent


class Regions(NamedTuple):
    """Of a photo [H,W]."""

    face: np.ndarray  # [H,W] bool, inside the outline of any protected face
    skin: np.ndarray  # [H,W] bool, of the main face without eyes, brows and mouth
    # the square around the main face, cut at the photo's border, as (rows, columns)
    head: tuple[slice, slice]


def regions(size: tuple[int, int], landmarks: np.ndarray, faces: np.ndarray) -> Regions:
    """Lays the regions of a photo of (height, width) by landmarks [5,2] of the main face and [N,5,2] of all
    that are protected."""
    face = np.zeros(size, bool)
    for one in faces:
        face |= _inside(_at(size, one), *FACE)
    where = _at(size, landmarks)
    left, right, _, *mouth = ARCFACE_112
    features = [
        _inside(where, left, EYE),
        _inside(where, right, EYE),
        _inside(where, np.mean(mouth, axis=0), MOUTH),
    ]
    skin = _inside(where, *SKIN) & ~np.any(features, axis=0)
    return Regions(face, skin, head(size, landmarks))


def head(size: tuple[int, int], landmarks: np.ndarray) -> tuple[slice, slice]:
    """(rows, columns) of the square around a head in a photo of (height, width)."""
    centre, half = landmarks.mean(0), HEAD * np.ptp(landmarks, axis=0).max()
    low, high = centre - half, centre + half
    rows, columns = (
        slice(max(0, int(low[i])), min(math.ceil(high[i]), size[1 - i])) for i in (1, 0)
    )
    return rows, columns


def _at(size: tuple[int, int], landmarks: np.ndarray) -> np.ndarray:
    """[2,H,W] where each pixel of a photo lies in the 112 × 112 crop: x, y."""
    matrix = fit_similarity(landmarks, ARCFACE_112)
    y, x = np.mgrid[: size[0], : size[1]].astype(np.float32)
    return np.stack([a * x + b * y + c for a, b, c in matrix.astype(np.float32)])


def _inside(where: np.ndarray, centre, half) -> np.ndarray:
    return ((where[0] - centre[0]) / half[0]) ** 2 + ((where[1] - centre[1]) / half[1]) ** 2 <= 1


Measure = Callable[[np.ndarray, np.ndarray], float]  # before and after, [H,W,3] uint8


@cache
def models() -> dict[str, Measure]:
    """The models of human vision whose packages are installed, by name."""
    made: dict[str, Measure] = {}
    for name, prepared in (("SSIMULACRA2", _ssimulacra2), ("JOD", _jod)):
        with suppress(ImportError):
            made[name] = prepared()
    return made


def visible(
    before: np.ndarray,
    after: np.ndarray,
    plain: np.ndarray,
    regions: Regions,
) -> dict[str, float]:
    """Every measure of a protected photo: measure -> value; NaN of a part that the photo does not have.

    All are [H,W,3] uint8: the photo and the protected file as read, and the photo saved in the same way
    without a mask, as read (`plain`).
    """
    from skimage.color import deltaE_ciede2000, rgb2lab
    from skimage.metrics import structural_similarity

    face, around, head = regions.face, ~regions.face, regions.head
    error = np.square(after.astype(np.float32) - before).mean(2)
    similar = structural_similarity(before, after, channel_axis=2, full=True)[1].mean(2)
    made = {}
    for part, where in (("", np.ones_like(face)), ("face ", face), ("around ", around)):
        made[f"{part}PSNR"] = _psnr(_mean(error, where))
        made[f"{part}SSIM"] = _mean(similar, where)
    seen = deltaE_ciede2000(rgb2lab(before[head]), rgb2lab(after[head]))
    skin = seen[regions.skin[head]]
    made["skin ΔE"] = float(skin.mean())
    made["skin ΔE 99 %"] = float(np.percentile(skin, 99))
    change = np.abs(after.astype(np.int16) - before).max(2)
    made["largest change"] = float(change.max())
    made["changed around"] = _mean(np.any(after != plain, axis=2), around)
    restored = np.where(face[..., None], before, after)
    for name, measure in models().items():
        made[name] = measure(before, after)
        made[f"face {name}"] = measure(before[head], after[head])
        made[f"around {name}"] = measure(before, restored)
    return made


def _mean(values: np.ndarray, where: np.ndarray) -> float:
    return float(values[where].mean()) if where.any() else float("nan")


def _psnr(error: float) -> float:
    return MOST if error == 0 else min(MOST, float(10 * np.log10(255**2 / error)))


def _ssimulacra2() -> Measure:
    from ssimulacra2 import compute_ssimulacra2

    def file(pixels: np.ndarray) -> io.BytesIO:
        written = io.BytesIO()
        Image.fromarray(pixels).save(written, "PNG", compress_level=0)
        return written

    return lambda before, after: float(compute_ssimulacra2(file(before), file(after)))


def _jod() -> Measure:
    import pycvvdp

    metric = pycvvdp.cvvdp(display_name="standard_fhd", heatmap=None)

    def measure(before: np.ndarray, after: np.ndarray) -> float:
        test, reference = (np.ascontiguousarray(pixels) for pixels in (after, before))
        return float(metric.predict(test, reference, dim_order="HWC")[0])

    return measure
