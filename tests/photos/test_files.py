"""Photo files: every kind is read upright, and written back with only the wanted change."""

import errno
import io
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms, PngImagePlugin
from PIL.ExifTags import IFD, Base

from tipim_jax.photos import colour, formats
from tipim_jax.photos import decode as decoding
from tipim_jax.photos.decode import decode
from tipim_jax.photos.encode import encode
from tipim_jax.photos.files import read_photo, write_photo
from tipim_jax.photos.formats import FORMATS
from tipim_jax.photos.photo import Photo, PhotoError

HEIGHT, WIDTH = 36, 52
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
GREY_MODES = ("1", "L", "LA", "I;16")
LOSSLESS = {
    "PNG": ("1", "L", "LA", "I;16", "P", "RGB", "RGBA"),
    "TIFF": ("1", "L", "LA", "I;16", "P", "RGB", "RGBA", "CMYK", "YCbCr"),
    "BMP": ("1", "L", "P", "RGB"),
    "WEBP": ("L", "RGB", "RGBA"),
}
LOSSY = {"JPEG": ("L", "RGB", "CMYK"), "WEBP": ("L", "RGB", "RGBA")}
CASES = [(f, m, True) for f, modes in LOSSLESS.items() for m in modes]
CASES += [(f, m, False) for f, modes in LOSSY.items() for m in modes]


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


@pytest.mark.parametrize(("format", "mode", "lossless"), CASES)
def test_every_kind_comes_back_with_only_the_change(tmp_path, format, mode, lossless):
    path = save(tmp_path / "in", picture(mode), format, lossless, **_icc(format, mode))
    photo = read_photo(path)
    assert photo.pixels.shape == (HEIGHT, WIDTH, 3)
    assert photo.pixels.dtype == np.uint8
    assert photo.format == format
    assert (photo.axis is colour.GREY) == (mode in GREY_MODES)
    if mode not in ("I;16", "CMYK"):
        with Image.open(path) as image:
            np.testing.assert_array_equal(photo.pixels, np.asarray(image.convert("RGB")))

    protected = change(photo)
    notes = write_photo(photo, protected, tmp_path / "out")
    again = read_photo(tmp_path / "out")
    assert notes == ()
    assert again.format == format
    assert again.mode == photo.mode
    assert (again.axis is None) == (photo.axis is None)
    assert again.icc == photo.icc
    assert again.settings == photo.settings
    if not lossless:
        assert np.abs(again.pixels.astype(int) - protected).mean() < 2
    else:
        untouched = np.all(protected == photo.pixels, axis=2)
        np.testing.assert_array_equal(again.samples[untouched], photo.samples[untouched])
        if mode != "CMYK":
            np.testing.assert_array_equal(again.pixels, protected)
    if mode in ("LA", "RGBA") and photo.format != "JPEG":
        np.testing.assert_array_equal(again.samples[..., -1], photo.samples[..., -1])


def _icc(format: str, mode: str) -> dict[str, bytes]:
    return {} if mode == "CMYK" or format == "BMP" else {"icc_profile": SRGB}


def test_sixteen_bit_grey_moves_by_257_per_level(tmp_path):
    photo = read_photo(save(tmp_path / "a.png", picture("I;16"), "PNG"))
    protected = change(photo)
    again = decode(encode(photo, protected)[0])
    assert again.samples.dtype == np.uint16
    moved = again.samples.astype(int) - photo.samples
    np.testing.assert_array_equal(moved, 257 * (protected.astype(int) - photo.pixels)[..., 0])


def test_sixteen_bit_grey_saturates():
    photo = decode(_png_bytes(Image.fromarray(np.array([[65535, 65500, 0, 100]], np.uint16))))
    up, down = np.full((1, 4, 3), 255, np.uint8), np.zeros((1, 4, 3), np.uint8)
    assert decode(encode(photo, up)[0]).samples.min() >= 65407
    assert decode(encode(photo, down)[0]).samples.max() <= 128


def test_inks_decode_to_the_wanted_level_or_one_on_the_way(tmp_path):
    rng = np.random.default_rng(1)
    inks = rng.integers(0, 256, (40, 50, 4), np.uint8)
    image = Image.frombytes("CMYK", (50, 40), inks.tobytes())
    photo = read_photo(save(tmp_path / "a.tif", image, "TIFF"))
    noise = rng.integers(-9, 10, photo.pixels.shape)
    protected = np.clip(photo.pixels.astype(int) + noise, 0, 255).astype(np.uint8)
    again = decode(encode(photo, protected)[0])
    wanted, got = (x.astype(int) - photo.pixels for x in (protected, again.pixels))
    assert np.all(got * wanted >= 0)
    assert np.all(np.abs(got) <= np.abs(wanted))
    reachable = protected <= 255 - inks[..., 3:]
    np.testing.assert_array_equal(again.pixels[reachable], protected[reachable])
    np.testing.assert_array_equal(again.samples[..., 3], inks[..., 3])


def test_grey_saved_as_colour_stays_grey(tmp_path):
    grey = picture("L").convert("RGB")
    photo = read_photo(save(tmp_path / "a.jpg", grey, "JPEG"))
    assert photo.mode == "RGB"
    assert photo.axis is colour.GREY
    again = decode(encode(photo, change(photo))[0])
    np.testing.assert_array_equal(again.pixels, np.repeat(again.pixels[..., :1], 3, axis=2))


@pytest.mark.parametrize("mode", ["L", "LA", "I;16"])
def test_one_channel_takes_the_mean_of_whatever_it_is_given(mode):
    photo = decode(_png_bytes(picture(mode)))
    protected = photo.pixels.copy()
    protected[20, 20:23] = [[90, 90, 91], [90, 91, 91], [60, 90, 120]]
    again = decode(encode(photo, protected)[0])
    np.testing.assert_array_equal(again.pixels[20, 20:23, 0], [90, 91, 90])


def test_a_palette_becomes_colour_and_says_so(tmp_path):
    image = picture("RGBA").quantize(16)
    photo = read_photo(save(tmp_path / "a.png", image, "PNG"))
    assert photo.mode == "RGBA"
    assert "palette" in photo.notes[0]
    np.testing.assert_array_equal(photo.samples, np.asarray(image.convert("RGBA")))


def test_a_transparent_colour_becomes_alpha():
    image = picture("L")
    buffer = io.BytesIO()
    image.save(buffer, "PNG", transparency=image.getpixel((0, 0)))
    photo = decode(buffer.getvalue())
    assert photo.mode == "LA"
    assert photo.samples[0, 0, 1] == 0


@pytest.mark.parametrize(
    ("colour_type", "mode", "says"), [(2, "RGB", 1), (6, "RGBA", 1), (4, "LA", 1)]
)
def test_sixteen_bit_colour_is_read_as_eight(colour_type, mode, says):
    channels = {2: 3, 4: 2, 6: 4}[colour_type]
    samples = np.random.default_rng(2).integers(0, 65536, (5, 7, channels), np.uint16)
    photo = decode(_raw_png(samples, colour_type))
    assert photo.mode == mode
    assert photo.samples.shape == (5, 7, channels)
    assert len(photo.notes) == says
    assert np.abs(photo.samples.astype(int) - samples // 257).max() <= 1


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
    photo = decode(_png_bytes(image, exif=exif))
    np.testing.assert_array_equal(photo.samples, np.rot90(np.asarray(image), -1))


def _exif() -> Image.Exif:
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


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_metadata_is_dropped_unless_asked_for(tmp_path, format):
    options: dict = {"exif": _exif()}
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
    photo = decode(_bytes(picture("RGB"), "JPEG", exif=_exif()))
    photo = photo._replace(settings={"compression": compression})
    kept, _ = encode(photo, photo.pixels, format="tiff", keep_metadata=True)
    with Image.open(io.BytesIO(kept)) as image:
        assert image.getexif().get_ifd(IFD.GPSInfo)[1] == "N"


def test_no_second_picture_of_the_face_is_kept(tmp_path):
    thumbnail = io.BytesIO()
    picture("RGB").resize((16, 12)).save(thumbnail, "JPEG")
    exif = _exif().tobytes()
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


def test_jpeg_is_written_without_chroma_subsampling_unless_asked():
    photo = decode(_bytes(picture("RGB"), "JPEG", quality=80))
    for subsampling, sampling in (("4:4:4", (1, 1)), ("4:2:0", (2, 2))):
        data, _ = encode(photo, photo.pixels, subsampling=subsampling)
        with Image.open(io.BytesIO(data)) as image:
            assert image.layer[0][1:3] == sampling


def test_a_phone_photo_of_several_pictures_keeps_the_first(tmp_path):
    first, second = picture("RGB"), Image.new("RGB", (8, 8))
    path = tmp_path / "a.jpg"
    first.save(path, "MPO", save_all=True, append_images=[second])
    photo = read_photo(path)
    assert photo.format == "JPEG"
    assert "several pictures" in photo.notes[0]
    assert photo.pixels.shape == (HEIGHT, WIDTH, 3)


@pytest.mark.parametrize("format", ["TIFF", "HEIF"])
def test_of_several_pages_the_first_is_read(format):
    several = {"save_all": True, "append_images": [Image.new("RGB", (WIDTH, HEIGHT))]}
    photo = decode(_bytes(picture("RGB"), format, **several))
    assert photo.notes == (
        "the file holds several pictures; only the first is protected and saved",
    )
    assert np.abs(photo.pixels - np.asarray(picture("RGB"), float)).mean() < 2
    assert decode(encode(photo, photo.pixels)[0]).notes == ()


@pytest.mark.parametrize("format", ["GIF", "PNG", "WEBP", "AVIF"])
def test_animations_are_refused(format):
    several = {"save_all": True, "append_images": [Image.new("RGB", (WIDTH, HEIGHT))]}
    with pytest.raises(PhotoError, match=r"is an animation; .* save one picture as PNG$"):
        decode(_bytes(picture("RGB"), format, **several))


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L"])
def test_a_gif_that_stands_still_becomes_png(mode):
    photo = decode(_bytes(picture(mode), "GIF"))
    assert photo.format == "PNG"
    assert photo.mode == ("RGBA" if mode == "RGBA" else "RGB")
    assert (photo.axis is colour.GREY) == (mode == "L")
    assert photo.notes == ("GIF cannot hold the change; the photo is saved as PNG",)
    again = decode(encode(photo, change(photo))[0])
    assert again.format == "PNG"
    np.testing.assert_array_equal(again.pixels, change(photo))


@pytest.mark.parametrize("format", ["HEIF", "AVIF"])
@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA"])
def test_heic_and_avif(tmp_path, format, mode):
    exif = _exif()
    exif[Base.Orientation] = 1
    path = save(tmp_path / "a", picture(mode), format, quality=95, exif=exif, icc_profile=SRGB)
    photo = read_photo(path)
    assert photo.format == format
    assert photo.mode == mode
    assert photo.notes == ()
    if mode != "L":
        assert photo.icc == SRGB
    data, notes = encode(photo, change(photo))
    again = decode(data)
    assert notes == ()
    assert again.format == format
    assert again.mode == mode
    assert again.icc == photo.icc
    assert not again.metadata.exif
    assert np.abs(again.pixels.astype(int) - change(photo)).mean() < 3
    assert b"Camera" in encode(photo, photo.pixels, keep_metadata=True)[0]


def test_deeper_colour_of_heic_and_avif_is_said(tmp_path):
    import pillow_heif

    samples = np.random.default_rng(0).integers(0, 65536, (16, 16, 3), np.uint16).tobytes()
    deep = pillow_heif.from_bytes("RGB;16", (16, 16), samples)
    buffer = io.BytesIO()
    deep.save(buffer)
    assert decode(buffer.getvalue()).notes == ("10-bit colour is read and saved as 8-bit",)
    # An AVIF of 8 bits whose configuration says more, as Pillow writes none.
    data = bytearray(_bytes(picture("RGB"), "AVIF"))
    assert decode(bytes(data)).notes == ()
    with Image.open(io.BytesIO(data)) as image:
        place = data.index(b"av1C") + 6
        data[place] |= 0x40
        assert decoding._depth(image, bytes(data)) == 10


def test_avif_does_not_depend_on_the_number_of_processors(monkeypatch):
    from PIL import AvifImagePlugin

    noise = np.random.default_rng(0).integers(0, 256, (600, 1100, 3), np.uint8)
    photo = decode(_bytes(Image.fromarray(noise), "BMP"))
    files = []
    for threads in (1, 4):
        monkeypatch.setattr(AvifImagePlugin, "DEFAULT_MAX_THREADS", threads)
        files.append(encode(photo, photo.pixels, format="avif")[0])
    assert files[0] == files[1]


# What another format cannot hold


@pytest.mark.parametrize("source", ["RGB", "L", "I;16", "LA", "RGBA", "CMYK"])
@pytest.mark.parametrize("format", sorted(set(FORMATS) - {"HEIF", "GIF"}))
def test_every_kind_in_every_format(source, format):
    image = picture(source)
    photo = decode(_bytes(image, "TIFF"))
    if source in ("LA", "RGBA") and format in ("JPEG", "BMP"):
        with pytest.raises(PhotoError, match="transparency"):
            encode(photo, photo.pixels, format=format)
        return
    data, notes = encode(photo, photo.pixels, format=format)
    again = decode(data)
    assert again.format == format
    assert (again.axis is None) == (photo.axis is None)
    reduced = (source == "I;16" and format in ("JPEG", "WEBP", "AVIF", "BMP")) or (
        source == "CMYK" and format in ("PNG", "WEBP", "AVIF", "BMP")
    )
    assert bool(notes) == reduced
    assert np.abs(again.pixels.astype(int) - photo.pixels).mean() < 2


def test_opaque_alpha_is_no_transparency():
    image = picture("RGB")
    image.putalpha(255)
    photo = decode(_png_bytes(image))
    assert photo.mode == "RGBA"
    assert decode(encode(photo, photo.pixels, format="jpg")[0]).mode == "RGB"


def test_a_profile_goes_with_its_kind_of_colour():
    grey = bytearray(SRGB)
    grey[16:20] = b"GRAY"
    photo = decode(_png_bytes(picture("L"), icc_profile=bytes(grey)))
    assert decode(encode(photo, photo.pixels, format="jpeg")[0]).icc == bytes(grey)
    assert decode(encode(photo, photo.pixels, format="webp")[0]).icc is None
    photo = decode(_png_bytes(picture("RGB"), icc_profile=SRGB))
    assert decode(encode(photo, photo.pixels, format="webp")[0]).icc == SRGB


@pytest.mark.parametrize("name", ["jpg", ".JPG", "jpeg", "JPEG"])
def test_format_names(name):
    assert formats.format_named(name) == "JPEG"


def test_unknown_format_and_quality():
    photo = decode(_png_bytes(picture("RGB")))
    with pytest.raises(PhotoError, match=r"'gif' is only read; choose one of avif, bmp, heic, jpg"):
        encode(photo, photo.pixels, format="gif")
    with pytest.raises(PhotoError, match=r"'jxl' is unknown; choose one of avif, bmp"):
        encode(photo, photo.pixels, format="jxl")
    with pytest.raises(PhotoError, match="quality"):
        encode(photo, photo.pixels, quality=0)


def test_resolution_is_kept():
    for format in ("JPEG", "PNG", "TIFF", "BMP"):
        photo = decode(_bytes(picture("RGB"), format, dpi=(300, 300)))
        again = decode(encode(photo, photo.pixels)[0])
        assert again.settings["dpi"] == pytest.approx((300, 300), abs=0.1)


@pytest.mark.parametrize(
    "compression", ["raw", "tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg"]
)
def test_tiff_compression_is_kept_if_lossless(compression):
    photo = decode(_bytes(picture("RGB"), "TIFF", compression=compression))
    data, _ = encode(photo, change(photo))
    with Image.open(io.BytesIO(data)) as image:
        expected = "tiff_adobe_deflate" if compression == "jpeg" else compression
        assert image.info["compression"] == expected
        np.testing.assert_array_equal(np.asarray(image), change(photo))


# Bad input


def _truncated(format: str, keep: float) -> bytes:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    data = _bytes(Image.fromarray(noise), format)
    return data[: int(len(data) * keep)]


def _bomb() -> bytes:
    """A PNG of 60,000 × 60,000 black pixels in a few kilobytes."""
    data = zlib.compress(bytes(1 << 20), 9)
    return _chunks(struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0), data)


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
    "float.tif": (lambda: _bytes(Image.new("F", (4, 4)), "TIFF"), r"unsupported kind \(F\)"),
    "lab.tif": (lambda: _bytes(Image.new("LAB", (4, 4)), "TIFF"), r"unsupported kind \(LAB\)"),
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
    photo = decode(_bytes(picture("RGB"), format, exif=b"Exif\0\0" + exif))
    assert encode(photo, photo.pixels, keep_metadata=True)[0]


# Writing


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
    photo = decode(_png_bytes(picture("RGB")))
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
    photo = decode(_png_bytes(Image.new("L", (16_400, 8))))
    with pytest.raises(
        PhotoError,
        match=r"16400×8 pixels cannot be written as WebP, which holds 16383 a side; .*png",
    ):
        write_photo(photo, photo.pixels, tmp_path / "out.webp", format="webp")
    assert list(tmp_path.iterdir()) == []


def _bytes(image: Image.Image, format: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def _png_bytes(image: Image.Image, **options) -> bytes:
    return _bytes(image, "PNG", **options)


def _chunks(header: bytes, data: bytes) -> bytes:
    def chunk(kind: bytes, content: bytes) -> bytes:
        body = kind + content
        return struct.pack(">I", len(content)) + body + struct.pack(">I", zlib.crc32(body))

    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")
    )


def _raw_png(samples: np.ndarray, colour_type: int) -> bytes:
    """A 16-bit PNG, which Pillow cannot write in colour."""
    height, width = samples.shape[:2]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in samples)
    header = struct.pack(">IIBBBBB", width, height, 16, colour_type, 0, 0, 0)
    return _chunks(header, zlib.compress(rows))
