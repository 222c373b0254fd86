"""A photo as it is on disk, and the error that says what is wrong with one."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from tipim_jax.errors import UserError
from tipim_jax.photos import colour
from tipim_jax.photos.metadata import Metadata


class PhotoError(UserError):
    """What is wrong with one photo or folder, and what to do, in one sentence."""


class Photo(NamedTuple):
    """A photo as it is on disk, upright.

    Attributes:
      pixels: [H,W,3] uint8 RGB, what a viewer that ignores transparency and ICC profiles shows.
      samples: the file's own samples: [H,W] uint8 (L) or uint16 (I;16), [H,W,2] (LA), [H,W,3] (RGB),
        [H,W,4] (RGBA, CMYK; 0 is no ink) uint8.
      mode: Pillow's name of the kind of samples.
      axis: [3] direction of the line in colour space that its pixels lie on (`colour.line`), which its masks
        keep to; None for a photo of several colours.
      format: a key of `formats.FORMATS`, one that can be written.
      settings: how the file was stored (compression, lossless, dpi), kept on writing.
      icc: ICC profile.
      metadata: what `keep_metadata` would keep.
      path: the file, which is never overwritten; None if the photo came from memory.
      notes: what the user should know of how the photo was read, one sentence each.
    """

    pixels: np.ndarray
    samples: np.ndarray
    mode: str
    axis: np.ndarray | None
    format: str
    settings: dict[str, Any]
    icc: bytes | None
    metadata: Metadata
    path: Path | None
    notes: tuple[str, ...]

    @classmethod
    def of_samples(
        cls,
        samples: np.ndarray,
        mode: str,
        format: str,
        *,
        settings: dict[str, Any] | None = None,
        icc: bytes | None = None,
        metadata: Metadata = Metadata(),
        notes: tuple[str, ...] = (),
    ) -> "Photo":
        """A photo from its samples; arguments as the attributes."""
        if mode == "I;16":
            samples = samples.astype(np.uint16)  # in this machine's byte order
            pixels = _repeat(((samples.astype(np.uint32) + 128) // 257).astype(np.uint8))
        elif mode == "L":
            pixels = _repeat(samples)
        elif mode == "LA":
            pixels = _repeat(samples[..., 0])
        elif mode == "CMYK":
            size = (samples.shape[1], samples.shape[0])
            pixels = np.asarray(Image.frombytes("CMYK", size, samples.tobytes()).convert("RGB"))
        else:
            pixels = np.ascontiguousarray(samples[..., :3])
        return cls(
            pixels=pixels,
            samples=samples,
            mode=mode,
            axis=colour.GREY if mode in ("L", "LA", "I;16") else colour.line(pixels),
            format=format,
            settings=settings or {},
            icc=icc,
            metadata=metadata,
            path=None,
            notes=notes,
        )

    @property
    def colours(self) -> np.ndarray:
        """[3,3] projection onto the colours that a mask may have (`types.Problem`)."""
        return colour.projection(self.axis)


def _repeat(grey: np.ndarray) -> np.ndarray:
    return np.repeat(grey[..., None], 3, axis=-1)
