"""Where the people of photos are and what judges make of them: found on the file, kept by its content."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from tqdm import tqdm

from experiments.data import dataset
from experiments.judging.judges import Judge
from ports import detection
from ports.networks import yunet
from tipim_jax.photos import portrait
from tipim_jax.photos.faces import SMALLEST, version
from tipim_jax.photos.files import read_photo
from tipim_jax.photos.photo import PhotoError

Find = Callable[[np.ndarray], yunet.Faces]  # photo [H,W,3] uint8 -> its faces


class Sighting(NamedTuple):
    """A photo and the person in it who is judged.

    Attributes:
      path: the photo.
      identity: who it shows.
      digest: SHA-256 of the file.
      landmarks: [5,2] of that person's face, photo pixels.
      faces: [N,5,2] landmarks of every face that is protected.
    """

    path: Path
    identity: str
    digest: str
    landmarks: np.ndarray
    faces: np.ndarray


class Sightings(NamedTuple):
    """Those of many photos, and (photo, why) for photos that show nobody."""

    seen: tuple[Sighting, ...]
    missing: tuple[tuple[str, str], ...]

    @property
    def identities(self) -> np.ndarray:
        """[N] who is seen."""
        return np.array([one.identity for one in self.seen])


def detector() -> Find:
    """The project's detector."""
    params = yunet.load()
    return lambda photo: detection.find_faces(params, photo)


def sightings(photos: dataset.Labelled, cache: Path) -> Sightings:
    """The face that each photo is about; landmarks are kept in `cache` by the photo's content
    and the detector's `version`."""
    folder = cache / f"landmarks-{version()}"
    folder.mkdir(parents=True, exist_ok=True)
    find: Find | None = None
    seen, missing = [], []
    for path, identity in zip(
        tqdm(photos.paths, desc="find", unit="photo", disable=None), photos.identities, strict=True
    ):
        digest = dataset.digest(path)
        stored = folder / f"{digest}.npy"
        try:
            if not stored.exists():
                find = find or detector()
                dataset.write(stored, _main_first(find, read_photo(path).pixels))
            faces = np.load(stored)
            seen.append(Sighting(path, identity, digest, faces[0], faces))
        except PhotoError as error:
            missing.append((str(path), str(error)))
    return Sightings(tuple(seen), tuple(missing))


def _main_first(find: Find, pixels: np.ndarray) -> np.ndarray:
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


def again(find: Find, pixels: np.ndarray, before: np.ndarray) -> tuple[np.ndarray, bool]:
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
    folder = cache / "embeddings" / f"{judge.name}-{judge.digest}-from photos"
    folder.mkdir(parents=True, exist_ok=True)
    files = [folder / f"{one.digest}.npy" for one in seen]
    new = [i for i, file in enumerate(files) if not file.exists()]
    for start in tqdm(range(0, len(new), 16), desc=judge.name, disable=None):
        part = new[start : start + 16]
        crops = [judge.crop(read_photo(seen[i].path).pixels, seen[i].landmarks) for i in part]
        for i, embedding in zip(part, judge.embed(np.stack(crops)), strict=True):
            dataset.write(files[i], embedding)
    return np.stack([np.load(file) for file in files])


def seen_by(
    judges: Sequence[Judge], find: Find, photos: Sequence[tuple[np.ndarray, np.ndarray]]
) -> dict[str, Any]:
    """What judges make of photos after something was done to them.

    Args:
      judges: the recognisers.
      find: the detector.
      photos: n × (pixels [H,W,3] uint8, landmarks [5,2] of the face before).

    Returns:
      {"lost": [n] whether the face is not detected any more, judge: [n,D] embeddings}.
    """
    places = [again(find, pixels, before) for pixels, before in photos]
    made: dict[str, Any] = {"lost": np.array([lost for _, lost in places])}
    for judge in judges:
        crops = [judge.crop(p, landmarks) for (p, _), (landmarks, _) in zip(photos, places)]
        made[judge.name] = judge.embed(np.stack(crops))
    return made
