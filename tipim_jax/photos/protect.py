"""The straight path: photo → faces → batches → masks → paste → save → read back and verify."""

import importlib.metadata
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tipim_jax import batching, metrics
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

Find = Callable[[np.ndarray], list[Face]]
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
      find: photo [H,W,3] uint8 -> its faces, the largest first (`faces.find` with a detector).
      engine: makes the masks.
      verifiers: recognisers that judge the saved files.
    """

    find: Find
    engine: Engine
    verifiers: Sequence[Verifier]


class Work(NamedTuple):
    """A photo on its way; `masks` fills up while its faces pass through batches.

    Attributes:
      photo: as read.
      faces: in the order found.
      masks: face -> (mask [160,160,3] in pixel levels, name of its target).
      digest: of the photo's pixels, for the random keys of its faces.
    """

    photo: Photo
    faces: list[Face]
    masks: dict[int, tuple[np.ndarray, str]]
    digest: int

    @property
    def wanted(self) -> list[int]:
        return [i for i, face in enumerate(self.faces) if not face.small]

    @property
    def ready(self) -> bool:
        """Whether every wanted face has its mask."""
        return len(self.masks) == len(self.wanted)

    @property
    def nothing(self) -> str:
        """Why there is nothing to protect; empty if there is."""
        if self.wanted:
            return ""
        reason = "every face is too small" if self.faces else "no face was found"
        return f"{reason}; nothing to protect"


class Attacked(NamedTuple):
    """Seconds the attack took for a batch, and its number of faces."""

    seconds: float
    faces: int


def start(find: Find, photo: Photo, *, largest_only: bool = False) -> Work:
    """A photo with its faces found and aligned."""
    faces = find(photo.pixels)
    pixels = np.ascontiguousarray(photo.pixels)
    return Work(photo, faces[:1] if largest_only else faces, {}, batching.digest(pixels))


def attack_batch(engine: Engine, batch: Sequence[tuple[Work, int]]) -> Attacked:
    """Makes the masks of up to `engine.capacity` faces, given as (photo, number of its face)."""
    faces = [work.faces[i] for work, i in batch]
    masks = engines.protect(
        engine,
        [face.canvas for face in faces],
        [face.scale for face in faces],
        [work.photo.colours for work, _ in batch],
        [batching.digest_key(engine.settings.seed, work.digest, i) for work, i in batch],
    )
    for (work, i), mask, target in zip(batch, masks.masks, masks.targets, strict=True):
        work.masks[i] = (mask, engine.target_names[int(target)])
    return Attacked(masks.seconds, len(batch))


def pasted(work: Work, epsilon: float) -> np.ndarray:
    """[H,W,3] uint8, the photo with the masks of its faces.

    Raises:
      ValueError: as `paste.paste`.
    """
    masks = [FaceMask(work.masks[i][0], work.faces[i].matrix) for i in work.wanted]
    return paste(work.photo.pixels, masks, epsilon)


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
    size = tools.engine.capacity
    waiting: deque[tuple[Job, Work] | PhotoResult] = deque()
    queue: deque[tuple[Work, int]] = deque()

    def finished(flush: bool) -> Iterator[PhotoResult]:
        while queue and (flush or len(queue) >= size):
            batch = [queue.popleft() for _ in range(min(size, len(queue)))]
            attacked(attack_batch(tools.engine, batch))
        while waiting:
            first = waiting[0]
            if not isinstance(first, PhotoResult):
                job, work = first
                if not work.ready:
                    return
                first = _finish(tools, job, work, out, saving, pictures)
            waiting.popleft()
            yield first

    for job in jobs:
        try:
            work = start(tools.find, read_photo(job.source), largest_only=largest_only)
            queue.extend((work, i) for i in work.wanted)
            waiting.append((job, work))
        except PhotoError as error:
            waiting.append(PhotoResult(job.source, error=str(error)))
        yield from finished(flush=False)
    yield from finished(flush=True)


def _finish(
    tools: Tools, job: Job, work: Work, out: Path, saving: Saving, pictures: bool
) -> PhotoResult:
    """Paste, save, read back, verify."""
    if work.nothing:
        return PhotoResult(job.source, faces=left_alone(work), error=work.nothing)
    path = out / job.output
    try:
        protected = pasted(work, tools.engine.settings.epsilon)
        notes = write_photo(work.photo, protected, path, **saving._asdict())
        faces, lost = examine(tools, work, read_photo(path), saving, pictures=pictures)
    except PhotoError as error:
        return PhotoResult(job.source, error=str(error))
    return PhotoResult(job.source, path, faces, notes=(*work.photo.notes, *notes, *lost))


def left_alone(work: Work) -> tuple[FaceResult, ...]:
    """The results of faces that are left as they are."""
    text = f"smaller than {find_faces.SMALLEST} pixels"
    return tuple(FaceResult(box=face.box, matches={}, skipped=text) for face in work.faces)


def examine(
    tools: Tools, work: Work, saved: Photo, saving: Saving, *, pictures: bool = False
) -> tuple[tuple[FaceResult, ...], tuple[str, ...]]:
    """The results of all faces, measured on the saved file as read back, and notes for the user.

    Raises:
      PhotoError: as `judge`.
    """
    before = work.photo.pixels
    judged = judge(tools, work.photo, saved, [work.faces[i] for i in work.wanted], saving)
    results, notes = list(left_alone(work)), []
    for i, matches, lost in zip(work.wanted, judged.matches, judged.lost, strict=True):
        box = work.faces[i].box
        psnr, ssim = _quality(before, saved.pixels, box)
        results[i] = FaceResult(
            box=box,
            matches=matches,
            psnr=psnr,
            ssim=ssim,
            target=work.masks[i][1],
            pictures=face_pictures(before, saved.pixels, box) if pictures else None,
        )
        if lost:
            notes.append(f"face {i + 1} is no longer detected; judged where it was before")
    return tuple(results), tuple(notes)


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
    plain, _ = _found_again(tools.find, decode(data).pixels, faces)
    after, lost = _found_again(tools.find, saved.pixels, faces)
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
    find: Find, pixels: np.ndarray, faces: Sequence[Face]
) -> tuple[list[Face], list[bool]]:
    found = find(pixels)
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
