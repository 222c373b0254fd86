"""From a photo and its protected pixels to the bytes of a file with nothing but the pixels changed."""

import functools
import io

import numpy as np
from PIL import Image

from tipim_jax.photos import formats, metadata
from tipim_jax.photos.formats import FORMATS
from tipim_jax.photos.photo import Photo, PhotoError

QUALITY = 95


def encode(
    photo: Photo,
    protected: np.ndarray,
    *,
    format: str | None = None,
    quality: int = QUALITY,
    subsampling: str = "4:4:4",
    keep_metadata: bool = False,
) -> tuple[bytes, tuple[str, ...]]:
    """The file of a protected photo: the change of the RGB pixels, made in the file's own samples.

    Where the RGB pixels did not change, the samples do not change by a single level. 16-bit grey
    moves by 257 per level; inks move to the value that decodes to the wanted level, or the nearest
    possible one on its way. The ICC profile and the resolution are kept. JPEG, HEIC, AVIF and lossy WebP
    then add the losses of their encoder.

    Args:
      photo: as read.
      protected: [H,W,3] uint8, upright; of a photo with one channel (L, LA, I;16) its mean is saved.
      format: a name `format_named` knows; the photo's own by default.
      quality: 1–100, for lossy formats.
      subsampling: chroma subsampling of JPEG ("4:4:4" is none), HEIC and AVIF.
      keep_metadata: keeps EXIF, GPS, XMP and comments (see `metadata`), which are dropped otherwise.

    Returns:
      The file's bytes and notes for the user about what the format could not hold.

    Raises:
      PhotoError: the format cannot hold the photo (transparency, size) or is not available.
    """
    name = formats.format_named(format) if format else photo.format
    formats.check_quality(quality)
    formats.check_codec(name)
    _check_size(photo, name)
    samples = _change(photo, protected)
    samples, mode, notes = _reduce(photo, samples, protected, name)

    arguments = metadata.save_arguments(photo.metadata, name) if keep_metadata else {}
    if photo.icc and _profile_fits(photo, mode, name):
        arguments["icc_profile"] = photo.icc
    if "dpi" in photo.settings and name in ("JPEG", "PNG", "TIFF", "BMP"):
        arguments["dpi"] = photo.settings["dpi"]
    if name == "JPEG":
        arguments |= {"quality": quality, "subsampling": subsampling}
    elif name == "PNG" and mode == "I;16" and "transparency" in photo.settings:
        arguments["transparency"] = photo.settings["transparency"]
    elif name == "WEBP" and photo.settings.get("lossless"):
        arguments |= {"lossless": True, "exact": True}
    elif name == "WEBP":
        arguments |= {"quality": quality, "exact": True}
    elif name == "AVIF":
        # With more threads the bytes depend on their number.
        arguments |= {"quality": quality, "max_threads": 1}
        arguments["subsampling"] = "4:0:0" if mode == "L" else subsampling
    elif name == "TIFF":
        # libtiff, which compresses, cannot write the directories of EXIF.
        usual = photo.settings.get("compression", "tiff_adobe_deflate")
        arguments["compression"] = "raw" if "exif" in arguments else usual
    elif name == "HEIF":
        arguments |= {"quality": quality, "chroma": subsampling.replace(":", "")}

    buffer = io.BytesIO()
    image = _image(samples, mode)
    try:
        image.save(buffer, name, **arguments)
    except (OSError, ValueError, RuntimeError) as error:
        raise PhotoError(
            f"the photo cannot be written as {FORMATS[name].name}; choose format png"
        ) from error
    return buffer.getvalue(), notes


def _check_size(photo: Photo, format: str) -> None:
    height, width = photo.pixels.shape[:2]
    if max(height, width) > FORMATS[format].longest:
        raise PhotoError(
            f"the photo of {width}×{height} pixels cannot be written as {FORMATS[format].name}, which "
            f"holds {FORMATS[format].longest} a side; choose format png"
        )


def _change(photo: Photo, protected: np.ndarray) -> np.ndarray:
    """The photo's own samples after the change of its RGB pixels."""
    if protected.shape != photo.pixels.shape or protected.dtype != np.uint8:
        raise ValueError(
            f"protected pixels are {protected.dtype} {protected.shape} instead of uint8 "
            f"{photo.pixels.shape}"
        )
    if photo.mode == "RGB":
        return protected
    if photo.mode == "L":
        return _one_channel(protected)
    if photo.mode == "LA":
        return np.stack([_one_channel(protected), photo.samples[..., 1]], axis=2)
    if photo.mode == "RGBA":
        return np.concatenate([protected, photo.samples[..., 3:]], axis=2)
    if photo.mode == "I;16":
        change = _one_channel(protected).astype(np.int32) - photo.pixels[..., 0]
        return np.clip(photo.samples + 257 * change, 0, 65535).astype(np.uint16)
    inks, black = photo.samples[..., :3], photo.samples[..., 3:]
    changed = np.where(protected == photo.pixels, inks, _ink_table()[black, protected])
    return np.concatenate([changed, black], axis=2)


def _one_channel(pixels: np.ndarray) -> np.ndarray:
    """[H,W] uint8, the mean of [H,W,3], which is as it was where all three are equal."""
    total = pixels.sum(-1, dtype=np.uint16)
    return ((total + 1) // 3).astype(np.uint8)


@functools.cache
def _ink_table() -> np.ndarray:
    """[256,256] uint8: the ink that decodes to a level, for (black, level); none if all is too dark."""
    ink, black = np.meshgrid(np.arange(256, dtype=np.uint8), np.arange(256, dtype=np.uint8))
    cmyk = np.stack([ink, ink, ink, black], axis=2)
    level = np.asarray(_image(cmyk, "CMYK").convert("RGB"))[..., 0]
    table = np.zeros((256, 256), np.uint8)
    table[black, level] = ink
    return table


def _image(samples: np.ndarray, mode: str) -> Image.Image:
    samples = np.ascontiguousarray(samples)
    if mode != "CMYK":  # the others follow from shape and type
        return Image.fromarray(samples)
    return Image.frombuffer(mode, samples.shape[1::-1], samples, "raw", mode, 0, 1)


def _reduce(
    photo: Photo, samples: np.ndarray, protected: np.ndarray, format: str
) -> tuple[np.ndarray, str, tuple[str, ...]]:
    """The samples in a mode that the format can hold."""
    name = FORMATS[format].name
    mode, modes, notes = photo.mode, FORMATS[format].modes, []
    if mode not in modes and mode == "I;16":
        samples, mode = _one_channel(protected), "L"
        notes.append(f"16-bit grey is saved as 8-bit, since {name} holds no more")
    if mode not in modes and mode == "CMYK":
        samples, mode = protected, "RGB"
        without = " without its ICC profile" if photo.icc else ""
        notes.append(f"CMYK is saved as RGB{without}, since {name} holds no inks")
    if mode not in modes:
        if samples[..., -1].min() < 255:
            raise PhotoError(f"{name} cannot hold the photo's transparency; choose format png")
        samples, mode = (samples[..., 0], "L") if mode == "LA" else (samples[..., :3], "RGB")
    return samples, mode, tuple(notes)


def _profile_fits(photo: Photo, mode: str, format: str) -> bool:
    """A profile stays with the kind of colour it came with; WebP turns grey into RGB."""
    if mode == photo.mode and format in (photo.format, "JPEG", "PNG", "TIFF"):
        return True
    space = (photo.icc or b"")[16:20]
    if mode == "CMYK":
        return space == b"CMYK"
    return space == (b"RGB " if "RGB" in mode or format == "WEBP" else b"GRAY")
