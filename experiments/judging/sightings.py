"""Where the people of photos are and what judges make of them: found on the file, kept by its content."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from experiments.data import dataset
from experiments.judging.judges import Judge
from ports import detection
from ports.networks import yunet
from tipim_jax.photos import portrait
from tipim_jax.photos.faces import SMALLEST, version
from tipim_jax.photos.files import read_photo
from tipim_jax.photos.photo import PhotoError


class Sighting(NamedTuple):
    """A photo and the person in it who is judged."""

    path: Path  # the photo
    identity: str  # who it shows
    digest: str  # SHA-256 of the file
    landmarks: np.ndarray  # [5,2] of that person's face, photo pixels
    faces: np.ndarray  # [N,5,2] landmarks of every face that is protected


class Sightings(NamedTuple):
    """Those of many photos, and (photo, why) for photos that show nobody."""

    seen: tuple[Sighting, ...]
    missing: tuple[tuple[str, str], ...]

    @property
    def identities(self) -> np.ndarray:
        """[N] who is seen."""
        return np.array([one.identity for one in self.seen])


def find(photo: np.ndarray) -> yunet.Faces:
    """The faces that the project's detector finds in a photo [H,W,3] uint8."""
    return detection.find_faces(dataset.detector(), photo)


def sightings(photos: dataset.Labelled, cache: Path) -> Sightings:
    """The face that each photo is about; landmarks are kept in `cache` by the photo's content
    and the detector's `version`."""
    kept = dataset.kept_by_content(photos, cache / f"landmarks-{version()}", _main_first)
    rows = zip(*kept.photos, kept.digests, kept.arrays)
    seen = [Sighting(path, who, digest, faces[0], faces) for path, who, digest, faces in rows]
    return Sightings(tuple(seen), kept.missing)


def _main_first(pixels: np.ndarray) -> np.ndarray:
    """[N,5,2] landmarks of the faces that are protected, the main one first."""
    found = find(pixels)
    sizes = found.boxes[:, 2:] - found.boxes[:, :2]
    if not len(sizes):
        raise PhotoError("no face was found")
    boxes = np.concatenate([found.boxes[:, :2], sizes], 1).tolist()
    first = portrait.main(boxes, pixels.shape[:2])
    large = sizes.min(1) >= SMALLEST
    if not large[first]:
        raise PhotoError("the face is too small")
    order = [first, *(i for i in np.flatnonzero(large) if i != first)]
    return found.landmarks[order]


def again(pixels: np.ndarray, before: np.ndarray) -> tuple[np.ndarray, bool]:
    """Where in a photo the face is that was at `before` [5,2], and whether it is not detected any more.

    The same face lies within half the distance of its eyes, on average over the landmarks; one that is no
    longer detected is judged where it was.
    """
    found = find(pixels).landmarks
    off = np.linalg.norm(found - before, axis=2).mean(1)
    eyes = np.linalg.norm(before[0] - before[1])
    if not len(off) or off.min() > eyes / 2:
        return before, True
    return found[np.argmin(off)], False


def embeddings(judge: Judge, seen: Sequence[Sighting], cache: Path) -> np.ndarray:
    """[N,D] of photos as they are, kept in `cache` by the content of photo and judge."""

    def embed(part: list[int]) -> np.ndarray:
        crops = [judge.crop(read_photo(seen[i].path).pixels, seen[i].landmarks) for i in part]
        return judge.embed(np.stack(crops))

    folder = cache / "embeddings" / f"{judge.name}-{judge.digest}-from photos"
    return dataset.kept_by_key(folder, [one.digest for one in seen], 16, embed)


def seen_by(
    judges: Sequence[Judge], photos: Sequence[tuple[np.ndarray, np.ndarray]]
) -> dict[str, Any]:
    """What judges make of photos after something was done to them.

    Photos are n × (pixels [H,W,3] uint8, landmarks [5,2] of the face before). Returns {"lost": [n] whether the
    face is not detected any more, judge: [n,D] embeddings}.
    """
    places = [again(pixels, before) for pixels, before in photos]
    made: dict[str, Any] = {"lost": np.array([lost for _, lost in places])}
    for judge in judges:
        crops = [judge.crop(p, landmarks) for (p, _), (landmarks, _) in zip(photos, places)]
        made[judge.name] = judge.embed(np.stack(crops))
    return made
