"""Photos that programs hold in memory: NumPy arrays and Pillow images."""

import os

import numpy as np
from PIL import Image, ImageOps

from tipim_jax.photos import metadata
from tipim_jax.photos.files import read_photo
from tipim_jax.photos.photo import Photo, PhotoError

Picture = str | os.PathLike[str] | Image.Image | np.ndarray  # [H,W,3] uint8 RGB, upright

_FORMAT = "PNG"  # of photos that came from no file: it keeps every level
_KEPT = ("L", "LA", "RGB", "RGBA")


def photo_of(picture: Picture) -> Photo:
    """The photo that a picture is.

    Args:
      picture: a file; or an image of Pillow, turned upright as its EXIF says; or [H,W,3] uint8 RGB,
        or [H,W] uint8, a grey one.

    Raises:
      PhotoError: it is none of these, or as `files.read_photo`.
    """
    if isinstance(picture, np.ndarray):
        return _of_array(picture)
    if isinstance(picture, Image.Image):
        return _of_image(picture)
    if isinstance(picture, str | os.PathLike):
        return read_photo(picture)
    raise PhotoError(
        f"a photo cannot be a {type(picture).__name__}; give a path, a Pillow image or a NumPy array"
    )


def name_of(picture: Picture, otherwise: str = "photo") -> str:
    """What messages call a picture: its path if it is a file."""
    return str(picture) if isinstance(picture, str | os.PathLike) else otherwise


def _of_array(pixels: np.ndarray) -> Photo:
    grey = pixels.ndim == 2
    if pixels.dtype != np.uint8 or not (grey or pixels.shape[2:] == (3,)) or pixels.size == 0:
        shape = "×".join(map(str, pixels.shape))
        raise PhotoError(
            f"an array of {shape} {pixels.dtype} is no photo; give [H,W,3] or [H,W] of uint8"
        )
    return Photo.of_samples(np.ascontiguousarray(pixels), "L" if grey else "RGB", _FORMAT)


def _of_image(image: Image.Image) -> Photo:
    try:
        upright = ImageOps.exif_transpose(image)
        if upright.mode == "1":
            upright = upright.convert("L")
        if upright.mode not in _KEPT:
            upright = upright.convert("RGBA" if upright.has_transparency_data else "RGB")
        samples = np.asarray(upright)
    except (OSError, ValueError) as error:
        raise PhotoError(f"the Pillow image cannot be read ({error})") from error
    icc = image.info.get("icc_profile")
    return Photo.of_samples(
        samples,
        upright.mode,
        _FORMAT,
        icc=icc if isinstance(icc, bytes) and icc else None,
        metadata=metadata.read(image, upright.size),
    )
