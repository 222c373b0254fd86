"""What films and animations have in common: frames that can be read again and again, and written changed."""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tipim_jax.photos.finish import Encoding

# (number of the frame, its pixels) -> the pixels to save; both [H,W,3] uint8 RGB, upright
Paint = Callable[[int, np.ndarray], np.ndarray]
# Called with what is done, how many frames are passed, and about how many there are, 0 if nobody knows
Told = Callable[..., None]


class Frame(NamedTuple):
    """One picture of a clip.

    Attributes:
      seconds: when it is shown.
      pixels: [H,W,3] uint8 RGB, upright.
    """

    seconds: float
    pixels: np.ndarray


class Clip(NamedTuple):
    """A film or an animation in a file. It is never held in memory as a whole.

    Attributes:
      length: about how many frames it has; 0 if the file does not say.
      frames: reads the file from its beginning; raises `PhotoError` where it is damaged.
      write: writes its frames as they are painted to a path, with all else that the file keeps, and gives
        notes for the user; raises `PhotoError` where it cannot be kept, `OSError` where the disk refuses.
    """

    length: int
    frames: Callable[[], Iterator[Frame]]
    write: Callable[[Path, Paint, Encoding], tuple[str, ...]]


def shown(frames: Iterable[Frame]) -> Callable[[float], np.ndarray]:
    """Gives the pixels that are shown at a time: seconds, which may not fall; of the last frame beyond the end.

    Writers may join equal frames, so that times say which frames belong together, and numbers do not.
    """
    coming = iter(frames)
    now, following = next(coming), next(coming, None)

    def at(seconds: float) -> np.ndarray:
        nonlocal now, following
        while following is not None and following.seconds <= seconds + 5e-4:
            now, following = following, next(coming, None)
        return now.pixels

    return at
