"""One page of pictures at 100 %: all protections of a photo side by side, cut around the face, none scaled."""

import html
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from experiments.reporting import results
from tipim_jax.photos.files import read_photo

TIMES = 8  # by which a mask is shown larger than it is
_STYLE = """
body { font: 14px/1.4 system-ui, sans-serif; margin: 1em; background: #808080; color: #fff }
section { display: flex; gap: 4px; overflow-x: auto; align-items: flex-start; margin-bottom: 2em }
figure { margin: 0 } figcaption { max-width: 30em } img { display: block; margin-bottom: 4px }
"""


class Shown(NamedTuple):
    """A photo of the sheet.

    Attributes:
      title: of its line.
      before: the photo.
      cut: (rows, columns) that are shown.
      after: protection -> (its file, what to say of it).
    """

    title: str
    before: Path
    cut: tuple[slice, slice]
    after: Mapping[str, tuple[Path, str]]


def write(folder: Path, shown: Sequence[Shown]) -> Path:
    """Writes `sheet.html` into a folder and its pictures into `sheet/`: before | after over mask × 8."""
    pictures = folder / "sheet"
    pictures.mkdir(exist_ok=True)
    body = []
    for number, one in enumerate(shown):
        before = read_photo(one.before).pixels[one.cut]
        figures = [_figure("before", "", [_save(pictures / f"{number:03d}.png", before)])]
        for index, (name, (file, text)) in enumerate(one.after.items()):
            after = read_photo(file).pixels[one.cut]
            stem = pictures / f"{number:03d}-{index:02d}"
            sources = [
                _save(stem.with_suffix(".png"), after),
                _save(stem.with_name(f"{stem.name}-mask.png"), mask(before, after)),
            ]
            figures.append(_figure(name, text, sources))
        body.append(f"<h2>{html.escape(one.title)}</h2><section>{''.join(figures)}</section>")
    path = folder / "sheet.html"
    results.write(
        path,
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>Sheet</title>'
        f"<style>{_STYLE}</style><p>Before | after, and below it the mask × {TIMES} around grey; "
        f"100 %.</p>{''.join(body)}</html>\n",
    )
    return path


def mask(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """[h,w,3] uint8: grey where nothing changed, 8 levels lighter or darker for each level of change."""
    change = after.astype(np.int16) - before
    return np.clip(128 + TIMES * change, 0, 255).astype(np.uint8)


def _save(path: Path, pixels: np.ndarray) -> Path:
    Image.fromarray(np.ascontiguousarray(pixels)).save(path)
    return path


def _figure(name: str, text: str, sources: Sequence[Path]) -> str:
    images = "".join(f'<img loading="lazy" src="sheet/{path.name}" alt="">' for path in sources)
    said = f"<br>{html.escape(text)}" if text else ""
    return f"<figure><figcaption><b>{html.escape(name)}</b>{said}</figcaption>{images}</figure>"
