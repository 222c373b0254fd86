"""From the bytes of a photo file of any kind to a photo, or to one sentence that says what is wrong."""

import contextlib
import errno
import io
import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from PIL import Image

from tipim_jax.photos import formats, metadata
from tipim_jax.photos.metadata import Metadata
from tipim_jax.photos.photo import Photo, PhotoError

# A photo of 108 megapixels is read; what claims more is taken for a decompression bomb.
MAX_PIXELS = 120_000_000
# Each scan of a progressive JPEG goes over the whole photo, and takes a few bytes to ask for. Cameras and
# encoders need about ten.
MAX_SCANS = 100

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
_AV1_FLAGS = re.compile(rb"av1C..(.)", re.DOTALL)
ANIMATED = tuple(name for name, format in formats.FORMATS.items() if format.moves)
_HEAD = 65_536  # bytes within which a file tells what it is


def decode(source: bytes | BinaryIO, name: str = "photo", max_pixels: int = MAX_PIXELS) -> Photo:
    """Reads a photo of one of `formats.FORMATS` and turns it upright.

    Grey, palette, CMYK, transparency and 16-bit grey are understood; deeper colour is read as 8-bit, and of
    a file with several pictures the first. Either is said in `notes`.

    Args:
      source: the file, or its bytes; they and not its name decide on the format.
      name: what errors call it.
      max_pixels: larger photos are refused. Pillow's own limit (`Image.MAX_IMAGE_PIXELS`, twice)
        applies as well.

    Raises:
      PhotoError: it is empty, no photo, an animation, damaged, too large or of an unknown kind.
      OSError: the file cannot be read.
    """
    file = io.BytesIO(source) if isinstance(source, bytes) else source
    head = file.read(_HEAD)
    file.seek(0)
    if not head:
        raise PhotoError(f"{name} is empty (0 bytes)")
    format = formats.sniff(head[:64])
    if format is None and formats.is_film(name):
        raise PhotoError(f"{name} is a film; protect it with `tipim protect`, or save one picture")
    if format is None:
        raise PhotoError(f"{name} is not a {formats.known()} photo, whatever its name")
    formats.check_codec(format)
    with explained(name, max_pixels):
        loaded = _loaded(file, name, head, format, max_pixels)
    return Photo.of_samples(
        np.asarray(loaded.image),
        loaded.mode,
        formats.FORMATS[format].saved_as or format,
        settings=loaded.settings,
        icc=loaded.icc,
        metadata=loaded.metadata,
        notes=loaded.notes,
    )


def is_animation(path: Path) -> bool:
    """Whether a file holds moving pictures; False for what cannot be read, of which reading says more."""
    if not path.is_file():  # opening a pipe would wait without end
        return False
    with contextlib.suppress(Exception), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with Image.open(path, formats=ANIMATED) as image:
            return bool(getattr(image, "is_animated", False))
    return False


@contextlib.contextmanager
def explained(name: str, max_pixels: int = MAX_PIXELS) -> Iterator[None]:
    """Says in our words whatever decoders raise on hostile bytes, which is anything, even SyntaxError."""
    megapixels = _mega(max_pixels)
    with warnings.catch_warnings():
        # Pillow warns of size, which is checked here, and of odd metadata, which does not matter.
        warnings.simplefilter("ignore")
        try:
            yield
        except PhotoError:
            raise
        except Image.DecompressionBombError:
            raise PhotoError(
                f"{name} claims more than {megapixels} megapixels; make it smaller"
            ) from None
        except MemoryError:
            raise PhotoError(f"{name} does not fit into memory; make it smaller") from None
        except Exception as error:
            # The disk's errors have a number; EINVAL is a place in the file that cannot be.
            if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
                raise
            raise PhotoError(
                f"{name} is damaged or cut short; copy it again from where it came from"
            ) from error


class _Loaded(NamedTuple):
    """What Pillow makes of a file: `image` is upright and of one of the modes of `Photo`."""

    image: Image.Image
    mode: str
    settings: dict[str, Any]
    icc: bytes | None
    metadata: Metadata
    notes: tuple[str, ...]


def _loaded(file: BinaryIO, name: str, head: bytes, format: str, max_pixels: int) -> _Loaded:
    image = Image.open(file, formats=("BMP", "DIB") if format == "BMP" else (format,))
    pixels = image.width * image.height
    if pixels > max_pixels:
        raise PhotoError(
            f"{name} has {_mega(pixels)} megapixels ({image.width}×{image.height}), more than the "
            f"{_mega(max_pixels)} that are read; make it smaller"
        )
    notes = []
    kind = formats.FORMATS[format]
    if getattr(image, "is_animated", False):
        if kind.moves:
            raise PhotoError(
                f"{name} is an animation; protect the file with `tipim protect`, or save one picture as PNG"
            )
        notes.append("the file holds several pictures; only the first is protected and saved")
    if image.info.get("progressive") and _scans(file) > MAX_SCANS:
        raise PhotoError(
            f"{name} asks to be gone over more than {MAX_SCANS} times; save it anew as an ordinary JPEG"
        )
    if (depth := _depth(image, head)) > 8:
        notes.append(f"{depth}-bit colour is read and saved as 8-bit")
    image.load()
    mode = _own_mode(image, name, head)
    if kind.saved_as:
        notes.append(f"{kind.name} cannot hold the change; the photo is saved as {kind.saved_as}")
    elif image.mode in ("P", "PA"):
        notes.append(f"a palette cannot hold the change; the photo is saved as {mode}")
    # Pillow has turned TIFF files already, and has then removed the tag.
    turn = _UPRIGHT.get(metadata.orientation(image))
    upright = image if turn is None else image.transpose(turn)
    if upright.mode != mode and mode != "I;16":
        upright = upright.convert(mode)
    icc = image.info.get("icc_profile")
    return _Loaded(
        image=upright,
        mode=mode,
        settings=_settings(image, head, file),
        icc=icc if icc and isinstance(icc, bytes) else None,
        metadata=metadata.read(image, upright.size),
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


def _depth(image: Image.Image, head: bytes) -> int:
    """Bits per sample of a file whose colours are read as 8-bit; 8 if there are no more."""
    if image.format == "PNG":
        return head[24] if head[25] != 0 else 8
    if image.format == "HEIF":
        return image.info.get("bit_depth", 8)
    if image.format == "AVIF":
        flags = _AV1_FLAGS.search(head)
        return 10 if flags and flags[1][0] & 0x40 else 8
    bits = getattr(image, "tag_v2", {}).get(258, (8,))
    return max(bits) if len(bits) > 1 else 8


def _settings(image: Image.Image, head: bytes, file: BinaryIO) -> dict[str, Any]:
    settings: dict[str, Any] = {}
    with contextlib.suppress(TypeError, ValueError):  # a tag of another type
        dpi = tuple(float(d) for d in image.info.get("dpi", ()))
        if len(dpi) == 2 and all(0 < d < 1e6 for d in dpi):
            settings["dpi"] = dpi
    if image.format == "TIFF" and image.info.get("compression") in _LOSSLESS_TIFF:
        settings["compression"] = image.info["compression"]
    if image.format == "WEBP":
        settings["lossless"] = has_lossless_chunk(file)
    if image.mode == "I;16" and "transparency" in image.info:
        settings["transparency"] = image.info["transparency"]
    return settings


def has_lossless_chunk(file: BinaryIO) -> bool:
    """Whether a WebP file stores its picture, the first of an animation, in a VP8L chunk."""
    position = 12
    while True:
        file.seek(position)
        chunk = file.read(8)
        if len(chunk) < 8 or chunk[:4] in (b"VP8 ", b"VP8L"):
            return chunk[:4] == b"VP8L"
        if chunk[:4] == b"ANMF":  # a frame of an animation, which holds chunks of its own
            position += 24
            continue
        position += 8 + (size := int.from_bytes(chunk[4:], "little")) + size % 2


_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]", re.DOTALL)
_START_OF_SCAN, _END = 0xDA, 0xD9


def _scans(file: BinaryIO) -> int:
    """The scans of a JPEG file's first picture."""
    file.seek(0)
    data = file.read()
    position, scans = 2, 0
    while (marker := _MARKER.search(data, position)) and marker[0][1] != _END:
        scans += marker[0][1] == _START_OF_SCAN
        position = marker.end() + int.from_bytes(data[marker.end() : marker.end() + 2], "big")
    return scans


def _mega(pixels: int) -> str:
    return f"{pixels / 1e6:.4g}"
