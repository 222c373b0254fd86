"""How much of a protection is seen: measures of a whole photo at its own resolution, part by part.

PSNR, SSIM, largest change and CIEDE2000 always; SSIMULACRA2 (90: no difference seen, 70: high quality, 50:
medium, 30: low) and ColorVideoVDP (10: no difference, one less: three of four people see it) where their
packages are installed: the extras `visibility` and `cvvdp`.
"""

import io
from collections.abc import Callable
from contextlib import suppress
from functools import cache

import numpy as np
from PIL import Image

from experiments.seeing.regions import Regions

MOST = 99.0  # dB, of equal images
NOTES = """Face: inside its outline (for SSIMULACRA2 and JOD, which take rectangles, the square around the
head). Around: outside every protected face's outline (for those two, the whole photo with the faces put back).
Skin: the main face without eyes, brows and mouth. Changed around: share of pixels there that differ from the
photo saved in the same way without a mask."""


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
    displacement: np.ndarray | None = None,
) -> dict[str, float]:
    """Every measure of a protected photo.

    Args:
      before, after: [H,W,3] uint8, the photo as read and the protected file as read.
      plain: [H,W,3] uint8, the photo saved in the same way without a mask, as read.
      regions: of the photo.
      displacement: [H,W,2] how far a warp has moved each pixel, photo pixels; none by default.

    Returns:
      Measure -> value; NaN of a part that the photo does not have.
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
    if displacement is not None:
        moved = 100 * np.linalg.norm(displacement, axis=2) / regions.eyes
        made["moved %"], made["most moved %"] = float(moved[face].mean()), float(moved.max())
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
