"""A photo between detection and its masks, which come with the batches that its faces are in."""

from collections.abc import Callable, Collection, Sequence
from typing import NamedTuple

import numpy as np

from tipim_jax.core import batching
from tipim_jax.photos.compilation import Program
from tipim_jax.photos.engine import Engine, attack_faces
from tipim_jax.photos.faces import Face, Find
from tipim_jax.photos.paste import FaceMask
from tipim_jax.photos.photo import Photo

# The faces of a photo, as found -> the numbers of those to protect, from 0.
Choose = Callable[[Sequence[Face]], Collection[int]]


def choose_all(faces: Sequence[Face]) -> Collection[int]:
    """Chooses every face."""
    return range(len(faces))


def choose_largest(faces: Sequence[Face]) -> Collection[int]:
    """Chooses the largest face."""
    return range(min(1, len(faces)))


class PendingPhoto(NamedTuple):
    """A photo that waits for the masks of its faces.

    Attributes:
      photo: as read.
      faces: in the order found.
      masks, targets: number of the face -> its mask, and whom that moves it towards; both fill up.
      digest: of the photo's pixels, for the random keys of its faces.
      chosen: the numbers of the faces to protect, unless they are too small.
    """

    photo: Photo
    faces: list[Face]
    masks: dict[int, FaceMask]
    targets: dict[int, str]
    digest: int
    chosen: Collection[int]

    @property
    def to_protect(self) -> list[int]:
        """The numbers of the faces that get a mask."""
        return [i for i, face in enumerate(self.faces) if i in self.chosen and not face.small]

    @property
    def masked(self) -> bool:
        """Whether every face that gets a mask has it."""
        return len(self.masks) == len(self.to_protect)

    @property
    def faceless(self) -> str:
        """Why no face gets a mask; empty if one does."""
        if self.to_protect:
            return ""
        if not self.faces:
            reason = "no face was found"
        elif not self.chosen:
            reason = "no face is chosen"
        else:
            everyone = len(self.chosen) == len(self.faces)
            reason = f"every {'face' if everyone else 'chosen face'} is too small"
        return f"{reason}; nothing to protect"


class Attacked(NamedTuple):
    """Seconds the attack took for a batch, and its number of faces."""

    seconds: float
    faces: int


def detect(find: Find, photo: Photo, choose: Choose = choose_all) -> PendingPhoto:
    """Finds and aligns the faces of a photo, and chooses those to protect."""
    faces = find(photo.pixels)
    pixels = np.ascontiguousarray(photo.pixels)
    return PendingPhoto(photo, faces, {}, {}, batching.digest(pixels), choose(faces))


def make_masks(
    engine: Engine, program: Program, batch: Sequence[tuple[PendingPhoto, int]]
) -> Attacked:
    """Makes the masks of up to `program.faces` faces, given as (photo, number of its face).

    Args:
      engine: with the parameters.
      program: the engine's, for single faces or full batches.
      batch: the faces.
    """
    faces = [pending.faces[i] for pending, i in batch]
    made = attack_faces(
        engine,
        program,
        faces,
        [pending.photo.colours for pending, _ in batch],
        [batching.digest_key(engine.settings.seed, pending.digest, i) for pending, i in batch],
    )
    for (pending, i), mask, target in zip(batch, made.masks, made.targets, strict=True):
        pending.masks[i] = FaceMask(mask, pending.faces[i].matrix)
        pending.targets[i] = engine.target_names[int(target)] if engine.target_names else ""
    return Attacked(made.seconds, len(batch))
