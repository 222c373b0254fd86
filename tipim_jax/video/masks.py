"""One mask a track, carried along with the face, and made anew where it has become weak."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from tipim_jax.core import batching
from tipim_jax.photos.faces import Face, align
from tipim_jax.photos.paste import FaceMask, paste
from tipim_jax.photos.pending import PendingPhoto, make_masks
from tipim_jax.photos.photo import Photo
from tipim_jax.photos.protect import Models
from tipim_jax.photos.verify import Verifier, embed_canvases
from tipim_jax.video.clip import Clip, Frame, Told
from tipim_jax.video.register import Template, register, template
from tipim_jax.video.tracks import Track

# Seconds after which a mask is asked whether it still works; sooner where the face correlates less with the one
# that the mask was made on, as it has turned or speaks.
EVERY, SOONEST = 0.5, 0.12
CHANGED = 0.9
# The share of what a mask did to the face that it was made on, below which there is a new one: 1 − cosine to
# the unmasked face, on any surrogate.
WEAK = 0.7


class Key(NamedTuple):
    """A mask and when it is worn.

    Attributes:
      start: number of the frame from which on it replaces the one before, little by little.
      frame: the frame that it was made on, from which on it is worn alone.
      mask: [160,160,3] float16, on the face's canvas, pixel levels.
      face: what finds the face again in other frames.
    """

    start: int
    frame: int
    mask: np.ndarray
    face: Template


class Carried(NamedTuple):
    """A track with its masks.

    Attributes:
      track: of the face.
      keys: in order; the first is worn from the beginning.
      target: whom they move the face towards.
    """

    track: Track
    keys: list[Key]
    target: str

    def worn(self, frame: int, pixels: np.ndarray) -> list[FaceMask]:
        """What is worn in a frame [H,W,3] of the track, laid exactly over the face."""
        i = sum(key.start <= frame for key in self.keys[1:])
        shares = {i: 1.0}
        if i > 0 and frame < self.keys[i].frame:
            share = (frame - self.keys[i].start) / (self.keys[i].frame - self.keys[i].start)
            # Two masks have little in common: so they are together as strong as one.
            shares = {i - 1: math.sqrt(1 - share), i: math.sqrt(share)}
        guess = self.track.matrix(frame)
        return [_laid(self.keys[j], pixels, guess, share) for j, share in shares.items()]


def _laid(key: Key, pixels: np.ndarray, guess: np.ndarray, share: float = 1.0) -> FaceMask:
    mask = share * key.mask.astype(np.float32)
    return register(pixels, guess, key.face).laid(mask)


class Made(NamedTuple):
    """The masks of a clip.

    Attributes:
      carried: in the order of the tracks.
      seconds: that making masks took.
    """

    carried: list[Carried]
    seconds: float


def make(models: Models, clip: Clip, tracks: Sequence[Track], told: Told) -> Made:
    """Makes the masks of tracks on as few frames as do.

    Args:
      models: the engine, and judges, of whom those that masks are made on decide where a new one is needed.
      clip: read once.
      tracks: of the clip.
      told: called with how far this is, and the seconds that making masks took.
    """
    surrogates = [judge for judge in models.judges if judge.name in models.engine.surrogates]
    wearers = [_Wearer(models, surrogates, track, i) for i, track in enumerate(tracks)]
    last = max((track.frames[-1] for track in tracks), default=-1)
    for number, frame in enumerate(clip.frames()):
        if number > last:
            break
        for wearer in wearers:
            if number in wearer.track.frames:
                wearer.meet(number, frame)
        count = sum(len(wearer.keys) for wearer in wearers)
        seconds = sum(wearer.seconds for wearer in wearers)
        told(f"masks ({count} made)", number + 1, clip.length, seconds)
    carried = [Carried(wearer.track, wearer.keys, wearer.target) for wearer in wearers]
    return Made(carried, sum(wearer.seconds for wearer in wearers))


class _Wearer:
    """A track on its way through the clip."""

    def __init__(
        self, models: Models, surrogates: Sequence[Verifier], track: Track, number: int
    ) -> None:
        self.track, self.keys, self.target, self.seconds = track, list[Key](), "", 0.0
        self._models, self._surrogates, self._number = models, surrogates, number
        self._digest, self._asked, self._asked_at = 0, track.first, 0.0
        self._effect = np.zeros(len(surrogates))

    def meet(self, number: int, frame: Frame) -> None:
        """Goes on to a frame of the track: makes a mask where there is none, or where it has become weak."""
        if self.keys and not self._due(number, frame):
            return
        face = self.track.face(number, frame.pixels)
        if not self.keys:
            digest = batching.digest(np.ascontiguousarray(frame.pixels))
            self._digest = (digest + self._number) % 2**32
        if not self.keys or np.any(self._does(frame.pixels, face) < WEAK * self._effect):
            mask = self._new(frame.pixels, face)
            self.keys.append(Key(self._asked, number, mask, template(face)))
            self._effect = self._does(frame.pixels, face)
        self._asked, self._asked_at = number, frame.seconds

    def _due(self, number: int, frame: Frame) -> bool:
        """Whether the last mask is to be asked whether it works here."""
        passed = frame.seconds - self._asked_at + 1e-3
        if passed >= EVERY or number == self.track.frames[-1]:
            return True
        if passed < SOONEST:
            return False
        place = register(frame.pixels, self.track.matrix(number), self.keys[-1].face)
        return place.alike < CHANGED

    def _new(self, pixels: np.ndarray, face: Face) -> np.ndarray:
        photo = Photo.of_samples(pixels, "RGB", "PNG")
        # All masks of a track begin with the same random numbers, and so become more alike.
        pending = PendingPhoto(photo, [face], {}, {}, self._digest, [0])
        engine = self._models.engine
        self.seconds += make_masks(engine, engine.single(), [(pending, 0)]).seconds
        self.target = pending.targets[0]
        return pending.masks[0].mask.astype(np.float16)

    def _does(self, pixels: np.ndarray, face: Face) -> np.ndarray:
        """[surrogates] 1 − cosine of the face without and with the last mask."""
        worn = _laid(self.keys[-1], pixels, face.matrix)
        masked = paste(pixels, [worn], self._models.engine.settings.epsilon)
        canvases = np.stack([face.canvas, align(masked, face.landmarks, face.box).canvas])
        both = [embed_canvases(judge, canvases) for judge in self._surrogates]
        return np.array([1 - before @ after for before, after in both])
