"""The faces of a photo, aligned on the canvas that masks are made on."""

import hashlib
from collections.abc import Callable, Sequence
from functools import cache, lru_cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from ports import detection, packages
from ports.networks import yunet
from tipim_jax.core import geometry
from tipim_jax.core.geometry import CANVAS_LANDMARKS, CANVAS_SIZE, fit_similarity, invert
from tipim_jax.photos import crops, programs
from tipim_jax.photos.crops import apply, crop
from tipim_jax.photos.region import face_region

# What decides where faces are found and what their canvases show, besides the detector's weights
_SOURCES = (detection, yunet, geometry, crops)
SMALLEST = 20  # pixels of the shorter side of a face's box; below it no recogniser sees anybody


class Face(NamedTuple):
    """One face.

    Attributes:
      box: left, top, width, height in pixels of the upright photo.
      landmarks: [5,2] (x, y) in the photo.
      matrix: [2,3] from canvas to photo coordinates.
      canvas: [160,160,3] float32, the aligned face, pixel levels.
    """

    box: tuple[float, float, float, float]
    landmarks: np.ndarray
    matrix: np.ndarray
    canvas: np.ndarray

    @property
    def scale(self) -> float:
        """Photo pixels per canvas pixel, to two digits (the resolution matters, not its noise)."""
        return round(float(np.hypot(*self.matrix[:, 0])), 2)

    @property
    def region(self) -> np.ndarray:
        """[160,160,1] where on the canvas a mask may be, see `region.face_region`."""
        return face_region(apply(invert(self.matrix), self.landmarks))

    @property
    def small(self) -> bool:
        return min(self.box[2:]) < SMALLEST


Find = Callable[[np.ndarray], list[Face]]  # photo [H,W,3] uint8 -> its faces, the largest first


class Located(NamedTuple):
    """A face as people find it in a photo.

    Attributes:
      number: from 1, the largest face first.
      place: which ninth of the photo its middle lies in: "left", "top right", "centre".
      face: the face.
    """

    number: int
    place: str
    face: Face

    def __str__(self) -> str:
        return f"face {self.number} ({self.place})"


def located(faces: Sequence[Face], shape: tuple[int, ...]) -> tuple[Located, ...]:
    """Faces in the order given, with their number and place in a photo of `shape` (height, width, …)."""
    return tuple(Located(i, _place(face.box, shape), face) for i, face in enumerate(faces, 1))


def _place(box: tuple[float, float, float, float], shape: tuple[int, ...]) -> str:
    left, top, width, height = box
    row, column = (
        min(max(int(3 * middle / length), 0), 2)
        for middle, length in ((top + height / 2, shape[0]), (left + width / 2, shape[1]))
    )
    words = (("top", "", "bottom")[row], ("left", "", "right")[column])
    return " ".join(word for word in words if word) or "centre"


@cache
def version() -> str:
    """Changes with whatever decides where faces are and how they are aligned: for the keys of caches."""
    digest = hashlib.sha256(packages.YUNET.sha256.encode())
    for module in _SOURCES:
        digest.update(Path(str(module.__file__)).read_bytes())
    digest.update(Path(__file__).read_bytes())
    return digest.hexdigest()[:12]


def finder(detector: Any = None) -> Find:
    """Finds faces with a detector that is loaded already, or loads it."""
    return partial(find, yunet.load() if detector is None else detector)


def find(detector: Any, pixels: np.ndarray) -> list[Face]:
    """Every face, the largest first.

    Args:
      detector: parameters of `ports.networks.yunet`.
      pixels: [H,W,3] uint8 RGB, upright.
    """
    found = detection.find_faces(detector, pixels, detect=_detect)
    faces = []
    for (left, top, right, bottom), landmarks in zip(found.boxes, found.landmarks, strict=True):
        box = (float(left), float(top), float(right - left), float(bottom - top))
        faces.append(align(pixels, landmarks, box))
    return sorted(faces, key=lambda face: -face.box[2] * face.box[3])


def _detect(
    params: Any, images: np.ndarray, sizes: np.ndarray, *, score: float
) -> tuple[yunet.Faces, Any]:
    """Detects as `yunet.detect` does, by a program kept between runs: tracing takes longer than looking."""
    (device,) = jax.tree.leaves(params)[0].devices()
    run = _program(images.shape, device)
    if run is None:
        return yunet.detect(params, images, sizes, score=score)
    faces, valid = run(params, images, sizes, np.float32(score))
    return yunet.Faces(*faces), valid


@lru_cache(maxsize=64)
def _program(shape: tuple[int, ...], device: jax.Device) -> jax.stages.Compiled | None:
    """The program for images of this shape on this device; None where none is kept."""

    def flat(params: Any, images: jax.Array, sizes: jax.Array, score: jax.Array) -> Any:
        faces, valid = yunet.detect(params, images, sizes, score=score)
        return tuple(faces), valid

    arguments = (
        yunet.shapes(),
        jax.ShapeDtypeStruct(shape, np.uint8),
        jax.ShapeDtypeStruct((shape[0], 2), np.int32),
        jax.ShapeDtypeStruct((), np.float32),
    )
    return programs.compiled(jax.jit(flat), arguments, device, "yunet")


def align(
    pixels: np.ndarray, landmarks: np.ndarray, box: tuple[float, float, float, float]
) -> Face:
    """The face at known landmarks."""
    matrix = canvas_to_photo(landmarks)
    return Face(box, landmarks, matrix, crop(pixels, matrix, (CANVAS_SIZE, CANVAS_SIZE)))


def canvas_to_photo(landmarks: np.ndarray) -> np.ndarray:
    """[2,3] from canvas to photo coordinates, of a face with these landmarks [5,2]."""
    return invert(fit_similarity(landmarks, CANVAS_LANDMARKS))


def same_place(faces: list[Face], landmarks: np.ndarray) -> Face | None:
    """The one of `faces` whose landmarks lie where `landmarks` [5,2] do, or None.

    "Where" is within half the distance of the eyes, on average over the landmarks.
    """
    if not faces:
        return None
    eyes = np.linalg.norm(landmarks[0] - landmarks[1])
    distances = [np.linalg.norm(face.landmarks - landmarks, axis=1).mean() for face in faces]
    nearest = int(np.argmin(distances))
    return faces[nearest] if distances[nearest] < eyes / 2 else None
