"""Clips from files to files: followed, masked, written and proved, one after the other."""

import contextlib
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tipim_jax.photos.faces import Face
from tipim_jax.photos.files import DiskFull, digest, move_into_place, part_of, readable, unwritten
from tipim_jax.photos.finish import Encoding
from tipim_jax.photos.folders import Job
from tipim_jax.photos.formats import is_film
from tipim_jax.photos.journal import Journal, stamp
from tipim_jax.photos.paste import paste
from tipim_jax.photos.photo import PhotoError
from tipim_jax.photos.pictures import keep
from tipim_jax.photos.protect import Models
from tipim_jax.photos.results import PhotoResult
from tipim_jax.photos.saving import failed
from tipim_jax.photos.verify import Verifier, embeddings
from tipim_jax.video import animations, masks, proof
from tipim_jax.video.clip import Clip, Told
from tipim_jax.video.tracks import Same, Track, track


class Progress(NamedTuple):
    """How far a clip is.

    Attributes:
      job: of the clip.
      doing: what is done, in a few words.
      frames: that are passed.
      of: about how many there are; 0 if nobody knows.
      seconds: that making masks took so far, those of all clips.
    """

    job: Job
    doing: str
    frames: int
    of: int
    seconds: float


def protect_clips(
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
    told: Callable[[Progress], None] = lambda _: None,
) -> Iterator[PhotoResult]:
    """Protects clips of files; a clip that cannot be done becomes a result with an error.

    Args:
      models, encoding, pictures: as for `protect.protect_stream`. Clips keep their format.
      jobs, out, journal, overwrite, replaced: as for `saving.protect_photos`.
      largest_only: protect the one face of each clip that covers most of it.
      told: called with how far a clip is.

    Yields:
      A result per job, in order.

    Raises:
      DiskFull: there is no room for another clip; those before it are saved.
    """
    seconds = 0.0
    for job in jobs:
        tell = _telling(told, job, seconds)
        path = out / job.output
        try:
            if path.exists() and not (overwrite or job.output in replaced):
                raise PhotoError(
                    f"{path} exists already; choose another output folder or overwrite it"
                )
            clip, seen = read(job, job.source), stamp(job.source)
            with _part(path) as part:
                result, taken = _protected(
                    models, job, clip, part, encoding, largest_only, pictures, tell
                )
                seconds += taken
                if result.output is not None:
                    result = result._replace(output=path, sha256=digest(part))
                if journal is not None:
                    journal.add(job, seen, result)
                if result.output is not None:
                    keep(out, result.sha256, result.faces)
                    move_into_place(part, path)
        except DiskFull:
            raise
        except Exception as error:
            result = failed(job.source, error)
        yield result._replace(faces=tuple(f._replace(pictures=None) for f in result.faces))


def judge_again(
    job: Job,
    done: PhotoResult,
    find: Callable[[np.ndarray], list[Face]],
    judges: Sequence[Verifier],
    surrogates: Collection[str],
    *,
    largest_only: bool = False,
) -> PhotoResult:
    """Measures a clip that is done once more, by other recognisers, on the file as it lies there.

    Args:
      job: of the clip.
      done: its result, with a file.
      find, judges, surrogates, largest_only: as when it was made.

    Raises:
      PhotoError: the clip or its file cannot be read.
    """
    assert done.output is not None
    clip, saved = read(job, job.source), read(job, done.output)
    tracks = _tracks(clip, find, judges, surrogates, lambda *_: None)
    chosen = 1 if largest_only else len(tracks)
    faces, _ = proof.prove(find, judges, clip, saved, tracks, chosen, told=lambda *_: None)
    return done.judged_again(faces)


def read(job: Job, path: Path) -> Clip:
    """Opens the clip of a job, or what was written of it.

    Raises:
      PhotoError: it cannot be read.
    """
    with readable(path):
        path.open("rb").close()
        if not is_film(job.source):
            return animations.read(path)
    try:
        from tipim_jax.video import films
    except ModuleNotFoundError as error:
        if error.name != "av":
            raise
        raise PhotoError('needs `pip install "tipim-jax[video]"`') from None
    return films.read(path, job.source.suffix)


def _protected(
    models: Models,
    job: Job,
    clip: Clip,
    part: Path,
    encoding: Encoding,
    largest_only: bool,
    pictures: bool,
    tell: Told,
) -> tuple[PhotoResult, float]:
    """The result of a clip that was written to `part`, if its output is set, and the seconds its masks took."""
    tracks = _tracks(clip, models.find, models.judges, models.engine.surrogates, tell)
    chosen = 1 if largest_only else len(tracks)
    made = masks.make(models, clip, [one for one in tracks[:chosen] if not one.small], tell)
    if not made.carried:
        reason = "every face is too small" if tracks else "no face was found"
        return PhotoResult(job.source, faceless=f"{reason}; nothing to protect"), made.seconds

    def paint(number: int, pixels: np.ndarray) -> np.ndarray:
        tell("writing", number + 1, clip.length, made.seconds)
        here = [one for one in made.carried if number in one.track.frames]
        worn = [mask for one in here for mask in one.worn(number, pixels)]
        return paste(pixels, worn, models.engine.settings.epsilon)

    notes = clip.write(part, paint, encoding)
    faces, change = proof.prove(
        models.find,
        models.judges,
        clip,
        read(job, part),
        tracks,
        chosen,
        pictures=pictures,
        told=lambda *far: tell(*far, made.seconds),
    )
    targets = {id(one.track): one.target for one in made.carried}
    faces = tuple(
        face._replace(target=targets.get(id(one), ""))
        for one, face in zip(tracks, faces, strict=True)
    )
    notes = (job.note, *notes) if job.note else notes
    return PhotoResult(job.source, part, faces, notes=notes, change=change), made.seconds


def _tracks(
    clip: Clip,
    find: Callable[[np.ndarray], list[Face]],
    judges: Sequence[Verifier],
    surrogates: Collection[str],
    tell: Told,
) -> list[Track]:
    asked = [judge for judge in judges if judge.name in surrogates]

    def looked_at(number: int) -> None:
        tell("finding faces", number, clip.length)

    return track((frame.pixels for frame in clip.frames()), find, _same(asked), looked_at)


def _same(judges: Sequence[Verifier]) -> Same:
    """Whether more than half of the judges take two faces for one person's; never without judges."""

    def same(a: Face, b: Face) -> bool:
        pairs = [(judge, embeddings(judge, [a, b])) for judge in judges]
        votes = sum(float(x @ y) > judge.threshold for judge, (x, y) in pairs)
        return 2 * votes > len(judges)

    return same


def _telling(told: Callable[[Progress], None], job: Job, before: float) -> Told:
    """Tells of one clip, after so many seconds that masks of others took."""

    def tell(doing: str, frames: int, of: int, seconds: float = 0.0) -> None:
        told(Progress(job, doing, frames, of, before + seconds))

    return tell


@contextlib.contextmanager
def _part(path: Path) -> Iterator[Path]:
    """Where a file is written before it gets its name; nothing is left of it otherwise."""
    part = part_of(path)
    try:
        part.parent.mkdir(parents=True, exist_ok=True)
        yield part
    except OSError as error:
        raise unwritten(path, error) from error
    finally:
        part.unlink(missing_ok=True)
