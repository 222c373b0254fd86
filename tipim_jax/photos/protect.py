"""The straight path: photo → faces → batches → masks → file → proof, for many photos in a stream."""

import importlib.metadata
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from tipim_jax.photos.compilation import Program
from tipim_jax.photos.engine import Engine
from tipim_jax.photos.faces import Find
from tipim_jax.photos.files import read_photo, write_atomically
from tipim_jax.photos.finish import Encoding, finish, left_alone
from tipim_jax.photos.folders import Job
from tipim_jax.photos.pending import Attacked, PendingPhoto, detect, make_masks
from tipim_jax.photos.photo import PhotoError
from tipim_jax.photos.results import PhotoResult
from tipim_jax.photos.targets import Targets
from tipim_jax.photos.verify import Verifier

PACKAGES = ("tipim-jax", "jax", "jaxlib", "flax", "optax", "numpy", "pillow")


class Models(NamedTuple):
    """The networks that the path needs, loaded once.

    Attributes:
      find: photo [H,W,3] uint8 -> its faces, the largest first (`faces.find` with a detector).
      engine: makes the masks.
      judges: recognisers that judge the saved files.
      targets: those of the user, if a photo of one of them should be told.
    """

    find: Find
    engine: Engine
    judges: Sequence[Verifier]
    targets: Targets | None = None


def protect_photos(
    models: Models,
    jobs: Sequence[Job],
    out: Path,
    encoding: Encoding = Encoding(),
    *,
    overwrite: bool = False,
    largest_only: bool = False,
    pictures: bool = True,
    asked: int | None = None,
    attacked: Callable[[Attacked], None] = lambda _: None,
) -> Iterator[PhotoResult]:
    """Protects photos, faces of different photos together in full batches.

    A photo that cannot be done becomes a `PhotoResult` with an error; the others go on. Every face
    draws from a key of its photo's pixels and the seed, so its mask does not depend on its neighbours
    (unless γ > 0, which ties a batch together). The faces of very few photos are attacked one by one
    (`Engine.alone`).

    Args:
      models: see `Models`.
      jobs: what to read and where to write below `out`.
      out: the output folder.
      encoding: of the files.
      overwrite: replace files that exist.
      largest_only: protect the largest face of each photo only.
      pictures: put pictures of the faces in the results.
      asked: how many photos were asked for, those done earlier among them; the jobs by default.
      attacked: called after every batch.

    Yields:
      A result per job, as they are finished, in order.
    """
    engine, photos = models.engine, len(jobs) if asked is None else asked
    waiting: deque[tuple[Job, PendingPhoto] | PhotoResult] = deque()
    queue: deque[tuple[PendingPhoto, int]] = deque()

    def attack(program: Program, faces: deque[tuple[PendingPhoto, int]]) -> None:
        batch = [faces.popleft() for _ in range(min(program.faces, len(faces)))]
        attacked(make_masks(engine, program, batch))

    def finished(flush: bool) -> Iterator[PhotoResult]:
        while queue and (flush or len(queue) >= engine.capacity):
            attack(engine.full(), queue)
        while waiting:
            first = waiting[0]
            if not isinstance(first, PhotoResult):
                job, pending = first
                if not pending.masked:
                    return
                first = save(job, pending)
            waiting.popleft()
            yield first

    def save(job: Job, pending: PendingPhoto) -> PhotoResult:
        if pending.faceless:
            return PhotoResult(job.source, faces=left_alone(pending), error=pending.faceless)
        path = out / job.output
        try:
            done = finish(
                pending,
                models.engine.settings.epsilon,
                encoding,
                models.find,
                models.judges,
                pictures=pictures,
                targets=models.targets,
            )
            write_atomically(path, done.data, overwrite=overwrite)
        except PhotoError as error:
            return PhotoResult(job.source, error=str(error))
        notes = (job.note, *done.notes) if job.note else done.notes
        return PhotoResult(job.source, path, done.faces, notes=notes)

    for job in jobs:
        try:
            pending = detect(models.find, read_photo(job.source), largest_only=largest_only)
            faces = deque((pending, i) for i in pending.large_enough)
            if engine.alone(len(faces), photos):
                while faces:
                    attack(engine.single(), faces)
            queue.extend(faces)
            waiting.append((job, pending))
        except PhotoError as error:
            waiting.append(PhotoResult(job.source, error=str(error)))
        yield from finished(flush=False)
    yield from finished(flush=True)


def versions() -> dict[str, str]:
    """The versions of the packages that decide the bytes."""
    return {name: importlib.metadata.version(name) for name in PACKAGES}
