"""The faces of a clip, each followed from frame to frame."""

from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np

from tipim_jax.photos.faces import SMALLEST, Face, Find, align, canvas_to_photo

GAP = 12  # frames that a face may be lost for
OVERLAP = 0.3  # of the boxes of a face in two frames, intersection over union
# Canvases of neighbouring frames of one face correlate above; below, a recogniser is asked whether it still is
# the same person, or the picture was cut to somebody else.
ALIKE = 0.9
# The detector's jitter would shake the mask: landmarks are smoothed over so many frames, but moved by no more
# than this share of the distance of the eyes, as what is larger is no jitter but a quick movement.
SIGMA = 2.0
JITTER = 0.08

# Whether two faces that lie at the same place in neighbouring frames are one person's.
Same = Callable[[Face, Face], bool]


class Track(NamedTuple):
    """One face in consecutive frames.

    Attributes:
      first: number of its first frame.
      landmarks: [n,5,2] (x, y) in each of its frames, smoothed over time.
      boxes: [n,4] left, top, width, height.
    """

    first: int
    landmarks: np.ndarray
    boxes: np.ndarray

    @property
    def frames(self) -> range:
        """The numbers of its frames."""
        return range(self.first, self.first + len(self.boxes))

    @property
    def area(self) -> float:
        """Pixels that it covers, all frames together."""
        return float(self.boxes[:, 2:].prod(1).sum())

    @property
    def small(self) -> bool:
        """Whether no frame shows it large enough for recognisers."""
        return bool(self.boxes[:, 2:].min(1).max() < SMALLEST)

    def matrix(self, frame: int) -> np.ndarray:
        """[2,3] from canvas to frame coordinates."""
        return canvas_to_photo(self.landmarks[frame - self.first])

    def face(self, frame: int, pixels: np.ndarray) -> Face:
        """The face in a frame [H,W,3] of the clip, aligned."""
        i = frame - self.first
        left, top, width, height = map(float, self.boxes[i])
        return align(pixels, self.landmarks[i], (left, top, width, height))


class _Open:
    """A track that may go on."""

    def __init__(self, frame: int, face: Face) -> None:
        self.frames, self.landmarks, self.boxes = [frame], [face.landmarks], [face.box]
        self.face = face

    def add(self, frame: int, face: Face) -> None:
        self.frames.append(frame)
        self.landmarks.append(face.landmarks)
        self.boxes.append(face.box)
        self.face = face

    def closed(self) -> Track:
        landmarks = _everywhere(self.frames, np.reshape(self.landmarks, (-1, 10)))
        eyes = np.hypot(*(landmarks[:, :2] - landmarks[:, 2:4]).T)[:, None]
        moved = np.clip(_smoothed(landmarks) - landmarks, -JITTER * eyes, JITTER * eyes)
        boxes = _everywhere(self.frames, np.array(self.boxes))
        return Track(self.frames[0], (landmarks + moved).reshape(-1, 5, 2), boxes)


def track(
    frames: Iterable[np.ndarray], find: Find, same: Same, told: Callable[[int], None]
) -> list[Track]:
    """Follows every face of a clip, the one that covers most first.

    Args:
      frames: [H,W,3] uint8 each.
      find: finds the faces of a frame.
      same: asked where neighbouring frames look different at the place of a face.
      told: called with the number of frames that are looked at.
    """
    going: list[_Open] = []
    done: list[Track] = []
    for number, pixels in enumerate(frames):
        found = find(pixels)
        pairs = [(_overlap(one.face.box, face.box), one, face) for one in going for face in found]
        # tracks that were seen last come first: one that ended at a cut is not asked about again
        for overlap, one, face in sorted(pairs, key=lambda p: (-p[1].frames[-1], -p[0])):
            free = one.frames[-1] < number and any(face is other for other in found)
            if free and overlap >= OVERLAP and (_alike(one.face, face) or same(one.face, face)):
                one.add(number, face)
                found = [other for other in found if other is not face]
        going += [_Open(number, face) for face in found]
        done += [one.closed() for one in going if one.frames[-1] < number - GAP]
        going = [one for one in going if one.frames[-1] >= number - GAP]
        told(number + 1)
    return sorted([*done, *(one.closed() for one in going)], key=lambda one: -one.area)


def _overlap(a: tuple[float, ...], b: tuple[float, ...]) -> float:
    """Intersection over union of two boxes."""
    width = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
    height = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
    shared = max(0.0, width) * max(0.0, height)
    return shared / max(a[2] * a[3] + b[2] * b[3] - shared, 1e-6)


def _alike(a: Face, b: Face) -> bool:
    """Whether two canvases correlate as neighbouring frames do."""
    x, y = (face.canvas.mean(2).reshape(20, 8, 20, 8).mean((1, 3)).ravel() for face in (a, b))
    x, y = x - x.mean(), y - y.mean()
    return bool(x @ y >= ALIKE * np.sqrt((x @ x) * (y @ y)))


def _everywhere(frames: list[int], values: np.ndarray) -> np.ndarray:
    """[n,k] at all frames from the first to the last, of values [m,k] at some; straight lines between them."""
    every = np.arange(frames[0], frames[-1] + 1)
    return np.stack([np.interp(every, frames, column) for column in values.T], axis=1)


def _smoothed(values: np.ndarray) -> np.ndarray:
    """A smooth course [n,k] through values over time.

    Every value is that of a line fitted to its neighbours; unlike their mean it does not shorten a movement at
    its ends.
    """
    reach = int(3 * SIGMA)
    offset = np.arange(-reach, reach + 1)
    weight = np.exp(-((offset / SIGMA) ** 2) / 2)

    def moment(power: int, column: np.ndarray) -> np.ndarray:
        return np.correlate(np.pad(column, reach), weight * offset**power, "valid")

    if len(values) == 1:
        return values
    s0, s1, s2 = (moment(power, np.ones(len(values))) for power in range(3))
    lines = [(s2 * moment(0, c) - s1 * moment(1, c)) / (s0 * s2 - s1**2) for c in values.T]
    return np.stack(lines, axis=1)
