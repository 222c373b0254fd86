"""Which colours a photo is made of: all, or those of a line that its masks have to keep to.

Grey photos lie on a line in colour space, and so, nearly, do greys of a lossy file, sepia and every other
tint of one colour. On them, a mask of other colours shows as stains in colours of the rainbow.
"""

import numpy as np

GREY = np.full(3, 3**-0.5)

_BLOCK = (
    4  # pixels; the mean over a block evens out the chroma that JPEG stores at half the resolution
)
_BLOCKS = 65_536  # looked at
# Where a tint ends, in black and white, and where it bends, in channels that are full, levels tell nothing.
_TONES = (40, 245)
_FEWEST = 64  # blocks of other tones than these; of fewer, all are looked at
# Of 2,414 LFW photos, the 7 grey ones have 0 and 4 nearly grey ones 0.1 to 3.3, coloured ones 9.4 and more;
# strong sepia has 6.5 as JPEG of quality 75, and 8.7 of quality 50.
_SPREAD = 8.0
_BINS = 8.0  # levels
_FLAT = 2.0  # levels; less contrast than that has no direction
_FAINT = 0.01  # a tint off the greys by so little moves no channel of a mask by a whole level


def line(pixels: np.ndarray) -> np.ndarray | None:
    """The direction in which a photo's colours vary, if it is one alone.

    It is the first principal direction of the middle tones, provided that 95 % of them are within 8 levels of
    the mean colour of those as bright. The colours may thus lie on a curve, as where shadows and lights are
    tinted differently. Among the greys, and in a photo without contrast, the direction is `GREY`.

    Args:
      pixels: [H,W,3] uint8.

    Returns:
      [3] unit vector, or None for a photo of several colours.
    """
    colours = _middle_tones(pixels)
    offsets = colours - colours.mean(0)
    variances, directions = np.linalg.eigh(offsets.T @ offsets / len(offsets))
    if variances[-1] < _FLAT**2:
        return GREY
    axis = directions[:, -1]
    along = offsets @ axis
    across = offsets - along[:, None] * axis
    bins = ((along - along.min()) / _BINS).astype(int)
    count = np.maximum(np.bincount(bins), 1)
    curve = np.stack([np.bincount(bins, channel) / count for channel in across.T], axis=1)
    spread = np.linalg.norm(across - curve[bins], axis=1)
    if np.percentile(spread, 95) > _SPREAD:
        return None
    axis = axis * np.sign(axis[np.argmax(np.abs(axis))])
    return GREY if np.abs(axis - GREY).max() < _FAINT else axis


def projection(axis: np.ndarray | None) -> np.ndarray:
    """[3,3] float32 projection onto the colours of an axis, or onto all (`types.Problem.colours`)."""
    return (np.eye(3) if axis is None else np.outer(axis, axis)).astype(np.float32)


def _middle_tones(pixels: np.ndarray) -> np.ndarray:
    """[n,3] mean colours of blocks evenly spread over the photo, leaving out the darkest and lightest."""
    height, width = pixels.shape[:2]
    size = min(_BLOCK, height, width)
    rows, columns = height // size, width // size
    step = max(1, int(np.ceil(np.sqrt(rows * columns / _BLOCKS))))
    blocks = pixels[: rows * size, : columns * size].reshape(rows, size, columns, size, 3)
    blocks = blocks[::step, :, ::step].swapaxes(1, 2).reshape(-1, size * size, 3)
    means = blocks.mean(1, dtype=np.float64)
    lowest, highest = _TONES
    middle = (means.max(1) >= lowest) & (blocks.max((1, 2)) < highest)
    return means[middle] if middle.sum() >= _FEWEST else means
