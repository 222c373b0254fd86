"""Who is found in a gallery: the people that recognisers take the faces of a photo for, before and after."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tipim_jax.errors import UserError
from tipim_jax.photos.faces import (
    SMALLEST,
    Face,
    Find,
    Located,
    align,
    finder,
    located,
    same_place,
)
from tipim_jax.photos.gallery import Gallery, read_gallery, similarity
from tipim_jax.photos.memory import Picture, name_of, photo_of
from tipim_jax.photos.verify import Verifier, closeness, ready

DEPTH = 5  # the candidates that a search shows
_DISTORTION = 0.02  # of the sides' ratio, beyond which a photo was not made of an original


class Candidate(NamedTuple):
    """A person of a gallery as one recogniser ranks them for a face.

    Attributes:
      name: who.
      rank: 1 for the nearest person; people count once, by the nearest of their photos.
      cosine: of that photo.
    """

    name: str
    rank: int
    cosine: float


class Search(NamedTuple):
    """What one recogniser finds for one face.

    Attributes:
      nearest: the five nearest people, fewer in a small gallery.
      person: whom the face shows, at whatever rank; None if that is not known.
      threshold: the cosine above which the recogniser says "same person".
    """

    nearest: tuple[Candidate, ...]
    person: Candidate | None
    threshold: float

    def hit(self, anyone: bool = False) -> Candidate | None:
        """The person (or, if `anyone` will do, the nearest one), if within the five and above the threshold."""
        one = self.nearest[0] if anyone and self.nearest else self.person
        return one if one and one.rank <= DEPTH and one.cosine > self.threshold else None


class FaceSearch(NamedTuple):
    """One face looked up in a gallery.

    Attributes:
      face: where it is, in the original if there is one.
      person: whom it shows: the person whom most recognisers find for the original; "" without an original
        or where they find nobody.
      before: recogniser -> `Search` for the original; empty without one.
      after: recogniser -> `Search` for the photo.
      lost: whether the photo no longer shows a face there, and was looked up all the same.
    """

    face: Located
    person: str
    before: Mapping[str, Search]
    after: Mapping[str, Search]
    lost: bool

    @property
    def found(self) -> dict[str, Candidate]:
        """Recogniser -> the person it still finds; without an original, whomever it finds."""
        return _hits(self.after, anyone=not self.before)

    @property
    def found_before(self) -> dict[str, Candidate]:
        """Recogniser -> the person it finds for the original."""
        return _hits(self.before)


class PhotoSearch(NamedTuple):
    """One photo looked up in a gallery.

    Attributes:
      name: of the photo.
      faces: the largest first.
      notes: what else the user should know.
      error: why it was not looked up; empty if it was.
    """

    name: str
    faces: tuple[FaceSearch, ...] = ()
    notes: tuple[str, ...] = ()
    error: str = ""

    @property
    def found(self) -> bool:
        """Whether some recogniser finds the person of some face."""
        return any(face.found for face in self.faces)


def check(
    images: Sequence[Picture],
    gallery: str | Path | Gallery,
    *,
    originals: Sequence[Picture | None] | None = None,
    find: Find | None = None,
    judges: Sequence[Verifier] | None = None,
) -> tuple[PhotoSearch, ...]:
    """Looks up every face of photos in a gallery.

    >>> import tipim_jax
    >>> from tipim_jax.photos.demo import demo_photos
    >>> photo = demo_photos()[0]
    >>> (result,) = tipim_jax.check([photo], photo.parent)
    >>> [face.lost for face in result.faces]
    [False]

    Args:
      images: the photos.
      gallery: a folder (`read_gallery`), or what that gave for the same judges.
      originals: of each photo what it was before it was protected, or None.
      find: finds faces; YuNet by default.
      judges: the recognisers asked; all that are here and calibrated by default.

    Returns:
      One result per photo; what is wrong with a photo is its `error`, and the others go on.

    Raises:
      UserError: as `read_gallery`, or there is no recogniser.
    """
    find, judges = find or finder(), ready(judges)
    known = gallery if isinstance(gallery, Gallery) else read_gallery(gallery, find, judges)
    before = [None] * len(images) if originals is None else originals
    pairs = zip(images, before, strict=True)
    return tuple(look_up(image, original, known, find, judges) for image, original in pairs)


def look_up(
    image: Picture,
    original: Picture | None,
    gallery: Gallery,
    find: Find,
    judges: Sequence[Verifier],
) -> PhotoSearch:
    """Looks up every face of a photo in a gallery, before and after if there is an original.

    A photo is not compared with its own file, should that be in the gallery; its original is, for a
    service may well know it.

    Args:
      image: the photo.
      original: what it was before it was protected.
      gallery: from `read_gallery`.
      find: finds faces.
      judges: the recognisers that the gallery was read with.

    Returns:
      The result; what is wrong with the photo or its original is the `error`.
    """
    name = name_of(image)
    try:
        shown = photo_of(image).pixels
        if original is None:
            subjects = _by_itself(find, shown)
        else:
            subjects = _with_original(find, shown, photo_of(original).pixels, name)
    except UserError as error:
        return PhotoSearch(name, error=str(error))
    large = [one for one in subjects if not one.seen.face.small]
    small = [str(one.seen) for one in subjects if one.seen.face.small]
    notes = [f"{one}: left out, smaller than {SMALLEST} pixels" for one in small]
    if not subjects:
        notes.append("no face was found")
    path = Path(image).resolve() if isinstance(image, str | os.PathLike) else None
    left_out = np.array([path == known for known in gallery.paths])
    if left_out.any():
        notes.append("it is in the gallery itself, and is not compared with itself")
    found = _look_up(large, gallery, judges, left_out)
    return PhotoSearch(name, found, tuple(notes))


class _Subject(NamedTuple):
    """A face to look up: where it is, in the original if there is one, and as either photo shows it."""

    seen: Located
    before: Face | None
    after: Face
    lost: bool


def _by_itself(find: Find, shown: np.ndarray) -> list[_Subject]:
    faces = located(find(shown), shown.shape)
    return [_Subject(one, None, one.face, False) for one in faces]


def _with_original(find: Find, shown: np.ndarray, old: np.ndarray, name: str) -> list[_Subject]:
    """The faces of the original and the same places of the photo, which may have another size."""
    scale = np.array(shown.shape[1::-1]) / np.array(old.shape[1::-1])
    if abs(scale[0] / scale[1] - 1) > _DISTORTION:
        raise UserError(
            f"{name} and its original differ in shape; give the photo that it was made of"
        )
    found = find(shown)
    subjects = []
    for one in located(find(old), old.shape):
        landmarks = (one.face.landmarks + 0.5) * scale - 0.5
        left, top, width, height = (np.array(one.face.box) * np.tile(scale, 2)).tolist()
        again = same_place(found, landmarks)
        after = again or align(shown, landmarks, (left, top, width, height))
        subjects.append(_Subject(one, one.face, after, again is None))
    return subjects


def _look_up(
    subjects: Sequence[_Subject], gallery: Gallery, judges: Sequence[Verifier], left_out: np.ndarray
) -> tuple[FaceSearch, ...]:
    """The searches of all faces; `left_out` [N] are the faces of the gallery that do not count after."""
    originals = [one.before for one in subjects if one.before is not None]
    olds = similarity(gallery, judges, originals)
    news = similarity(gallery, judges, [one.after for one in subjects], left_out)
    results = []
    for i, subject in enumerate(subjects):
        before, after = ({n: rows[i] for n, rows in some.items()} for some in (olds, news))
        index = _most_found(before, judges)
        person = "" if index is None else gallery.people[index]
        old, new = (
            {
                judge.name: _search(gallery, scores[judge.name], index, judge.threshold)
                for judge in judges
                if judge.name in scores
            }
            for scores in (before, after)
        )
        results.append(FaceSearch(subject.seen, person, old, new, subject.lost))
    return tuple(results)


def _most_found(scores: Mapping[str, np.ndarray], judges: Sequence[Verifier]) -> int | None:
    """Index of the person whom most recognisers find nearest and above the threshold; None for nobody."""
    votes: dict[int, tuple[int, float]] = {}
    for judge in judges if scores else ():
        nearest = int(np.argmax(scores[judge.name]))
        near = closeness(float(scores[judge.name][nearest]), judge.threshold)
        if near > 0:
            count, total = votes.get(nearest, (0, 0.0))
            votes[nearest] = (count + 1, total + near)
    return max(votes, key=lambda index: votes[index]) if votes else None


def _search(gallery: Gallery, scores: np.ndarray, person: int | None, threshold: float) -> Search:
    def candidate(index: int) -> Candidate:
        cosine = scores[index]
        return Candidate(gallery.people[index], 1 + int(np.sum(scores > cosine)), float(cosine))

    order = np.argsort(-scores, kind="stable")[:DEPTH]
    nearest = tuple(candidate(int(i)) for i in order if np.isfinite(scores[i]))
    known = None if person is None or not np.isfinite(scores[person]) else candidate(person)
    return Search(nearest, known, threshold)


def _hits(searches: Mapping[str, Search], anyone: bool = False) -> dict[str, Candidate]:
    hits = {name: search.hit(anyone) for name, search in searches.items()}
    return {name: hit for name, hit in hits.items() if hit}
