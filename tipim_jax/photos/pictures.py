"""Pictures of faces before and after: small files that the page of a report shows.

They are written as photos finish, so that none is kept in memory, to a hidden folder, in which no command looks
for photos. Their names begin with the digest of the protected photo: what lies there is of that very file.
"""

import contextlib
import io
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from tipim_jax.photos.files import PICTURES, read_photo, write_atomically
from tipim_jax.photos.photo import PhotoError
from tipim_jax.photos.results import FaceResult, PhotoResult, Pictures, RunResult

FOLDER = Path(".tipim") / "faces"
GAIN = 8
_SIZE = 320
_NAME = re.compile(r"[0-9a-f]{20}-\d+-(?:before|after|mask)\.jpg")


class Shown(NamedTuple):
    """The pictures of a face as files.

    Attributes:
      before, after, mask: paths below the output folder.
      size: width and height of each, pixels.
    """

    before: Path
    after: Path
    mask: Path
    size: tuple[int, int]


def face_pictures(
    before: np.ndarray, after: np.ndarray, box: tuple[float, float, float, float]
) -> Pictures:
    """Pictures of a face and its surroundings, made smaller where they are large.

    Args:
      before, after: [H,W,3] uint8, the photo and the protected photo.
      box: left, top, width, height of the face.
    """
    left, top, width, height = box
    margin = 0.6 * max(width, height)
    x0, y0 = max(0, math.floor(left - margin)), max(0, math.floor(top - margin))
    x1, y1 = math.ceil(left + width + margin), math.ceil(top + height + margin)
    a, b = before[y0:y1, x0:x1], after[y0:y1, x0:x1]
    mask = np.clip(128 + GAIN * (b.astype(np.int16) - a), 0, 255).astype(np.uint8)

    def small(pixels: np.ndarray) -> np.ndarray:
        image = Image.fromarray(np.ascontiguousarray(pixels))
        image.thumbnail((_SIZE, _SIZE), Image.Resampling.BOX)
        return np.asarray(image)

    return Pictures(small(a), small(b), small(mask))


def keep(out: Path, sha256: str, faces: Sequence[FaceResult]) -> None:
    """Writes the pictures that the faces of a photo carry.

    Args:
      out: the output folder.
      sha256: of the file of the protected photo.
      faces: in the order found.

    Raises:
      DiskFull, PhotoError: they cannot be written.
    """
    for number, face in enumerate(faces, 1):
        if face.pictures is not None:
            for path, pixels in zip(_paths(sha256, number), face.pictures, strict=True):
                write_atomically(out / path, _file(pixels, "JPEG"), overwrite=True)


def shown(out: Path, photo: PhotoResult, *, quick: bool = False) -> dict[int, Shown]:
    """The pictures of a photo's faces by their numbers, from 1; missing ones are made of its two files.

    Args:
      out: the output folder.
      photo: of any run.
      quick: leave out the missing ones.

    Raises:
      DiskFull, PhotoError: they cannot be written.
    """
    if not photo.sha256:
        return {}
    numbers = [number for number, face in enumerate(photo.faces, 1) if not face.skipped]
    there = {number: _there(out, photo.sha256, number) for number in numbers}
    if not quick and None in there.values():
        keep(out, photo.sha256, pictured(photo).faces)
        there = {number: _there(out, photo.sha256, number) for number in numbers}
    return {number: found for number, found in there.items() if found is not None}


def tidy(out: Path) -> None:
    """Removes the pictures that no page of a report in the folder shows."""
    needed: set[str] = set()
    for page in out.glob("report*.html"):
        with contextlib.suppress(OSError):
            needed.update(_NAME.findall(page.read_text(encoding="utf-8", errors="replace")))
    with contextlib.suppress(OSError):  # what cannot be removed stays until the next report
        for path in (out / FOLDER).iterdir():
            if _NAME.fullmatch(path.name) and path.name not in needed:
                path.unlink()
        (out / FOLDER).rmdir()


def pictured(photo: PhotoResult) -> PhotoResult:
    """The photo with pictures of its faces, made of its two files if they are there."""
    if photo.output is None or all(face.skipped for face in photo.faces):
        return photo
    try:
        before, after = read_photo(photo.source).pixels, read_photo(photo.output).pixels
    except PhotoError:
        return photo
    if before.shape != after.shape:
        return photo
    faces = (
        face if face.skipped else face._replace(pictures=face_pictures(before, after, face.box))
        for face in photo.faces
    )
    return photo._replace(faces=tuple(faces))


def write_side_by_side(run: RunResult, out: Path) -> None:
    """Writes `side_by_side` of every protected face as out/tipim-pictures/PHOTO-faceN.png, in the tree of
    the photos; what is there is replaced.

    Raises:
      DiskFull, PhotoError: they cannot be written.
    """
    for photo in run.photos:
        for number, face in enumerate(pictured(photo).faces, 1):
            if face.pictures is not None and photo.output is not None:
                place = out / PICTURES / photo.output.relative_to(out)
                path = place.with_name(f"{place.name}-face{number}.png")
                write_atomically(path, _file(side_by_side(face.pictures), "PNG"), overwrite=True)


def side_by_side(pictures: Pictures) -> np.ndarray:
    """Before, after and mask in one picture [h,3w+gaps,3] uint8."""
    gap = np.full((len(pictures.before), 8, 3), 255, np.uint8)
    return np.concatenate([pictures.before, gap, pictures.after, gap, pictures.mask], axis=1)


def _paths(sha256: str, number: int) -> list[Path]:
    return [FOLDER / f"{sha256[:20]}-{number}-{which}.jpg" for which in Pictures._fields]


def _there(out: Path, sha256: str, number: int) -> Shown | None:
    """The pictures of a face if all are there."""
    before, after, mask = paths = _paths(sha256, number)
    if not all((out / path).is_file() for path in paths):
        return None
    with Image.open(out / before) as image:
        return Shown(before, after, mask, image.size)


def _file(pixels: np.ndarray, format: str) -> bytes:
    """The file of a picture [h,w,3] uint8."""
    options = {"quality": 92, "subsampling": 0} if format == "JPEG" else {}
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format, **options)
    return buffer.getvalue()
