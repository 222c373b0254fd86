"""Galleries of known people: their faces, embedded, and how near a face comes to each of them."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tipim_jax.errors import UserError
from tipim_jax.photos.faces import Face, Find
from tipim_jax.photos.files import read_photo
from tipim_jax.photos.folders import photos_below
from tipim_jax.photos.verify import Verifier, embed_canvases, embeddings

_AT_ONCE = 64  # faces held in memory as pictures


class Gallery(NamedTuple):
    """Faces of known people.

    Attributes:
      people: [P] names.
      person: [N] index of the person of each face.
      paths: [N] absolute path of the photo of each face.
      embeddings: recogniser -> [N,D].
      skipped: (photo, why it gave no face).
    """

    people: tuple[str, ...]
    person: np.ndarray
    paths: tuple[Path, ...]
    embeddings: Mapping[str, np.ndarray]
    skipped: tuple[tuple[Path, str], ...]


def read_gallery(
    folder: str | Path,
    find: Find,
    judges: Sequence[Verifier],
    *,
    each: Callable[[int, int], object] = lambda done, photos: None,
) -> Gallery:
    """Finds and embeds the faces of a gallery, a few at a time.

    Each subfolder is a person, shown by the largest face of every photo in it and below it. A photo directly
    in the gallery stands for itself under its own name, and where it shows several faces, each is somebody.

    Args:
      folder: the gallery.
      find: finds faces.
      judges: the recognisers to embed with.
      each: called for every photo done, with the number of those and of all.

    Raises:
      UserError: it is not a folder, or no photo in it shows a face that is large enough.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"{folder} is not a folder; give a folder of photos of known people")
    people: dict[str, int] = {}
    person: list[int] = []
    paths: list[Path] = []
    skipped: list[tuple[Path, str]] = []

    def canvases() -> Iterator[np.ndarray]:
        photos = sorted(photos_below(folder))
        for done, path in enumerate(photos, 1):
            try:
                for name, face in _known_faces(path, folder, find):
                    person.append(people.setdefault(name, len(people)))
                    paths.append(path.resolve())
                    yield face.canvas
            except UserError as error:
                skipped.append((path, str(error)))
            each(done, len(photos))

    rest, parts = canvases(), []
    while some := list(islice(rest, _AT_ONCE)):
        parts.append({judge.name: embed_canvases(judge, np.stack(some)) for judge in judges})
    if not parts:
        raise UserError(f"{folder} holds no photo with a face to compare with")
    embedded = {judge.name: np.concatenate([p[judge.name] for p in parts]) for judge in judges}
    return Gallery(tuple(people), np.array(person), tuple(paths), embedded, tuple(skipped))


def _known_faces(path: Path, folder: Path, find: Find) -> list[tuple[str, Face]]:
    """(person, face) of a photo of a gallery."""
    faces = [face for face in find(read_photo(path).pixels) if not face.small]
    if not faces:
        raise UserError(f"{path} shows no face that is large enough")
    name, *below = path.relative_to(folder).parts
    if below or len(faces) == 1:
        return [(name, faces[0])]
    return [(f"{name} face {number}", face) for number, face in enumerate(faces, 1)]


def similarity(
    gallery: Gallery,
    judges: Sequence[Verifier],
    faces: Sequence[Face],
    left_out: np.ndarray | None = None,
) -> dict[str, np.ndarray]:
    """Compares faces with people: recogniser -> [F,P] cosine of the nearest photo of each person.

    Args:
      gallery: the people.
      judges: the recognisers that the gallery was embedded with.
      faces: any number.
      left_out: [N] faces of the gallery that do not count; a person without others gets −∞.
    """
    found = {}
    for judge in judges if faces else ():
        scores = np.full((len(faces), len(gallery.people)), -np.inf)
        for row, embedding in zip(scores, embeddings(judge, faces), strict=True):
            cosines = gallery.embeddings[judge.name] @ embedding
            if left_out is not None:
                cosines = np.where(left_out, -np.inf, cosines)
            np.maximum.at(row, gallery.person, cosines)
        found[judge.name] = scores
    return found
