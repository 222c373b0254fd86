"""What a photo's metadata says about it, reduced to what may be kept when the user asks to keep it.

Even then, nothing that holds a second picture of the unprotected face is kept: EXIF thumbnails, maker
notes (previews), Photoshop and IPTC blocks, XMP with thumbnails, depth or gain maps.
"""

import re
from typing import Any, NamedTuple

from PIL import Image
from PIL.ExifTags import IFD, Base
from PIL.PngImagePlugin import PngInfo

# Tags about the photo; those about the file's layout or its second picture are not among them.
_ABOUT = (
    Base.ImageDescription,
    Base.Make,
    Base.Model,
    Base.Software,
    Base.DateTime,
    Base.Artist,
    Base.HostComputer,
    Base.Copyright,
    Base.XPTitle,
    Base.XPComment,
    Base.XPAuthor,
    Base.XPKeywords,
    Base.XPSubject,
)
_PICTURES_IN_XMP = re.compile(rb"thumbnail|GImage|GDepth|hdrgm|Container:Directory", re.IGNORECASE)
_ORIENTATION_IN_XMP = re.compile(rb"(tiff:Orientation(?:=[\"']|>))\d")
_XMP_IN_PNG = "XML:com.adobe.xmp"
_XMP_IN_TIFF = 700


class Metadata(NamedTuple):
    """Metadata of an upright photo.

    Attributes:
      exif: EXIF block with GPS, without thumbnail, maker note and orientation; empty if none.
      xmp: XMP packet; empty if none.
      texts: comments, keyword -> text.
    """

    exif: bytes = b""
    xmp: bytes = b""
    texts: dict[str, str] = {}  # noqa: RUF012 (never mutated)


def orientation(image: Image.Image) -> int:
    """The EXIF orientation, 1 (upright) if there is none or it is damaged."""
    try:
        return image.getexif().get(Base.Orientation, 1)
    except Exception:  # damaged metadata raises anything, and is no reason to refuse the photo
        return 1


def read(image: Image.Image, size: tuple[int, int]) -> Metadata:
    """The metadata of a loaded image whose upright (width, height) is `size`; none if damaged."""
    try:
        return _read(image, size)
    except Exception:
        return Metadata()


def save_arguments(metadata: Metadata, format: str) -> dict[str, Any]:
    """The arguments of `Image.save` that write `metadata`, as far as the format can hold it."""
    if format == "BMP":
        return {}
    if format == "TIFF":
        exif = Image.Exif()
        exif.load(metadata.exif)
        if metadata.xmp:
            exif[_XMP_IN_TIFF] = metadata.xmp
        return {"exif": exif.tobytes()} if len(exif) else {}
    arguments: dict[str, Any] = {}
    if metadata.exif:
        arguments["exif"] = metadata.exif
    if format == "PNG":
        chunks = PngInfo()
        for key, text in metadata.texts.items():
            chunks.add_text(key, text)
        if metadata.xmp:
            chunks.add_itxt(_XMP_IN_PNG, metadata.xmp.decode("utf-8", "replace"))
        return arguments | {"pnginfo": chunks}
    if metadata.xmp:
        arguments["xmp"] = metadata.xmp
    if format == "JPEG" and "Comment" in metadata.texts:
        arguments["comment"] = metadata.texts["Comment"].encode()
    return arguments


def _read(image: Image.Image, size: tuple[int, int]) -> Metadata:
    exif = image.getexif()
    kept = Image.Exif()
    for tag in _ABOUT:
        if tag in exif:
            kept[tag] = exif[tag]
    details = dict(exif.get_ifd(IFD.Exif))
    details.pop(IFD.MakerNote, None)
    details.pop(IFD.Interop, None)
    for length_tag, length in zip((Base.ExifImageWidth, Base.ExifImageHeight), size, strict=True):
        if length_tag in details:
            details[length_tag] = length
    for ifd, content in ((IFD.Exif, details), (IFD.GPSInfo, dict(exif.get_ifd(IFD.GPSInfo)))):
        if content:
            kept[ifd] = content

    xmp = image.info.get("xmp") or image.info.get(_XMP_IN_PNG) or b""
    xmp = xmp.encode() if isinstance(xmp, str) else bytes(xmp)
    if _PICTURES_IN_XMP.search(xmp):
        xmp = b""

    texts = {
        key: str(text)
        for key, text in getattr(image, "text", {}).items()
        if key != _XMP_IN_PNG and not key.startswith("Raw profile")
    }
    if comment := image.info.get("comment"):
        texts["Comment"] = (
            comment.decode("utf-8", "replace") if isinstance(comment, bytes) else str(comment)
        )
    return Metadata(
        kept.tobytes() if len(kept) else b"", _ORIENTATION_IN_XMP.sub(rb"\g<1>1", xmp), texts
    )
