"""From a photo and its masks to the file and its proof: paste, encode, read back, judge."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from tipim_jax.analysis import metrics
from tipim_jax.photos.decode import decode
from tipim_jax.photos.encode import encode
from tipim_jax.photos.faces import SMALLEST, Face, Find, align, same_place
from tipim_jax.photos.paste import paste
from tipim_jax.photos.pending import PendingPhoto
from tipim_jax.photos.pictures import face_pictures
from tipim_jax.photos.results import FaceResult, Match
from tipim_jax.photos.targets import Targets, shown_by
from tipim_jax.photos.verify import Verifier, embeddings


class Encoding(NamedTuple):
    """How protected photos are encoded (`files.encode`)."""

    format: str | None = None
    quality: int = 95
    keep_metadata: bool = False


class Finished(NamedTuple):
    """A protected photo, to be written as it is.

    Attributes:
      data: the file.
      pixels: [H,W,3] uint8, what the file shows when it is read again.
      change: the largest of any sample of a pixel of the photo, pixel levels; the encoder's share included.
      faces: what was measured on it, in the order found.
      notes: what else the user should know, one sentence each.
    """

    data: bytes
    pixels: np.ndarray
    change: int
    faces: tuple[FaceResult, ...]
    notes: tuple[str, ...]


def finish(
    pending: PendingPhoto,
    epsilon: float,
    encoding: Encoding,
    find: Find,
    judges: Sequence[Verifier],
    *,
    pictures: bool = False,
    targets: Targets | None = None,
) -> Finished:
    """Protects a photo whose faces have their masks, and measures what became of it in its file.

    Args:
      pending: with all its masks.
      epsilon: cap on the change of any pixel before encoding, pixel levels.
      encoding: of the file.
      find: detects the faces of the file once it is decoded again.
      judges: recognisers that say whom they take them for.
      pictures: put pictures of the faces in the results.
      targets: whom no face of the photo should be; notes say which is, to the judges.

    Raises:
      PhotoError: the format cannot hold the photo.
      ValueError: as `paste.paste`.
    """
    protected = apply_masks(pending, epsilon)
    data, notes = encode(pending.photo, protected, **encoding._asdict())
    saved = decode(data).pixels
    faces, told = measure(pending, protected, saved, encoding, find, judges, pictures=pictures)
    if targets is not None:
        large = {i + 1: pending.faces[i] for i in pending.to_protect}
        told = (*told, *shown_by(targets, large, judges))
    change = _change(pending.photo.pixels, saved)
    return Finished(data, saved, change, faces, (*pending.photo.notes, *notes, *told))


def apply_masks(pending: PendingPhoto, epsilon: float) -> np.ndarray:
    """[H,W,3] uint8, the photo with the masks of its faces (`paste.paste`)."""
    masks = [pending.masks[i] for i in pending.to_protect]
    return paste(pending.photo.pixels, masks, epsilon)


def left_alone(pending: PendingPhoto) -> tuple[FaceResult, ...]:
    """The results of faces that get no mask."""
    small = f"smaller than {SMALLEST} pixels"
    return tuple(
        FaceResult(box=face.box, matches={}, skipped=small if i in pending.chosen else "not chosen")
        for i, face in enumerate(pending.faces)
    )


def measure(
    pending: PendingPhoto,
    protected: np.ndarray,
    saved: np.ndarray,
    encoding: Encoding,
    find: Find,
    judges: Sequence[Verifier],
    *,
    pictures: bool = False,
) -> tuple[tuple[FaceResult, ...], tuple[str, ...]]:
    """Measures all faces in the saved file, and says what else the user should know.

    "Before" compares the original with itself encoded in the same way, detection and all, so that the
    encoder's and the alignment's share is told apart from the mask's. Where the file holds the very pixels that
    were to be saved, nothing was lost, and the original is neither encoded nor looked at again: such a photo
    is looked at twice in all, before and after, and others three times.

    Args:
      pending: with all its masks.
      protected: [H,W,3] uint8, what was to be saved.
      saved: [H,W,3] uint8, what the file gives back.
      encoding, find, judges, pictures: as for `finish`.

    Returns:
      The results in the order of the faces, and notes.

    Raises:
      PhotoError: the original cannot be encoded in this way.
    """
    before = pending.photo.pixels
    numbers = pending.to_protect
    faces = [pending.faces[i] for i in numbers]
    unmasked = faces if np.array_equal(saved, protected) else _encoded(pending, encoding, find)
    found = find(saved)
    compared = compare(before, saved, faces, unmasked, found, judges, pictures=pictures)

    results, notes = list(left_alone(pending)), []
    for i, face, result in zip(numbers, faces, compared, strict=True):
        results[i] = result._replace(target=pending.targets.get(i, ""))
        if same_place(found, face.landmarks) is None:
            notes.append(f"face {i + 1} is no longer detected; judged where it was before")
    return tuple(results), tuple(notes)


def compare(
    before: np.ndarray,
    saved: np.ndarray,
    faces: Sequence[Face],
    unmasked: Sequence[Face],
    found: list[Face],
    judges: Sequence[Verifier],
    *,
    pictures: bool = False,
) -> list[FaceResult]:
    """Measures faces of a picture in what was saved of it.

    Args:
      before, saved: [H,W,3] uint8, the picture and what the file shows.
      faces: of `before`.
      unmasked: the same people without a mask, as judges see them.
      found: the faces of `saved`; one that is not found again is judged where it was.
      judges: recognisers.
      pictures: put pictures of the faces in the results.
    """
    matches = _matches(judges, faces, unmasked, _aligned(saved, faces, found))
    results = []
    for face, match in zip(faces, matches, strict=True):
        region = _region(before.shape, face.box)
        a, b = before[region], saved[region]
        results.append(
            FaceResult(
                box=face.box,
                matches=match,
                psnr=metrics.psnr(a, b),
                ssim=metrics.ssim(a, b),
                change=_change(a, b),
                pictures=face_pictures(before, saved, face.box) if pictures else None,
            )
        )
    return results


def _encoded(pending: PendingPhoto, encoding: Encoding, find: Find) -> Sequence[Face]:
    """The faces that get a mask as the original shows them once it is encoded."""
    before = pending.photo.pixels
    faces = [pending.faces[i] for i in pending.to_protect]
    data, _ = encode(pending.photo, before, **encoding._asdict())
    plain = decode(data).pixels
    return faces if np.array_equal(plain, before) else _aligned(plain, faces, find(plain))


def _aligned(pixels: np.ndarray, faces: Sequence[Face], found: list[Face]) -> list[Face]:
    """The faces as detected anew, and where they were before if they are not."""
    again = [same_place(found, face.landmarks) for face in faces]
    return [
        align(pixels, face.landmarks, face.box) if new is None else new
        for face, new in zip(faces, again, strict=True)
    ]


def _matches(
    judges: Sequence[Verifier],
    original: Sequence[Face],
    before: Sequence[Face],
    after: Sequence[Face],
) -> list[dict[str, Match]]:
    """What every recogniser says of every face."""
    matches: list[dict[str, Match]] = [{} for _ in original]
    for judge in judges:
        # all at once: embeddings are computed in batches of a fixed size
        embedded = embeddings(judge, [*original, *before, *after]).reshape(3, len(original), -1)
        for match, face, b, a in zip(matches, *embedded, strict=True):
            match[judge.name] = Match(float(face @ b), float(face @ a), judge.threshold)
    return matches


def _change(before: np.ndarray, after: np.ndarray) -> int:
    """The largest difference of two arrays of the same shape, uint8."""
    return int((np.maximum(before, after) - np.minimum(before, after)).max())


def _region(shape: tuple[int, ...], box: tuple[float, ...]) -> tuple[slice, slice]:
    """The rows and columns of a face in a photo of `shape`."""
    left, top, width, height = box
    return _inside(top, top + height, shape[0]), _inside(left, left + width, shape[1])


def _inside(low: float, high: float, length: int) -> slice:
    """The part of low…high within the photo, and never too little of it for a measurement (SSIM)."""
    start = min(max(0, int(low)), max(0, length - 7))
    return slice(start, max(int(high) + 1, start + 7))
