"""The straight path: photo → faces → batches → masks → paste → save → read back and verify."""

import importlib.metadata
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from tipim_jax import metrics
from tipim_jax.batching import content_key
from tipim_jax.photos import engine as engines
from tipim_jax.photos import faces as find_faces
from tipim_jax.photos.engine import Engine
from tipim_jax.photos.faces import Face
from tipim_jax.photos.files import Photo, PhotoError, decode, encode, read_photo, write_photo
from tipim_jax.photos.folders import Job
from tipim_jax.photos.paste import FaceMask, paste
from tipim_jax.photos.report import face_pictures
from tipim_jax.photos.results import FaceResult, Match, PhotoResult
from tipim_jax.photos.verify import Verifier, embeddings

PACKAGES = ("tipim-jax", "jax", "jaxlib", "flax", "optax", "numpy", "pillow")


class Saving(NamedTuple):
    """How protected photos are written (`files.write_photo`)."""

    format: str | None = None
    quality: int = 95
    keep_metadata: bool = False
    overwrite: bool = False


class Tools(NamedTuple):
    """What the path needs, loaded once.

    Attributes:
      detector: parameters of `ports.yunet`.
      engine: makes the masks.
      verifiers: recognisers that judge the saved files.
    """

    detector: Any
    engine: Engine
    verifiers: Sequence[Verifier]


class _Work(NamedTuple):
    """A photo on its way; `masks` fills up while its faces pass through batches."""

    job: Job
    photo: Photo
    faces: list[Face]
    masks: dict[int, tuple[np.ndarray, str]]  # face -> (mask, name of its target)

    @property
    def wanted(self) -> list[int]:
        return [i for i, face in enumerate(self.faces) if not face.small]


class Attacked(NamedTuple):
    """Seconds the attack took for a batch, and its number of faces."""

    seconds: float
    faces: int


def protect_photos(
    tools: Tools,
    jobs: Sequence[Job],
    out: Path,
    saving: Saving = Saving(),
    *,
    largest_only: bool = False,
    pictures: bool = True,
    attacked: Callable[[Attacked], None] = lambda _: None,
) -> Iterator[PhotoResult]:
    """Protects photos, faces of different photos together in full batches.

    A photo that cannot be done becomes a `PhotoResult` with an error; the others go on. Every face
    draws from a key of its photo's pixels and the seed, so its mask does not depend on its neighbours
    (unless γ > 0, which ties a batch together).

    Args:
      tools: see `Tools`.
      jobs: what to read and where to write below `out`.
      out: the output folder.
      saving: how to write.
      largest_only: protect the largest face of each photo only.
      pictures: put pictures of the faces in the results.
      attacked: called after every batch.

    Yields:
      A result per job, as they are finished, in order.
    """
    size = tools.engine.settings.batch_size
    waiting: deque[_Work | PhotoResult] = deque()
    queue: deque[tuple[_Work, int]] = deque()

    def run_batch() -> None:
        batch = [queue.popleft() for _ in range(min(size, len(queue)))]
        keys = [_key(tools, work, i) for work, i in batch]
        batch_faces = [work.faces[i] for work, i in batch]
        masks = engines.protect(
            tools.engine,
            [face.canvas for face in batch_faces],
            [face.scale for face in batch_faces],
            keys,
        )
        for (work, i), mask, target in zip(batch, masks.masks, masks.targets, strict=True):
            work.masks[i] = (mask, tools.engine.target_names[int(target)])
        attacked(Attacked(masks.seconds, len(batch)))

    def finished(flush: bool) -> Iterator[PhotoResult]:
        while queue and (flush or len(queue) >= size):
            run_batch()
        while waiting:
            work = waiting[0]
            if isinstance(work, _Work):
                if len(work.masks) < len(work.wanted):
                    return
                work = _finish(tools, work, out, saving, pictures)
            waiting.popleft()
            yield work

    for job in jobs:
        try:
            photo = read_photo(job.source)
            faces = find_faces.find(tools.detector, photo.pixels)
            work = _Work(job, photo, faces[:1] if largest_only else faces, {})
            queue.extend((work, i) for i in work.wanted)
            waiting.append(work)
        except PhotoError as error:
            waiting.append(PhotoResult(job.source, error=str(error)))
        yield from finished(flush=False)
    yield from finished(flush=True)


def _key(tools: Tools, work: _Work, face: int) -> jax.Array:
    return content_key(tools.engine.settings.seed, work.photo.pixels.tobytes(), face)


def _finish(tools: Tools, work: _Work, out: Path, saving: Saving, pictures: bool) -> PhotoResult:
    """Paste, save, read back, verify."""
    job, photo = work.job, work.photo
    if not work.wanted:
        reason = "no face was found" if not work.faces else "every face is too small"
        return PhotoResult(
            job.source, faces=_left_alone(work), error=f"{reason}; nothing to protect"
        )
    masks = [FaceMask(work.masks[i][0], work.faces[i].matrix) for i in work.wanted]
    protected = paste(photo.pixels, masks, tools.engine.settings.epsilon)
    path = out / job.output
    try:
        notes = write_photo(photo, protected, path, **saving._asdict())
        saved = read_photo(path)
        judged = judge(tools, photo, saved, [work.faces[i] for i in work.wanted], saving)
    except PhotoError as error:
        return PhotoResult(job.source, error=str(error))
    results = list(_left_alone(work))
    for i, matches, lost in zip(work.wanted, judged.matches, judged.lost, strict=True):
        face = work.faces[i]
        psnr, ssim = _quality(photo.pixels, saved.pixels, face.box)
        results[i] = FaceResult(
            box=face.box,
            matches=matches,
            psnr=psnr,
            ssim=ssim,
            target=work.masks[i][1],
            pictures=face_pictures(photo.pixels, saved.pixels, face.box) if pictures else None,
        )
        if lost:
            notes = (*notes, f"face {i + 1} is no longer detected; judged where it was before")
    return PhotoResult(job.source, path, tuple(results), notes=(*photo.notes, *notes))


def _left_alone(work: _Work) -> tuple[FaceResult, ...]:
    text = f"smaller than {find_faces.SMALLEST} pixels"
    return tuple(FaceResult(box=face.box, matches={}, skipped=text) for face in work.faces)


class Judged(NamedTuple):
    """matches: per face, recogniser -> `Match`; lost: per face, whether it was not detected anew."""

    matches: list[dict[str, Match]]
    lost: list[bool]


def judge(
    tools: Tools, original: Photo, saved: Photo, faces: Sequence[Face], saving: Saving
) -> Judged:
    """What every recogniser says of the saved file's faces, found and aligned anew.

    "Before" compares the original with itself encoded in the same way, detection and all, so that the
    encoder's and the alignment's share is told apart from the mask's.

    Raises:
      PhotoError: the original cannot be encoded in this way.
    """
    data, _ = encode(original, original.pixels, **_encoding(saving))
    plain, _ = _found_again(tools.detector, decode(data).pixels, faces)
    after, lost = _found_again(tools.detector, saved.pixels, faces)
    matches: list[dict[str, Match]] = [{} for _ in faces]
    for verifier in tools.verifiers:
        # all at once: embeddings are computed in batches of a fixed size
        embedded = embeddings(verifier, [*faces, *plain, *after]).reshape(3, len(faces), -1)
        for match, original_face, b, a in zip(matches, *embedded, strict=True):
            before, now = float(original_face @ b), float(original_face @ a)
            match[verifier.name] = Match(before, now, verifier.threshold)
    return Judged(matches, lost)


def _encoding(saving: Saving) -> dict[str, Any]:
    return {"format": saving.format, "quality": saving.quality}


def _found_again(
    detector: Any, pixels: np.ndarray, faces: Sequence[Face]
) -> tuple[list[Face], list[bool]]:
    found = find_faces.find(detector, pixels)
    again = [find_faces.same_place(found, face.landmarks) for face in faces]
    lost = [face is None for face in again]
    return [
        find_faces.align(pixels, face.landmarks, face.box) if new is None else new
        for face, new in zip(faces, again, strict=True)
    ], lost


def _quality(before: np.ndarray, after: np.ndarray, box: tuple[float, ...]) -> tuple[float, float]:
    left, top, width, height = box
    rows = _inside(top, top + height, before.shape[0])
    columns = _inside(left, left + width, before.shape[1])
    a, b = before[rows, columns], after[rows, columns]
    return metrics.psnr(a, b), metrics.ssim(a, b)


def _inside(low: float, high: float, length: int) -> slice:
    """The part of low…high within the photo, and never too little of it for a measurement (SSIM)."""
    start = min(max(0, int(low)), max(0, length - 7))
    return slice(start, max(int(high) + 1, start + 7))


def versions() -> dict[str, str]:
    """The versions of the packages that decide the bytes."""
    return {name: importlib.metadata.version(name) for name in PACKAGES}
