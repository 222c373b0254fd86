"""Reads photo files of every common kind, and writes them back with nothing but the pixels changed."""

import functools
import io
import os
import warnings
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from PIL import Image, UnidentifiedImageError

from tipim_jax.errors import UserError
from tipim_jax.photos import colour
from tipim_jax.photos import metadata as about
from tipim_jax.photos.metadata import Metadata

# A photo of 108 megapixels is read; what claims more is taken for a decompression bomb.
MAX_PIXELS = 120_000_000
QUALITY = 95


class PhotoError(UserError):
    """What is wrong with one photo or folder, and what to do, in one sentence."""


class Format(NamedTuple):
    """A file format: the modes it can hold here, and its suffixes, the usual one first."""

    modes: tuple[str, ...]
    suffixes: tuple[str, ...]


FORMATS = {
    "JPEG": Format(("L", "RGB", "CMYK"), (".jpg", ".jpeg", ".jpe", ".jfif")),
    "PNG": Format(("L", "LA", "I;16", "RGB", "RGBA"), (".png",)),
    "WEBP": Format(("L", "LA", "RGB", "RGBA"), (".webp",)),
    "TIFF": Format(("L", "LA", "I;16", "RGB", "RGBA", "CMYK"), (".tif", ".tiff")),
    "BMP": Format(("L", "RGB"), (".bmp", ".dib")),
    "HEIF": Format(("L", "LA", "RGB", "RGBA"), (".heic", ".heif", ".hif")),
}
_NAMES = {suffix[1:]: name for name, format in FORMATS.items() for suffix in format.suffixes} | {
    name.lower(): name for name in FORMATS
}

_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_LOSSLESS_TIFF = ("raw", "tiff_lzw", "tiff_adobe_deflate", "packbits", "lzma", "zstd")
_HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")


class Photo(NamedTuple):
    """A photo as it is on disk, upright.

    Attributes:
      pixels: [H,W,3] uint8 RGB, what a viewer that ignores transparency and ICC profiles shows.
      samples: the file's own samples: [H,W] uint8 (L) or uint16 (I;16), [H,W,2] (LA), [H,W,3] (RGB),
        [H,W,4] (RGBA, CMYK; 0 is no ink) uint8.
      mode: Pillow's name of the kind of samples.
      axis: [3] direction of the line in colour space that its pixels lie on (`colour.line`), which its masks
        keep to; None for a photo of several colours.
      format: a key of `FORMATS`.
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

    @property
    def colours(self) -> np.ndarray:
        """[3,3] projection onto the colours that a mask may have (`types.Problem`)."""
        return colour.projection(self.axis)


def format_named(name: str) -> str:
    """The key of `FORMATS` for a name a user may give (`jpg`, `TIFF`, `heic`).

    Raises:
      PhotoError: there is no such format.
    """
    try:
        return _NAMES[name.lower().removeprefix(".")]
    except KeyError:
        known = ", ".join(sorted(format.suffixes[0][1:] for format in FORMATS.values()))
        raise PhotoError(f"format {name!r} is unknown; choose one of {known}") from None


def check_quality(quality: int) -> int:
    """The quality of a lossy encoder, if it is one.

    Raises:
      PhotoError: it is not within 1–100.
    """
    if not 1 <= quality <= 100:
        raise PhotoError(f"quality is {quality}; give a number from 1 to 100")
    return quality


def read_photo(path: str | os.PathLike[str], max_pixels: int = MAX_PIXELS) -> Photo:
    """Reads a JPEG, PNG, WebP, TIFF, BMP or (with pillow-heif) HEIC file and turns it upright.

    Grey, palette, CMYK, transparency and 16-bit grey are understood; 16-bit colour is read as 8-bit.
    Of a file with several pictures the first is read. Either is said in `notes`.

    Args:
      path: the file; its content and not its name decides on the format.
      max_pixels: larger photos are refused. Pillow's own limit (`Image.MAX_IMAGE_PIXELS`, twice)
        applies as well.

    Raises:
      PhotoError: the file is missing, empty, no photo, damaged, too large or of an unknown kind.
    """
    path = Path(path)
    try:
        if path.is_dir():
            raise PhotoError(f"{path} is a folder, not a photo")
        with path.open("rb") as file:
            return _decode(file, str(path), max_pixels)._replace(path=path)
    except FileNotFoundError:
        raise PhotoError(f"{path} does not exist") from None
    except OSError as error:
        raise PhotoError(f"{path} cannot be read ({error.strerror or error})") from error


def decode(data: bytes, name: str = "photo", max_pixels: int = MAX_PIXELS) -> Photo:
    """`read_photo` for a file in memory; `name` is what errors call it."""
    return _decode(io.BytesIO(data), name, max_pixels)


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
    possible one on its way. The ICC profile and the resolution are kept. JPEG, HEIC and lossy WebP
    then add the losses of their encoder.

    Args:
      photo: as read.
      protected: [H,W,3] uint8, upright; of a photo with one channel (L, LA, I;16) its mean is saved.
      format: a name `format_named` knows; the photo's own by default.
      quality: 1–100, for lossy formats.
      subsampling: chroma subsampling of JPEG ("4:4:4" is none) and HEIC.
      keep_metadata: keeps EXIF, GPS, XMP and comments (see `metadata`), which are dropped otherwise.

    Returns:
      The file's bytes and notes for the user about what the format could not hold.

    Raises:
      PhotoError: the format cannot hold the photo (transparency, size) or is not available.
    """
    name = format_named(format) if format else photo.format
    check_quality(quality)
    samples = _change(photo, protected)
    samples, mode, notes = _reduce(photo, samples, protected, name)

    arguments = about.save_arguments(photo.metadata, name) if keep_metadata else {}
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
    elif name == "TIFF":
        arguments["compression"] = photo.settings.get("compression", "tiff_adobe_deflate")
    elif name == "HEIF":
        _use_heif("writing HEIC")
        arguments |= {"quality": quality, "chroma": subsampling.replace(":", "")}

    buffer = io.BytesIO()
    image = _image(samples, mode)
    try:
        image.save(buffer, name, **arguments)
    except (OSError, ValueError, RuntimeError) as error:
        raise PhotoError(f"the photo cannot be written as {name} ({error})") from error
    return buffer.getvalue(), notes


def write_photo(
    photo: Photo,
    protected: np.ndarray,
    path: str | os.PathLike[str],
    *,
    format: str | None = None,
    quality: int = QUALITY,
    subsampling: str = "4:4:4",
    keep_metadata: bool = False,
    overwrite: bool = False,
) -> tuple[str, ...]:
    """Writes a protected photo (see `encode`) in one go: the whole file or none.

    Returns:
      Notes for the user.

    Raises:
      PhotoError: as `encode`; or the file exists and `overwrite` is not set; or it is the photo
        itself, which is never overwritten; or it cannot be written.
    """
    path = Path(path)
    if photo.path is not None and path.exists() and path.samefile(photo.path):
        raise PhotoError(f"{path} is the photo itself; choose another output folder")
    data, notes = encode(
        photo,
        protected,
        format=format,
        quality=quality,
        subsampling=subsampling,
        keep_metadata=keep_metadata,
    )
    write_atomically(path, data, overwrite=overwrite)
    return notes


def write_atomically(path: Path, data: bytes, *, overwrite: bool = False) -> None:
    """Writes a file, and the folders above it, so that it never exists half-written.

    Raises:
      PhotoError: the file exists and `overwrite` is not set, or the disk refuses.
    """
    if path.exists() and not overwrite:
        raise PhotoError(f"{path} exists already; choose another output folder or overwrite it")
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with temporary.open("xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise PhotoError(f"{path} cannot be written ({error.strerror or error})") from error


# Reading


def _decode(file: BinaryIO, name: str, max_pixels: int) -> Photo:
    head = file.read(64)
    file.seek(0)
    if not head:
        raise PhotoError(f"{name} is empty (0 bytes)")
    formats = ["JPEG", "PNG", "WEBP", "TIFF", "BMP", "DIB"]
    if _heif(head):
        _use_heif(f"reading {name}")
        formats = ["HEIF"]
    with warnings.catch_warnings():
        # Pillow warns of size, which is checked here, and of odd metadata, which does not matter.
        warnings.simplefilter("ignore")
        try:
            image = Image.open(file, formats=formats)
            if image.width * image.height > max_pixels:
                raise PhotoError(
                    f"{name} has {_mega(image.width * image.height)} megapixels ({image.width}×"
                    f"{image.height}), more than the {_mega(max_pixels)} that are read; make it smaller"
                )
            return _understand(image, name, head, file)
        except PhotoError:
            raise
        except Image.DecompressionBombError:
            raise PhotoError(
                f"{name} claims more than {_mega(max_pixels)} megapixels; make it smaller"
            ) from None
        except UnidentifiedImageError:
            if _signed(head):
                raise PhotoError(f"{name} is damaged or cut short") from None
            raise PhotoError(
                f"{name} is not a JPEG, PNG, WebP, TIFF, BMP or HEIC photo, whatever its name"
            ) from None
        except MemoryError:
            raise PhotoError(f"{name} does not fit into memory; make it smaller") from None
        except Exception as error:  # decoders raise anything on hostile bytes, even SyntaxError
            raise PhotoError(f"{name} is damaged or cut short ({error})") from error


def _understand(image: Image.Image, name: str, head: bytes, file: BinaryIO) -> Photo:
    notes = []
    if getattr(image, "n_frames", 1) > 1:
        notes.append("the file holds several pictures; only the first is protected and saved")
    if _sixteen_bit_colour(image, head):
        notes.append("16-bit colour is read and saved as 8-bit")
    image.load()
    mode = _own_mode(image, name, head)
    if image.mode in ("P", "PA"):
        notes.append(f"a palette cannot hold the change; the photo is saved as {mode}")
    # Pillow has turned TIFF files already, and has then removed the tag.
    turn = _UPRIGHT.get(about.orientation(image))
    upright = image if turn is None else image.transpose(turn)
    if upright.mode != mode and mode != "I;16":
        upright = upright.convert(mode)

    samples = np.asarray(upright)
    if mode == "I;16":
        samples = samples.astype(np.uint16)  # in this machine's byte order
        pixels = _repeat(((samples.astype(np.uint32) + 128) // 257).astype(np.uint8))
    elif mode == "L":
        pixels = _repeat(samples)
    elif mode == "LA":
        pixels = _repeat(samples[..., 0])
    elif mode == "CMYK":
        pixels = np.asarray(upright.convert("RGB"))
    else:
        pixels = np.ascontiguousarray(samples[..., :3])
    return Photo(
        pixels=pixels,
        samples=samples,
        mode=mode,
        axis=colour.GREY if mode in ("L", "LA", "I;16") else colour.line(pixels),
        format={"MPO": "JPEG", "DIB": "BMP"}.get(str(image.format), str(image.format)),
        settings=_settings(image, head, file),
        icc=image.info.get("icc_profile") or None,
        metadata=about.read(image, upright.size),
        path=None,
        notes=tuple(notes),
    )


def _own_mode(image: Image.Image, name: str, head: bytes) -> str:
    """The one of the six modes of `Photo` that holds the image without loss."""
    if image.mode.startswith("I;16"):
        return "I;16"
    alpha = image.has_transparency_data
    grey_png = head.startswith(b"\x89PNG") and head[25] in (0, 4)  # 16-bit LA arrives as RGBA
    if image.mode in ("1", "L", "LA", "La") or grey_png:
        return "LA" if alpha else "L"
    if image.mode in ("P", "PA", "RGB", "RGBA", "RGBX", "RGBa", "YCbCr"):
        return "RGBA" if alpha else "RGB"
    if image.mode == "CMYK":
        return "CMYK"
    raise PhotoError(f"{name} has colours of an unsupported kind ({image.mode}); save it as RGB")


def _sixteen_bit_colour(image: Image.Image, head: bytes) -> bool:
    if image.format == "PNG":
        return head[24] == 16 and head[25] != 0
    bits = getattr(image, "tag_v2", {}).get(258, (8,))
    return len(bits) > 1 and max(bits) > 8


def _settings(image: Image.Image, head: bytes, file: BinaryIO) -> dict[str, Any]:
    settings: dict[str, Any] = {}
    dpi = image.info.get("dpi", (0, 0))
    if all(0 < float(d) < 1e6 for d in dpi):
        settings["dpi"] = tuple(float(d) for d in dpi)
    if image.format == "TIFF" and image.info.get("compression") in _LOSSLESS_TIFF:
        settings["compression"] = image.info["compression"]
    if image.format == "WEBP":
        settings["lossless"] = _has_lossless_chunk(file)
    if image.mode == "I;16" and "transparency" in image.info:
        settings["transparency"] = image.info["transparency"]
    return settings


def _has_lossless_chunk(file: BinaryIO) -> bool:
    """Whether a WebP file stores its picture in a VP8L chunk."""
    position = 12
    while True:
        file.seek(position)
        chunk = file.read(8)
        if len(chunk) < 8 or chunk[:4] in (b"VP8 ", b"VP8L", b"ANMF"):
            return chunk[:4] == b"VP8L"
        position += 8 + (size := int.from_bytes(chunk[4:], "little")) + size % 2


def _signed(head: bytes) -> bool:
    """Whether the first bytes promise one of the known formats."""
    signatures = (b"\xff\xd8", b"\x89PNG", b"II*\0", b"MM\0*", b"BM")
    return (
        head.startswith(signatures) or (head[:4], head[8:12]) == (b"RIFF", b"WEBP") or _heif(head)
    )


def _heif(head: bytes) -> bool:
    return head[4:8] == b"ftyp" and any(brand in head for brand in _HEIF_BRANDS)


def _use_heif(purpose: str) -> None:
    try:
        import pillow_heif
    except ImportError:
        raise PhotoError(f'{purpose} needs `pip install "tipim-jax[heic]"`') from None
    pillow_heif.register_heif_opener(thumbnails=False)


def _repeat(grey: np.ndarray) -> np.ndarray:
    return np.repeat(grey[..., None], 3, axis=2)


def _one_channel(pixels: np.ndarray) -> np.ndarray:
    """[...] uint8: the mean of [...,3], which is as it was where all three are equal."""
    total = pixels.sum(-1, dtype=np.uint16)
    return ((total + 1) // 3).astype(np.uint8)


def _mega(pixels: int) -> str:
    return f"{pixels / 1e6:.4g}"


# Writing


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
    mode, modes, notes = photo.mode, FORMATS[format].modes, []
    if mode not in modes and mode == "I;16":
        samples, mode = _one_channel(protected), "L"
        notes.append(f"16-bit grey is saved as 8-bit, since {format} holds no more")
    if mode not in modes and mode == "CMYK":
        samples, mode = protected, "RGB"
        notes.append(f"CMYK is saved as RGB without its ICC profile, since {format} holds no inks")
    if mode not in modes:
        if samples[..., -1].min() < 255:
            raise PhotoError(f"{format} cannot hold the photo's transparency; choose format png")
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
