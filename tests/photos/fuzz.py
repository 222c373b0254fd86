"""Damaged, spliced and hostile photo files, seeded; and a process of bounded memory that reads them all.

`python -m tests.photos.fuzz FIRST COUNT` reads the files numbered FIRST … FIRST + COUNT − 1 and prints how each
ended as JSON. A crash, a hang or another exception than `PhotoError` ends the process.
"""

import faulthandler
import io
import json
import resource
import struct
import sys
import time
import zlib
from collections.abc import Callable, Iterator
from functools import cache

import numpy as np
from PIL import Image

from tipim_jax.photos.decode import decode
from tipim_jax.photos.encode import encode
from tipim_jax.photos.photo import PhotoError

MEMORY = 3 * 2**30  # bytes of address space
SLOWEST = 10  # seconds of CPU a file may take

# (format, mode, options of Pillow)
_KINDS = (
    ("JPEG", "RGB", {}),
    ("JPEG", "L", {"progressive": True}),
    ("JPEG", "CMYK", {}),
    ("PNG", "RGB", {}),
    ("PNG", "RGBA", {}),
    ("PNG", "I;16", {}),
    ("PNG", "P", {}),
    ("WEBP", "RGB", {}),
    ("WEBP", "RGBA", {"lossless": True}),
    ("TIFF", "RGB", {"compression": "tiff_lzw"}),
    ("TIFF", "L", {"compression": "tiff_adobe_deflate"}),
    ("TIFF", "RGB", {"compression": "jpeg"}),
    ("TIFF", "CMYK", {}),
    ("BMP", "RGB", {}),
    ("BMP", "P", {}),
    ("GIF", "P", {}),
    ("AVIF", "RGB", {"speed": 10}),
    ("AVIF", "RGBA", {"speed": 10}),
    ("HEIF", "RGB", {}),
    ("HEIF", "L", {}),
)


@cache
def seeds() -> tuple[bytes, ...]:
    """A small good file of every kind, with metadata."""
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (24, 20, 3), np.uint8)
    smooth = np.asarray(Image.fromarray(noise).resize((40, 48)))
    exif = Image.Exif()
    exif[0x010F], exif[0x0112] = "Camera", 6
    exif[0x8769] = {0x9003: "2020:01:02 03:04:05", 0x927C: bytes(50)}
    files = []
    for format, mode, options in _KINDS:
        if mode == "I;16":
            image = Image.fromarray(smooth[..., 0].astype(np.uint16) * 257)
        else:
            image = Image.fromarray(smooth).convert(mode)
        if format not in ("BMP", "GIF") and "compression" not in options:
            options = options | {"exif": exif.tobytes(), "icc_profile": bytes(300)}
        buffer = io.BytesIO()
        image.save(buffer, format, **options)
        files.append(buffer.getvalue())
    return tuple(files)


def hostile() -> Iterator[bytes]:
    """Files that are made to hurt: sizes that are not there, lists that bite their tails, endless work."""
    sizes = (
        (65_535, 65_535),
        (2**31 - 1, 2**31 - 1),
        (2**31 - 1, 1),
        (1, 2**31 - 1),
        (0, 0),
        (0, 9),
    )
    for width, height in (*sizes, (10_000, 10_000), (12_000, 9_990)):
        for depth, kind in ((8, 2), (16, 6), (1, 0)):
            yield png(struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0))
        yield _bmp(width, height)
        yield b"GIF89a" + struct.pack("<HH", width % 65_536, height % 65_536) + bytes(400)
        for start in (b"II*\0", b"II+\0"):
            yield start + _tiff(width, height, start)
        for start in range(0, len(seeds()[0]), 97):  # sizes where a size may stand
            data = bytearray(seeds()[0])
            data[start : start + 4] = struct.pack(">HH", width % 65_536, height % 65_536)
            yield bytes(data)
    for kind in (b"tEXt", b"zTXt", b"iTXt", b"iCCP", b"eXIf"):
        bomb = zlib.compress(bytes(64 << 20), 9)
        yield png(struct.pack(">IIBBBBB", 4, 4, 8, 0, 0, 0, 0), kind + b"a\0\0" + bomb)
    for length in (8, 6):  # a list of directories that points at itself; a long one
        yield b"II*\0\x08\0\0\0" + struct.pack("<H", 0) + struct.pack("<L", length)
    chain = [struct.pack("<HL", 0, 8 + 6 * (i + 1)) for i in range(60_000)]
    yield b"II*\0\x08\0\0\0" + b"".join(chain)
    yield _many_scans()
    for boxes in (
        b"",
        struct.pack(">I4s", 0, b"meta"),
        struct.pack(">I4s", 2**32 - 1, b"meta") * 9,
    ):
        for brand in (b"heic", b"avif", b"mif1", b"avis", b"msf1"):
            yield struct.pack(">I4s4sI4s", 20, b"ftyp", brand, 0, brand) + boxes + bytes(200)


def mutated(number: int) -> bytes:
    """The `number`-th damaged file: bytes flipped, cut, doubled, or of another file."""
    rng = np.random.default_rng(number)
    files = seeds()
    data = bytearray(files[number % len(files)])
    way = rng.integers(6)
    if way == 0:
        return bytes(data[: rng.integers(len(data))])
    if way == 1:  # any bytes
        for place in rng.integers(0, len(data), rng.integers(1, 30)):
            data[place] = rng.integers(256)
    elif way == 2:  # bytes of the head, where sizes and tables are
        for place in rng.integers(0, min(300, len(data)), rng.integers(1, 8)):
            data[place] = rng.integers(256)
    elif way == 3:  # numbers that are larger or smaller than anybody expects
        for place in rng.integers(0, len(data) - 4, rng.integers(1, 5)):
            data[place : place + 4] = rng.choice([b"\xff" * 4, b"\0" * 4, b"\x7f" + b"\xff" * 3])
    elif way == 4:  # a part twice, or missing
        first, last = sorted(rng.integers(0, len(data), 2))
        data[first:last] = data[first:last] * rng.integers(3)
    else:  # the tail of another file
        other = files[rng.integers(len(files))]
        data[rng.integers(len(data)) :] = other[rng.integers(len(other)) :]
    return bytes(data)


def png(header: bytes, *chunks: bytes) -> bytes:
    """A PNG with these chunks (kind and content), and little in its picture."""

    def chunk(body: bytes) -> bytes:
        return struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))

    parts = (b"IHDR" + header, *chunks, b"IDAT" + zlib.compress(bytes(1 << 16)), b"IEND")
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(part) for part in parts)


def _bmp(width: int, height: int) -> bytes:
    info = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 24, 0, 0, 0, 0, 0, 0)
    return b"BM" + struct.pack("<IHHI", 100, 0, 0, 54) + info + bytes(100)


def _tiff(width: int, height: int, start: bytes) -> bytes:
    tags = (
        (256, width),
        (257, height),
        (258, 8),
        (259, 1),
        (262, 1),
        (273, 8),
        (277, 1),
        (279, 2**31),
    )
    entries = b"".join(struct.pack("<HHLL", tag, 4, 1, value) for tag, value in tags)
    first = b"\x08\0\0\0" if start[2:3] == b"*" else struct.pack("<HHQ", 8, 0, 16)
    return first + struct.pack("<H", len(tags)) + entries + bytes(4)


def _many_scans(scans: int = 20_000, size: int = 4_000) -> bytes:
    """A progressive JPEG that asks to be gone over again and again."""
    buffer = io.BytesIO()
    Image.new("L", (size, size)).save(buffer, "JPEG", progressive=True)
    data = buffer.getvalue()
    last = data.rindex(b"\xff\xda")
    return data[:last] + data[last:-2] * (scans * 20 // (len(data) - last) + 1) + data[-2:]


def outcome(data: bytes) -> str:
    """`photo`, or the one sentence."""
    try:
        photo = decode(data, "x")
        for keep in (False, True):
            encode(photo, photo.pixels, keep_metadata=keep)
    except PhotoError as error:
        return str(error)
    return "photo"


def main(first: int, count: int) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    planned: list[Callable[[], bytes]] = [
        lambda n=n: mutated(n) for n in range(first, first + count)
    ]
    if first == 0:
        planned += [lambda data=data: data for data in hostile()]
    seen, slowest = [], 0.0
    for make in planned:
        data = make()
        faulthandler.dump_traceback_later(10 * SLOWEST, exit=True)
        started = time.process_time()
        seen.append(outcome(data))
        slowest = max(slowest, time.process_time() - started)
        faulthandler.cancel_dump_traceback_later()
    print(json.dumps({"outcomes": seen, "slowest": slowest}))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
