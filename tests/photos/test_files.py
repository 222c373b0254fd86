"""Files that are damaged, absent, too large or in the way."""

import errno
import os
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from tests.photos.samples import (
    change,
    chunks_of,
    file_of,
    picture,
    png_of,
    save,
)
from tipim_jax.photos.decode import decode
from tipim_jax.photos.encode import encode
from tipim_jax.photos.files import read_photo, write_photo
from tipim_jax.photos.photo import PhotoError


def _truncated(format: str, keep: float) -> bytes:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    data = file_of(Image.fromarray(noise), format)
    return data[: int(len(data) * keep)]


def _bomb() -> bytes:
    """A PNG of 60,000 × 60,000 black pixels in a few kilobytes."""
    data = zlib.compress(bytes(1 << 20), 9)
    return chunks_of(struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0), data)


BAD = {
    "empty.jpg": (b"", "is empty"),
    "text.jpg": (b"this is a shopping list\n" * 20, "is not a JPEG, PNG"),
    "page.png": (b"<!doctype html><html></html>", "is not a JPEG, PNG"),
    "zeros.jpg": (bytes(1000), "is not a JPEG, PNG"),
    "header.jpg": (b"\xff\xd8\xff\xe0", "damaged or cut short"),
    "header.png": (b"\x89PNG\r\n\x1a\n", "damaged or cut short"),
    "header.webp": (b"RIFF\x10\0\0\0WEBPVP8 ", "damaged or cut short"),
    "header.tif": (b"II*\0\x08\0\0\0", "damaged or cut short"),
    "header.bmp": (b"BM" + bytes(30), "damaged or cut short"),
    "half.jpg": (lambda: _truncated("JPEG", 0.5), "damaged or cut short"),
    "half.png": (lambda: _truncated("PNG", 0.5), "damaged or cut short"),
    "half.webp": (lambda: _truncated("WEBP", 0.5), "damaged or cut short"),
    "half.tif": (lambda: _truncated("TIFF", 0.5), "damaged or cut short"),
    "half.bmp": (lambda: _truncated("BMP", 0.5), "damaged or cut short"),
    "tail.jpg": (lambda: _truncated("JPEG", 0.98), "damaged or cut short"),
    "bomb.png": (_bomb, r"more than 120 megapixels|3600 megapixels .*120"),
    "float.tif": (lambda: file_of(Image.new("F", (4, 4)), "TIFF"), r"unsupported kind \(F\)"),
    "lab.tif": (lambda: file_of(Image.new("LAB", (4, 4)), "TIFF"), r"unsupported kind \(LAB\)"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_files_get_one_clear_sentence(tmp_path, name, capfd):
    content, message = BAD[name]
    path = tmp_path / name
    path.write_bytes(content() if callable(content) else content)
    with pytest.raises(PhotoError, match=message) as error:
        read_photo(path)
    assert str(error.value).startswith(str(path))
    assert "\n" not in str(error.value)
    assert capfd.readouterr() == ("", "")


def test_missing_file_and_folder(tmp_path):
    with pytest.raises(PhotoError, match=r"nowhere.jpg does not exist$"):
        read_photo(tmp_path / "nowhere.jpg")
    with pytest.raises(PhotoError, match=r"is a folder"):
        read_photo(tmp_path)


def test_a_hundred_megapixels_are_read_and_more_are_not(tmp_path):
    path = tmp_path / "big.png"
    Image.new("1", (11_000, 10_000)).save(path)
    assert read_photo(path).pixels.shape == (10_000, 11_000, 3)
    Image.new("1", (13_000, 10_000)).save(path)
    with pytest.raises(PhotoError, match=r"has 130 megapixels \(13000×10000\), more than the 120"):
        read_photo(path)
    with pytest.raises(PhotoError, match=r"more than the 0.001 "):
        read_photo(save(tmp_path / "a.jpg", picture("RGB"), "JPEG"), max_pixels=1000)


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "HEIF"])
@pytest.mark.parametrize(
    "exif", [b"MM\0*\0\0\0\x08\0\x05garbage", b"nonsense", b"II*\0\xff\xff\xff\xff"]
)
def test_damaged_metadata_does_not_stop_a_photo(format, exif):
    photo = decode(file_of(picture("RGB"), format, exif=b"Exif\0\0" + exif))
    assert encode(photo, photo.pixels, keep_metadata=True)[0]


def test_nothing_is_overwritten_silently_and_the_input_never(tmp_path):
    path = save(tmp_path / "a.png", picture("RGB"), "PNG")
    before = path.read_bytes()
    photo = read_photo(path)
    for overwrite in (False, True):
        with pytest.raises(PhotoError, match="is the photo itself"):
            write_photo(photo, change(photo), path, overwrite=overwrite)
    (tmp_path / "link.png").symlink_to(path)
    with pytest.raises(PhotoError, match="is the photo itself"):
        write_photo(photo, change(photo), tmp_path / "link.png", overwrite=True)
    assert path.read_bytes() == before

    out = tmp_path / "deep" / "er" / "a.png"
    write_photo(photo, photo.pixels, out)
    with pytest.raises(PhotoError, match="exists already"):
        write_photo(photo, change(photo), out)
    np.testing.assert_array_equal(read_photo(out).pixels, photo.pixels)
    write_photo(photo, change(photo), out, overwrite=True)
    np.testing.assert_array_equal(read_photo(out).pixels, change(photo))


def test_a_failed_write_leaves_nothing(tmp_path, monkeypatch):
    photo = decode(png_of(picture("RGB")))
    monkeypatch.setattr(
        os, "fsync", lambda _: (_ for _ in ()).throw(OSError(errno.EIO, "Input/output error"))
    )
    with pytest.raises(PhotoError, match=r"cannot be written \(Input/output error\)"):
        write_photo(photo, photo.pixels, tmp_path / "out.png")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").write_text("")
    with pytest.raises(PhotoError, match="cannot be written"):
        write_photo(photo, photo.pixels, tmp_path / "file" / "out.png")


def test_too_large_for_the_format_is_one_sentence(tmp_path):
    photo = decode(png_of(Image.new("L", (16_400, 8))))
    with pytest.raises(
        PhotoError,
        match=r"16400×8 pixels cannot be written as WebP, which holds 16383 a side; .*png",
    ):
        write_photo(photo, photo.pixels, tmp_path / "out.webp", format="webp")
    assert list(tmp_path.iterdir()) == []
