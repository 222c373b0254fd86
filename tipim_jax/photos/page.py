"""The page of a report: `report.html`, filled from the template of the same name."""

import base64
import hashlib
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import jinja2

from tipim_jax.errors import printable
from tipim_jax.photos.pictures import FOLDER, GAIN, Shown
from tipim_jax.photos.results import FaceResult, PhotoResult, RunResult
from tipim_jax.photos.table import NO_PHOTO, caveat, figures_line, names, summary_line
from tipim_jax.photos.verdict import hidden_from, level, visibility

# Pages of more faces name their pictures instead of holding them, 100 kB a face.
MOST_HELD = 50


class Attention(NamedTuple):
    """What somebody should look at.

    Attributes:
      anchor: where it is on the page.
      where: which face, photo or file.
      why: in a few words.
    """

    anchor: str
    where: str
    why: str


def html(run: RunResult, out: Path, pictures: Sequence[Mapping[int, Shown]]) -> str:
    """The run as one HTML page, which loads nothing but the pictures of its own folder.

    Args:
      run: what to tell.
      out: the output folder.
      pictures: of each photo, those of its faces by their numbers from 1, in files below `out`.

    Raises:
      OSError: a picture cannot be read.
    """
    held = sum(map(len, pictures)) <= MOST_HELD

    def link(path: Path) -> str:
        if not held:
            return path.as_posix()
        return f"data:image/jpeg;base64,{base64.b64encode((out / path).read_bytes()).decode()}"

    return _template().render(
        run=run,
        summary=summary_line(run),
        figures=figures_line(run),
        attention=attention(run),
        caveat=caveat(run),
        photos=zip(names(run.photos), run.photos, pictures, strict=True),
        link=link,
        apart="" if held else FOLDER.as_posix(),
        gain=GAIN,
        about={**run.settings, **run.versions},
        no_photo=NO_PHOTO,
    )


def attention(run: RunResult) -> list[Attention]:
    """The faces that are still recognised, and what was not protected."""
    found = []
    for i, (photo, name) in enumerate(zip(run.photos, names(run.photos), strict=True), 1):
        found += _of_photo(photo, name, f"photo{i}")
    if run.others:
        files = "1 file" if len(run.others) == 1 else f"{len(run.others)} files"
        found.append(Attention("others", files, "no photo, not protected"))
    return found


def _of_photo(photo: PhotoResult, name: str, anchor: str) -> list[Attention]:
    if photo.error:
        return [Attention(anchor, name, "not protected")]
    return [
        Attention(f"{anchor}-face{number}", f"{name}, face {number}", hidden_from(face))
        for number, face in enumerate(photo.faces, 1)
        if not face.skipped and not face.protected
    ]


@cache
def _template() -> jinja2.Template:
    # Names of files are whatever others called them: everything is escaped unless the template says otherwise.
    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    environment.filters["printable"] = lambda value: printable(str(value))
    environment.filters["sha256"] = _sha256
    environment.filters["verdict"] = hidden_from
    environment.filters["level"] = level
    environment.filters["visible"] = _visible
    return environment.from_string(Path(__file__).with_name("report.html").read_text("utf-8"))


def _visible(face: FaceResult) -> str:
    return visibility(face.psnr, face.box[2])


def _sha256(text: Any) -> str:
    """As a `Content-Security-Policy` names a script."""
    return base64.b64encode(hashlib.sha256(str(text).encode()).digest()).decode()
