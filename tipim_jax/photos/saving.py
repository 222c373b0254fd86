"""Photos from files to files: the stream of `protect`, with reading before it and saving after it."""

import traceback
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

from tipim_jax.errors import UserError
from tipim_jax.photos.files import DiskFull, read_photo, write_atomically
from tipim_jax.photos.finish import Encoding
from tipim_jax.photos.folders import Job
from tipim_jax.photos.pending import choose_all, choose_largest
from tipim_jax.photos.photo import PhotoError
from tipim_jax.photos.protect import Models, Outcome, Progress, protect_stream
from tipim_jax.photos.results import PhotoResult


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
    told: Callable[[Progress], None] = lambda _: None,
) -> Iterator[PhotoResult]:
    """Protects photos of files; a photo that cannot be done becomes a result with an error.

    Args:
      models, encoding, pictures, told: as for `protect.protect_stream`.
      jobs: what to read and where to write below `out`.
      out: the output folder.
      largest_only: protect the largest face of each photo only.
      overwrite: replace files that exist.
      asked: how many photos were asked for, those done earlier among them; the jobs by default.

    Yields:
      A result per job, as they are finished, in order.

    Raises:
      DiskFull: there is no room for another photo; those before it are saved.
    """
    done = protect_stream(
        models,
        [(job, partial(read_photo, job.source)) for job in jobs],
        encoding,
        choose=lambda _: choose_largest if largest_only else choose_all,
        pictures=pictures,
        asked=len(jobs) if asked is None else asked,
        told=told,
    )
    for outcome in done:
        yield _saved(outcome, out, overwrite)


def _saved(outcome: Outcome[Job], out: Path, overwrite: bool) -> PhotoResult:
    job, done = outcome.key, outcome.finished
    if outcome.error is not None:
        return failed(job.source, outcome.error)
    if done is None:
        return PhotoResult(job.source, faces=outcome.faces, faceless=outcome.faceless)
    path = out / job.output
    try:
        write_atomically(path, done.data, overwrite=overwrite)
    except DiskFull:
        raise
    except PhotoError as error:
        return failed(job.source, error)
    notes = (job.note, *done.notes) if job.note else done.notes
    return PhotoResult(job.source, path, done.faces, notes=notes)


def failed(source: Path, error: Exception) -> PhotoResult:
    """The result of a photo that met an error: a sentence of ours, or a fault of the program."""
    if isinstance(error, UserError):
        return PhotoResult(source, error=str(error))
    return PhotoResult(
        source,
        error=f"the program failed on it ({type(error).__name__}: {error})",
        fault="".join(traceback.format_exception(error)),
    )
