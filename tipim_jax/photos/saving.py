"""Photos from files to files: the stream of `protect`, with reading before it and saving after it."""

import traceback
from collections.abc import Callable, Collection, Iterator, Sequence
from functools import partial
from pathlib import Path

from tipim_jax.errors import UserError
from tipim_jax.photos.faces import Find
from tipim_jax.photos.files import DiskFull, digest, read_photo, write_atomically
from tipim_jax.photos.finish import Encoding, measure
from tipim_jax.photos.folders import Job
from tipim_jax.photos.journal import Journal, Stamp, stamp
from tipim_jax.photos.pending import choose_all, choose_largest, detect
from tipim_jax.photos.photo import Photo, PhotoError
from tipim_jax.photos.pictures import keep
from tipim_jax.photos.protect import Models, Outcome, Progress, protect_stream
from tipim_jax.photos.results import PhotoResult
from tipim_jax.photos.verify import Verifier


def protect_photos(
    models: Models,
    jobs: Sequence[Job],
    out: Path,
    encoding: Encoding = Encoding(),
    *,
    journal: Journal | None = None,
    overwrite: bool = False,
    replaced: Collection[Path] = (),
    largest_only: bool = False,
    pictures: bool = True,
    asked: int | None = None,
    told: Callable[[Progress], None] = lambda _: None,
) -> Iterator[PhotoResult]:
    """Protects photos of files; a photo that cannot be done becomes a result with an error.

    Args:
      models, encoding, told: as for `protect.protect_stream`.
      jobs: what to read and where to write below `out`.
      out: the output folder.
      largest_only: protect the largest face of each photo only.
      journal: where every photo that is done is noted, before its file gets its name.
      overwrite: replace files that exist.
      replaced: output names whose files may be replaced in any case.
      pictures: write pictures of the faces for a report (`pictures.keep`).
      asked: how many photos were asked for, those done earlier among them; the jobs by default.

    Yields:
      A result per job, as they are finished, in order.

    Raises:
      DiskFull: there is no room for another photo; those before it are saved.
    """
    stamps: dict[Job, Stamp] = {}

    def read(job: Job) -> Photo:
        photo = read_photo(job.source)
        if journal is not None:
            stamps[job] = stamp(job.source)
        return photo

    done = protect_stream(
        models,
        [(job, partial(read, job)) for job in jobs],
        encoding,
        choose=lambda _: choose_largest if largest_only else choose_all,
        pictures=pictures,
        asked=len(jobs) if asked is None else asked,
        told=told,
    )
    for outcome in done:
        job = outcome.key
        result = _result(outcome, out)
        try:
            if journal is not None and not result.error:
                journal.add(job, stamps.pop(job), result)
            if outcome.finished is not None and result.output is not None:
                keep(out, result.sha256, result.faces)
                may_replace = overwrite or job.output in replaced
                write_atomically(result.output, outcome.finished.data, overwrite=may_replace)
        except DiskFull:
            raise
        except PhotoError as error:
            result = failed(job.source, error)
        yield result._replace(faces=tuple(f._replace(pictures=None) for f in result.faces))


def judge_again(
    job: Job,
    done: PhotoResult,
    encoding: Encoding,
    find: Find,
    judges: Sequence[Verifier],
    *,
    largest_only: bool = False,
) -> PhotoResult:
    """Measures a photo that is done once more, by other recognisers, on the file as it lies there.

    Args:
      job: of the photo.
      done: its result, with a file.
      encoding, find, judges, largest_only: as when it was made.

    Raises:
      PhotoError: the photo or its file cannot be read.
    """
    assert done.output is not None
    choose = choose_largest if largest_only else choose_all
    pending = detect(find, read_photo(job.source), choose)
    saved = read_photo(done.output).pixels
    # What was to be saved is not known any more; the original stands for it, and is encoded once more.
    faces, _ = measure(pending, pending.photo.pixels, saved, encoding, find, judges)
    return done.judged_again(faces)


def failed(source: Path, error: Exception) -> PhotoResult:
    """The result of a photo that met an error: a sentence of ours, or a fault of the program."""
    if isinstance(error, UserError):
        return PhotoResult(source, error=str(error))
    return PhotoResult(
        source,
        error=f"the program failed on it ({type(error).__name__}: {error})",
        fault="".join(traceback.format_exception(error)),
    )


def _result(outcome: Outcome[Job], out: Path) -> PhotoResult:
    job, done = outcome.key, outcome.finished
    if outcome.error is not None:
        return failed(job.source, outcome.error)
    if done is None:
        return PhotoResult(job.source, faces=outcome.faces, faceless=outcome.faceless)
    notes = (job.note, *done.notes) if job.note else done.notes
    return PhotoResult(
        job.source,
        out / job.output,
        done.faces,
        notes=notes,
        change=done.change,
        sha256=digest(done.data),
    )
