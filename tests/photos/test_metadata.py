"""What travels with the pixels: orientation, metadata, profiles, resolution."""

import io
import struct

import numpy as np
import pytest
from PIL import Image, PngImagePlugin
from PIL.ExifTags import IFD, Base

from tests.photos.samples import (
    HEIGHT,
    SRGB,
    WIDTH,
    XMP,
    exif_of_a_phone,
    file_of,
    picture,
    png_of,
    save,
)
from tipim_jax.photos import decode as decoding
from tipim_jax.photos.decode import decode
from tipim_jax.photos.encode import encode
from tipim_jax.photos.files import read_photo


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF", "HEIF", "AVIF"])
@pytest.mark.parametrize("orientation", [1, 2, 3, 4, 5, 6, 7, 8, 0, 99])
def test_orientation_is_applied_and_not_written(tmp_path, format, orientation):
    stored = picture("RGB")
    undo = decoding._UPRIGHT.get(orientation)
    exif = Image.Exif()
    exif[Base.Orientation] = orientation
    path = save(tmp_path / "a", stored, format, exif=exif.tobytes())
    upright = stored.transpose(undo) if undo is not None else stored
    photo = read_photo(path)
    assert photo.pixels.shape == (*upright.size[::-1], 3)
    assert np.abs(photo.pixels.astype(int) - np.asarray(upright)).mean() < 2
    for keep in (False, True):
        data, _ = encode(photo, photo.pixels, keep_metadata=keep)
        with Image.open(io.BytesIO(data)) as image:
            assert image.getexif().get(Base.Orientation, 1) == 1
        again = decode(data)
        assert np.abs(again.pixels.astype(int) - photo.pixels).mean() < 2


def test_sixteen_bit_grey_is_turned():
    image = picture("I;16")
    exif = Image.Exif()
    exif[Base.Orientation] = 6
    photo = decode(png_of(image, exif=exif))
    np.testing.assert_array_equal(photo.samples, np.rot90(np.asarray(image), -1))


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_metadata_is_dropped_unless_asked_for(tmp_path, format):
    options: dict = {"exif": exif_of_a_phone()}
    if format == "PNG":
        chunks = PngImagePlugin.PngInfo()
        chunks.add_text("Comment", "secret place")
        chunks.add_itxt("XML:com.adobe.xmp", XMP.decode())
        options["pnginfo"] = chunks
    elif format == "TIFF":
        options["exif"][700] = XMP
        options["exif"] = options["exif"].tobytes()
    else:
        options["xmp"] = XMP
    if format == "JPEG":
        options["comment"] = b"secret place"
    photo = read_photo(save(tmp_path / "a", picture("RGB"), format, **options))

    bare, _ = encode(photo, photo.pixels)
    for trace in (b"Camera", b"2020:01:02", b"secret", b"holiday", b"preview", b"xmpmeta"):
        assert trace not in bare
    with Image.open(io.BytesIO(bare)) as image:
        assert IFD.GPSInfo not in image.getexif()

    kept, _ = encode(photo, photo.pixels, keep_metadata=True)
    assert b"preview" not in kept
    with Image.open(io.BytesIO(kept)) as image:
        image.load()
        exif = image.getexif()
        details = exif.get_ifd(IFD.Exif)
        assert exif[Base.Make] == "Camera"
        assert exif.get_ifd(IFD.GPSInfo)[1] == "N"
        assert details[Base.DateTimeOriginal] == "2020:01:02 03:04:05"
        assert (details[Base.ExifImageWidth], details[Base.ExifImageHeight]) == image.size
        assert image.size == (HEIGHT, WIDTH)
        if format == "JPEG":
            assert image.info["comment"] == b"secret place"
    assert b'dc:title="holiday"' in kept
    assert b'tiff:Orientation="6"' not in kept
    again = decode(kept)
    assert again.metadata.exif == photo.metadata.exif
    if format in ("JPEG", "PNG"):
        assert again.metadata.texts == {"Comment": "secret place"}


@pytest.mark.parametrize("compression", ["raw", "tiff_lzw", "tiff_adobe_deflate"])
def test_metadata_of_a_phone_goes_into_every_tiff(compression):
    photo = decode(file_of(picture("RGB"), "JPEG", exif=exif_of_a_phone()))
    photo = photo._replace(settings={"compression": compression})
    kept, _ = encode(photo, photo.pixels, format="tiff", keep_metadata=True)
    with Image.open(io.BytesIO(kept)) as image:
        assert image.getexif().get_ifd(IFD.GPSInfo)[1] == "N"


def test_no_second_picture_of_the_face_is_kept(tmp_path):
    thumbnail = io.BytesIO()
    picture("RGB").resize((16, 12)).save(thumbnail, "JPEG")
    exif = exif_of_a_phone().tobytes()
    head, ifd0 = exif[:6], exif[6:]
    # EXIF with an IFD1 that holds a thumbnail, as cameras write it.
    order = "<" if ifd0[:2] == b"II" else ">"
    (start,) = struct.unpack(order + "L", ifd0[4:8])
    (count,) = struct.unpack(order + "H", ifd0[start : start + 2])
    link = start + 2 + 12 * count
    entries = [(0x0103, 3, 6), (0x0201, 4, len(ifd0) + 2 + 36 + 4), (0x0202, 4, 0)]
    entries[2] = (0x0202, 4, len(thumbnail.getvalue()))
    ifd1 = struct.pack(order + "H", 3)
    for tag, kind, value in entries:
        packed = struct.pack(order + ("HH" if kind == 3 else "L"), *((value, 0)[: 3 - kind // 2]))
        ifd1 += struct.pack(order + "HHL", tag, kind, 1) + packed
    ifd1 += b"\0\0\0\0" + thumbnail.getvalue()
    ifd0 = ifd0[:link] + struct.pack(order + "L", len(ifd0)) + ifd0[link + 4 :]
    xmp = b"<x:xmpmeta><xmp:Thumbnails>the face</xmp:Thumbnails></x:xmpmeta>"
    path = save(tmp_path / "a.jpg", picture("RGB"), "JPEG", exif=head + ifd0 + ifd1, xmp=xmp)
    with Image.open(path) as image:
        assert image.getexif().get_ifd(IFD.IFD1)
    kept, _ = encode(read_photo(path), read_photo(path).pixels, keep_metadata=True)
    assert thumbnail.getvalue()[20:] not in kept
    assert b"the face" not in kept
    with Image.open(io.BytesIO(kept)) as image:
        assert image.getexif()[Base.Make] == "Camera"
        assert not image.getexif().get_ifd(IFD.IFD1)


def test_a_profile_goes_with_its_kind_of_colour():
    grey = bytearray(SRGB)
    grey[16:20] = b"GRAY"
    photo = decode(png_of(picture("L"), icc_profile=bytes(grey)))
    assert decode(encode(photo, photo.pixels, format="jpeg")[0]).icc == bytes(grey)
    assert decode(encode(photo, photo.pixels, format="webp")[0]).icc is None
    photo = decode(png_of(picture("RGB"), icc_profile=SRGB))
    assert decode(encode(photo, photo.pixels, format="webp")[0]).icc == SRGB


def test_resolution_is_kept():
    for format in ("JPEG", "PNG", "TIFF", "BMP"):
        photo = decode(file_of(picture("RGB"), format, dpi=(300, 300)))
        again = decode(encode(photo, photo.pixels)[0])
        assert again.settings["dpi"] == pytest.approx((300, 300), abs=0.1)
