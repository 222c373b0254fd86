"""A folder of photos for the tests of the command: faces in files of many kinds, and bad files."""

import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image
from PIL.ExifTags import Base

from tipim_jax.photos import demo

LOSSLESS = ("plain.png", "sub/grey.png", "sub/deep/grey16.tif", "sub/same.webp", "sub/alpha.png")
GOOD = (*LOSSLESS, "ink.tif", "turned.jpg", "two.png")

# name -> what the one line about it says; a missing file is added where the album is used
BAD = {
    "bad/bomb.png": r"3600 megapixels|more than 120 megapixels",
    "bad/empty.jpg": r"is empty \(0 bytes\)$",
    "bad/half.jpg": r"is damaged or cut short",
    "bad/half.png": r"is damaged or cut short",
    "bad/text.jpg": r"is not a JPEG, PNG, WebP, AVIF, HEIC, TIFF, BMP or GIF photo, whatever its name$",
    "bad/over.png": r"has 130 megapixels \(13000×10000\), more than the 120",
}
# name -> why there is nothing to protect
FACELESS = {
    "bad/nobody.png": "no face was found; nothing to protect",
    "bad/small.png": "every face is too small; nothing to protect",
    "bad/vast.png": "no face was found; nothing to protect",
}


def face(name: str = "macron_2014.jpg") -> Image.Image:
    """A built-in photo of one face, 204 pixels wide."""
    path = next(path for path in demo.demo_photos() if path.name == name)
    with Image.open(path) as image:
        return image.convert("RGB").resize((204, round(image.height * 204 / image.width)))


def small_face() -> Image.Image:
    """A photo of a face of about 15 pixels."""
    image = Image.new("RGB", (320, 320), (120, 130, 140))
    image.paste(face().resize((44, 52), Image.Resampling.LANCZOS), (138, 130))
    return image


def write(folder: Path) -> None:
    """Writes the album."""
    for sub in ("sub/deep", "bad"):
        (folder / sub).mkdir(parents=True)
    image = face()
    image.save(folder / "plain.png")
    image.convert("L").save(folder / "sub/grey.png")
    sixteen = np.asarray(image.convert("L")).astype(np.uint16) * 257 + 5
    Image.fromarray(sixteen).save(folder / "sub/deep/grey16.tif")
    image.save(folder / "sub/same.webp", lossless=True, exact=True)
    clear = image.copy()
    clear.putalpha(Image.linear_gradient("L").resize(image.size))
    clear.save(folder / "sub/alpha.png")
    image.convert("CMYK").save(folder / "ink.tif")
    exif = Image.Exif()
    exif[Base.Orientation], exif[Base.Make] = 6, "Camera"
    image.transpose(Image.Transpose.ROTATE_90).save(folder / "turned.jpg", exif=exif, quality=92)
    two = Image.new("RGB", (360, 270), "white")
    two.paste(image, (0, 0))
    two.paste(face("sunak.jpg").resize((140, 169)), (215, 50))
    two.save(folder / "two.png")

    jpeg, png = (folder / "turned.jpg").read_bytes(), (folder / "plain.png").read_bytes()
    (folder / "bad/half.jpg").write_bytes(jpeg[: len(jpeg) // 2])
    (folder / "bad/half.png").write_bytes(png[: len(png) // 2])
    (folder / "bad/empty.jpg").write_bytes(b"")
    (folder / "bad/text.jpg").write_text("a shopping list\n" * 20)
    (folder / "bad/bomb.png").write_bytes(_bomb())
    Image.linear_gradient("L").save(folder / "bad/nobody.png")
    small_face().save(folder / "bad/small.png")
    Image.new("1", (10_000, 10_000)).save(folder / "bad/vast.png")
    Image.new("1", (13_000, 10_000)).save(folder / "bad/over.png")
    (folder / "notes.txt").write_text("no photo")


def _bomb() -> bytes:
    """A PNG of 60,000 × 60,000 pixels in a kilobyte."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        crc = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + crc

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0))
    body = chunk(b"IDAT", zlib.compress(bytes(1 << 20), 9))
    return b"\x89PNG\r\n\x1a\n" + head + body + chunk(b"IEND", b"")
