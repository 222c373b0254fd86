"""Every kind of pixels in every format comes back with only the change."""

import io

import numpy as np
import pytest
from PIL import Image
from PIL.ExifTags import Base

from tests.photos.samples import (
    HEIGHT,
    SRGB,
    WIDTH,
    change,
    exif_of_a_phone,
    file_of,
    picture,
    png_of,
    raw_png,
    save,
)
from tipim_jax.photos import colour, formats
from tipim_jax.photos import decode as decoding
from tipim_jax.photos.decode import decode
from tipim_jax.photos.encode import encode
from tipim_jax.photos.files import read_photo, write_photo
from tipim_jax.photos.formats import FORMATS
from tipim_jax.photos.photo import PhotoError

GREY_MODES = ("1", "L", "LA", "I;16")

LOSSLESS = {
    "PNG": ("1", "L", "LA", "I;16", "P", "RGB", "RGBA"),
    "TIFF": ("1", "L", "LA", "I;16", "P", "RGB", "RGBA", "CMYK", "YCbCr"),
    "BMP": ("1", "L", "P", "RGB"),
    "WEBP": ("L", "RGB", "RGBA"),
}

LOSSY = {"JPEG": ("L", "RGB", "CMYK"), "WEBP": ("L", "RGB", "RGBA")}

CASES = [(f, m, True) for f, modes in LOSSLESS.items() for m in modes]


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
    photo = decode(png_of(Image.fromarray(np.array([[65535, 65500, 0, 100]], np.uint16))))
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
    photo = decode(png_of(picture(mode)))
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
    photo = decode(raw_png(samples, colour_type))
    assert photo.mode == mode
    assert photo.samples.shape == (5, 7, channels)
    assert len(photo.notes) == says
    assert np.abs(photo.samples.astype(int) - samples // 257).max() <= 1


def test_jpeg_is_written_without_chroma_subsampling_unless_asked():
    photo = decode(file_of(picture("RGB"), "JPEG", quality=80))
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
    photo = decode(file_of(picture("RGB"), format, **several))
    assert photo.notes == (
        "the file holds several pictures; only the first is protected and saved",
    )
    assert np.abs(photo.pixels - np.asarray(picture("RGB"), float)).mean() < 2
    assert decode(encode(photo, photo.pixels)[0]).notes == ()


@pytest.mark.parametrize("format", ["GIF", "PNG", "WEBP", "AVIF"])
def test_animations_are_refused(format):
    several = {"save_all": True, "append_images": [Image.new("RGB", (WIDTH, HEIGHT))]}
    with pytest.raises(PhotoError, match=r"is an animation; .* save one picture as PNG$"):
        decode(file_of(picture("RGB"), format, **several))


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L"])
def test_a_gif_that_stands_still_becomes_png(mode):
    photo = decode(file_of(picture(mode), "GIF"))
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
    exif = exif_of_a_phone()
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
    data = bytearray(file_of(picture("RGB"), "AVIF"))
    assert decode(bytes(data)).notes == ()
    with Image.open(io.BytesIO(data)) as image:
        place = data.index(b"av1C") + 6
        data[place] |= 0x40
        assert decoding._depth(image, bytes(data)) == 10


def test_avif_does_not_depend_on_the_number_of_processors(monkeypatch):
    from PIL import AvifImagePlugin

    noise = np.random.default_rng(0).integers(0, 256, (600, 1100, 3), np.uint8)
    photo = decode(file_of(Image.fromarray(noise), "BMP"))
    files = []
    for threads in (1, 4):
        monkeypatch.setattr(AvifImagePlugin, "DEFAULT_MAX_THREADS", threads)
        files.append(encode(photo, photo.pixels, format="avif")[0])
    assert files[0] == files[1]


@pytest.mark.parametrize("source", ["RGB", "L", "I;16", "LA", "RGBA", "CMYK"])
@pytest.mark.parametrize("format", sorted(set(FORMATS) - {"HEIF", "GIF"}))
def test_every_kind_in_every_format(source, format):
    image = picture(source)
    photo = decode(file_of(image, "TIFF"))
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
    photo = decode(png_of(image))
    assert photo.mode == "RGBA"
    assert decode(encode(photo, photo.pixels, format="jpg")[0]).mode == "RGB"


@pytest.mark.parametrize("name", ["jpg", ".JPG", "jpeg", "JPEG"])
def test_format_names(name):
    assert formats.format_named(name) == "JPEG"


def test_unknown_format_and_quality():
    photo = decode(png_of(picture("RGB")))
    with pytest.raises(PhotoError, match=r"'gif' is only read; choose one of avif, bmp, heic, jpg"):
        encode(photo, photo.pixels, format="gif")
    with pytest.raises(PhotoError, match=r"'jxl' is unknown; choose one of avif, bmp"):
        encode(photo, photo.pixels, format="jxl")
    with pytest.raises(PhotoError, match="quality"):
        encode(photo, photo.pixels, quality=0)


@pytest.mark.parametrize(
    "compression", ["raw", "tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg"]
)
def test_tiff_compression_is_kept_if_lossless(compression):
    photo = decode(file_of(picture("RGB"), "TIFF", compression=compression))
    data, _ = encode(photo, change(photo))
    with Image.open(io.BytesIO(data)) as image:
        expected = "tiff_adobe_deflate" if compression == "jpeg" else compression
        assert image.info["compression"] == expected
        np.testing.assert_array_equal(np.asarray(image), change(photo))
