"""Photos of every kind and the bytes of their files, for tests."""

import io
import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image, ImageCms
from PIL.ExifTags import IFD, Base

from tipim_jax.photos.photo import Photo

HEIGHT, WIDTH = 36, 52

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def picture(mode: str) -> Image.Image:
    """A smooth picture with all four corners different, and transparency where the mode has it."""
    y, x = np.mgrid[:HEIGHT, :WIDTH].astype(float)
    red = 20 + 200 * x / WIDTH
    rgb = np.stack([red, 30 + 180 * y / HEIGHT, 240 - 90 * (x + y) / (WIDTH + HEIGHT)], 2)
    rgb = rgb.astype(np.uint8)
    if mode == "I;16":
        return Image.fromarray((red * 257 + 3 * y).astype(np.uint16))
    if mode in ("LA", "RGBA"):
        image = Image.fromarray(rgb).convert(mode)
        image.putalpha(Image.fromarray((255 * (x > 9)).astype(np.uint8)))
        return image
    if mode == "CMYK":
        ink = np.concatenate([255 - rgb, (2 * y[..., None]).astype(np.uint8)], 2)
        return Image.frombytes("CMYK", (WIDTH, HEIGHT), ink.tobytes())
    return Image.fromarray(rgb).convert(mode)


def save(path: Path, image: Image.Image, format: str, lossless: bool = True, **options) -> Path:
    if format == "WEBP":
        options |= {"lossless": lossless, "exact": True}
    if format == "JPEG":
        options |= {"quality": 95, "subsampling": 0}
    image.save(path, format, **options)
    return path


def change(photo: Photo, bound: int = 6) -> np.ndarray:
    """Protected pixels: noise in the middle, nothing elsewhere."""
    noise = np.random.default_rng(0).integers(-bound, bound + 1, photo.pixels.shape)
    noise[:12] = noise[-12:] = noise[:, :12] = noise[:, -12:] = 0
    if photo.axis is not None:
        noise[...] = noise[..., :1]
    return np.clip(photo.pixels.astype(int) + noise, 0, 255).astype(np.uint8)


def exif_of_a_phone() -> Image.Exif:
    exif = Image.Exif()
    exif[Base.Make] = "Camera"
    exif[Base.Orientation] = 6
    exif[IFD.Exif] = {
        Base.DateTimeOriginal: "2020:01:02 03:04:05",
        IFD.MakerNote: b"preview of the face",
        Base.ExifImageWidth: WIDTH,
        Base.ExifImageHeight: HEIGHT,
    }
    exif[IFD.GPSInfo] = {1: "N", 2: (52.0, 3.0, 1.0)}
    return exif


XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf tiff:Orientation="6" dc:title="holiday"/></x:xmpmeta>'


def file_of(image: Image.Image, format: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def png_of(image: Image.Image, **options) -> bytes:
    return file_of(image, "PNG", **options)


def chunks_of(header: bytes, data: bytes) -> bytes:
    def chunk(kind: bytes, content: bytes) -> bytes:
        body = kind + content
        return struct.pack(">I", len(content)) + body + struct.pack(">I", zlib.crc32(body))

    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")
    )


def raw_png(samples: np.ndarray, colour_type: int) -> bytes:
    """A 16-bit PNG, which Pillow cannot write in colour."""
    height, width = samples.shape[:2]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in samples)
    header = struct.pack(">IIBBBBB", width, height, 16, colour_type, 0, 0, 0)
    return chunks_of(header, zlib.compress(rows))
