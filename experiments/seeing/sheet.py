"""One page of pictures at 100 %: all protections of a photo side by side, cut around the face, none scaled."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from experiments.reporting import results
from tipim_jax.photos.files import read_photo

TIMES = 8  # by which a mask is shown larger than it is


class Shown(NamedTuple):
    """A photo of the sheet."""

    title: str  # of its line
    before: Path  # the photo
    cut: tuple[slice, slice]  # (rows, columns) that are shown
    after: Mapping[str, tuple[Path, str]]  # protection -> (its file, what to say of it)


def write(folder: Path, shown: Sequence[Shown]) -> Path:
    """Writes `sheet.html` into a folder and its pictures into `sheet/`: before | after over mask × 8."""
    (folder / "sheet").mkdir(exist_ok=True)

    def saved(name: str, pixels: np.ndarray) -> str:
        Image.fromarray(np.ascontiguousarray(pixels)).save(folder / "sheet" / name)
        return name

    photos = []
    for number, one in enumerate(shown):
        before = read_photo(one.before).pixels[one.cut]
        figures = [("before", "", [saved(f"{number:03d}.png", before)])]
        for index, (name, (file, text)) in enumerate(one.after.items()):
            after, stem = read_photo(file).pixels[one.cut], f"{number:03d}-{index:02d}"
            made = {f"{stem}.png": after, f"{stem}-mask.png": mask(before, after)}
            figures.append((name, text, [saved(*item) for item in made.items()]))
        photos.append((one.title, figures))
    return results.write_page(folder / "sheet.html", __file__, times=TIMES, photos=photos)


def mask(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """[h,w,3] uint8: grey where nothing changed, 8 levels lighter or darker for each level of change."""
    change = after.astype(np.int16) - before
    return np.clip(128 + TIMES * change, 0, 255).astype(np.uint8)
