"""The file formats of photos: what each can hold, its suffixes, and how its files begin."""

from pathlib import PurePath
from typing import NamedTuple

import pillow_heif
from PIL import features

from tipim_jax.photos.photo import PhotoError

pillow_heif.register_heif_opener(thumbnails=False)


class Format(NamedTuple):
    """A file format.

    Attributes:
      name: as people write it.
      modes: Pillow's names of what it can hold here; none if it is only read.
      suffixes: the usual one first.
      longest: pixels a side that its encoder takes.
      moves: whether a file of several pictures is an animation, and not a photo with others beside it.
      saved_as: the format that a photo is saved in instead, where this one is only read.
    """

    name: str
    modes: tuple[str, ...]
    suffixes: tuple[str, ...]
    longest: int = 2**31 - 1
    moves: bool = False
    saved_as: str | None = None


FORMATS = {
    "JPEG": Format("JPEG", ("L", "RGB", "CMYK"), (".jpg", ".jpeg", ".jpe", ".jfif"), 65_500),
    "PNG": Format("PNG", ("L", "LA", "I;16", "RGB", "RGBA"), (".png", ".apng"), moves=True),
    "WEBP": Format("WebP", ("L", "LA", "RGB", "RGBA"), (".webp",), 16_383, moves=True),
    "AVIF": Format("AVIF", ("L", "LA", "RGB", "RGBA"), (".avif", ".avifs"), 32_768, moves=True),
    "HEIF": Format("HEIC", ("L", "LA", "RGB", "RGBA"), (".heic", ".heif", ".hif"), 16_384),
    "TIFF": Format("TIFF", ("L", "LA", "I;16", "RGB", "RGBA", "CMYK"), (".tif", ".tiff")),
    "BMP": Format("BMP", ("L", "RGB"), (".bmp", ".dib")),
    "GIF": Format("GIF", (), (".gif",), moves=True, saved_as="PNG"),
}
_BY_SUFFIX = {suffix: name for name, format in FORMATS.items() for suffix in format.suffixes}
_BY_NAME = {suffix[1:]: name for suffix, name in _BY_SUFFIX.items()} | {
    n.lower(): n for n in FORMATS
}

FILMS = (".mp4", ".m4v", ".mov", ".webm", ".mkv")  # suffixes

_SIGNATURES = {
    b"\xff\xd8": "JPEG",
    b"\x89PNG": "PNG",
    b"GIF8": "GIF",
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
    b"II+\0": "TIFF",
    b"MM\0+": "TIFF",
    b"BM": "BMP",
    b"\x28\0\0\0": "BMP",  # without the header of the file
}
_HEIF_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"}
_HEIF_BRANDS |= {b"mif1", b"msf1"}


def known() -> str:
    """The names of all formats that are read, for a sentence."""
    *names, last = (format.name for format in FORMATS.values())
    return f"{', '.join(names)} or {last}"


def format_named(name: str) -> str:
    """The key of `FORMATS` for a name a user may give to write in (`jpg`, `TIFF`, `heic`).

    Raises:
      PhotoError: there is no such format, or it is only read.
    """
    key = _BY_NAME.get(name.lower().removeprefix("."), "")
    if key and FORMATS[key].modes:
        return key
    names = ", ".join(sorted(f.suffixes[0][1:] for f in FORMATS.values() if f.modes))
    problem = "is only read" if key else "is unknown"
    raise PhotoError(f"format {name!r} {problem}; choose one of {names}")


def is_film(name: str | PurePath) -> bool:
    """Whether the suffix of a file's name is one of a film."""
    return PurePath(name).suffix.lower() in FILMS


def is_photo(name: str | PurePath) -> bool:
    """Whether the suffix of a file's name is one of a photo."""
    return PurePath(name).suffix.lower() in _BY_SUFFIX


def other_suffix(name: str | PurePath, format: str | None = None) -> str | None:
    """The suffix that a photo saved under its own name needs instead of its own, None if it may keep it.

    Args:
      name: of the photo's file.
      format: the format it is saved in, a name `format_named` knows; the photo's own by default.

    Raises:
      PhotoError: as `format_named`.
    """
    suffix = PurePath(name).suffix.lower()
    own = _BY_SUFFIX.get(suffix)
    if format is not None:
        wanted: str | None = format_named(format)
    else:
        wanted = own and (FORMATS[own].saved_as or own)
    return None if wanted is None or wanted == own else FORMATS[wanted].suffixes[0]


def sniff(head: bytes) -> str | None:
    """The key of `FORMATS` that the first 64 bytes of a file promise, None if none."""
    if head[4:8] == b"ftyp":
        length = min(max(16, int.from_bytes(head[:4], "big")), len(head))
        brands = {head[8:12], *(head[i : i + 4] for i in range(16, length, 4))}
        if brands & {b"avif", b"avis"}:
            return "AVIF"
        return "HEIF" if brands & _HEIF_BRANDS else None
    if (head[:4], head[8:12]) == (b"RIFF", b"WEBP"):
        return "WEBP"
    return next((name for start, name in _SIGNATURES.items() if head.startswith(start)), None)


def check_codec(format: str) -> None:
    """Makes sure that this Pillow can read and write a format.

    Raises:
      PhotoError: it was built without it.
    """
    if format == "AVIF" and not features.check("avif"):
        raise PhotoError(
            'AVIF needs a Pillow that was built with it; run `pip install --upgrade "pillow>=11.3"`'
        )


def check_quality(quality: int) -> int:
    """The quality of a lossy encoder, if it is one.

    Raises:
      PhotoError: it is not within 1–100.
    """
    if not 1 <= quality <= 100:
        raise PhotoError(f"quality is {quality}; give a number from 1 to 100")
    return quality
