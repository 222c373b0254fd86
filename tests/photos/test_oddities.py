"""One real file of every oddity, read, masked, saved and read again as `tipim protect` does it."""

import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.photos import album as albums
from tests.photos.conftest import QUICK
from tipim_jax.core.geometry import CANVAS_LANDMARKS
from tipim_jax.photos import colour
from tipim_jax.photos.faces import align
from tipim_jax.photos.files import read_photo, write_atomically
from tipim_jax.photos.finish import Encoding, finish
from tipim_jax.photos.paste import FaceMask
from tipim_jax.photos.pending import detect
from tipim_jax.photos.photo import Photo, PhotoError

EPSILON = 12.0
SEPIA = np.array([1.02, 0.9, 0.7])


def find(pixels):
    """A face where the built-in photo has it, more or less."""
    landmarks = np.asarray(CANVAS_LANDMARKS) + [22, 50]
    return [align(pixels, landmarks, (42.0, 70.0, 120.0, 120.0))]


def protect(path: Path, out: Path) -> Photo:
    """Masks of noise in the colours of the photo, by the path of `tipim protect`."""
    pending = detect(find, read_photo(path))
    noise = np.random.default_rng(0).normal(size=(160, 160, 3))
    masks = np.clip(4 * noise, -8, 8) @ pending.photo.colours
    pending.masks[0] = FaceMask(masks.astype(np.float32), pending.faces[0].matrix)
    done = finish(pending, EPSILON, Encoding(), find, [])
    write_atomically(out, done.data)
    assert len(done.faces) == 1
    return read_photo(out)


def grey() -> Image.Image:
    return albums.face().convert("L").convert("RGB")


def sepia() -> Image.Image:
    level = np.asarray(albums.face().convert("L"), float)[..., None]
    return Image.fromarray(np.clip(np.rint(level * SEPIA), 0, 255).astype(np.uint8))


def sixteen() -> Image.Image:
    return Image.fromarray(np.asarray(albums.face().convert("L")).astype(np.uint16) * 257 + 9)


def sixteen_bit_colour(path: Path) -> None:
    from tests.photos.samples import raw_png

    path.write_bytes(raw_png(np.asarray(albums.face()).astype(np.uint16) * 257, 2))


def turned(path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    albums.face().transpose(Image.Transpose.ROTATE_90).save(path, exif=exif, quality=92)


def transparent_palette(path: Path) -> None:
    image = albums.face()
    image.putalpha(Image.linear_gradient("L").resize(image.size).point(lambda v: 255 * (v > 99)))
    image.quantize(64).save(path)


def pictures(path: Path) -> None:
    second = albums.face("sunak.jpg").resize(albums.face().size)
    albums.face().save(path, save_all=True, append_images=[second])


# name -> (how the file is made, mode, format as saved, kind of its colours, what its notes say)
GOOD = {
    "near-grey.webp": (lambda p: grey().save(p, quality=70), "RGB", "WEBP", "grey", ""),
    "grey.jpg": (lambda p: grey().save(p), "RGB", "JPEG", "grey", ""),
    "sepia.jpg": (lambda p: sepia().save(p, quality=85), "RGB", "JPEG", "tint", ""),
    "sepia.png": (lambda p: sepia().save(p), "RGB", "PNG", "tint", ""),
    "photo.avif": (lambda p: albums.face().save(p), "RGB", "AVIF", "all", ""),
    "photo.heic": (lambda p: albums.face().save(p), "RGB", "HEIF", "all", ""),
    "still.gif": (lambda p: albums.face().save(p), "RGB", "PNG", "all", "saved as PNG"),
    "ink.jpg": (lambda p: albums.face().convert("CMYK").save(p), "CMYK", "JPEG", "all", ""),
    "black ink.tif": (lambda p: grey().convert("CMYK").save(p), "CMYK", "TIFF", "grey", ""),
    "grey16.png": (lambda p: sixteen().save(p), "I;16", "PNG", "grey", ""),
    "colour16.png": (sixteen_bit_colour, "RGB", "PNG", "all", "16-bit colour"),
    "turned.jpg": (turned, "RGB", "JPEG", "all", ""),
    "palette.png": (transparent_palette, "RGBA", "PNG", "all", "palette"),
    "pages.tif": (pictures, "RGB", "TIFF", "all", "several pictures"),
    "été\n写真.png": (lambda p: albums.face().save(p), "RGB", "PNG", "all", ""),
    "n" * 250 + ".png": (lambda p: albums.face().save(p), "RGB", "PNG", "all", ""),
}

# name -> (how it is made, what is said of it)
BAD = {
    "moving.gif": (pictures, "moving.gif is an animation; protect the file"),
    "moving.webp": (pictures, "moving.webp is an animation; protect the file"),
    "moving.png": (pictures, "moving.png is an animation; protect the file"),
    "moving.avif": (pictures, "moving.avif is an animation; protect the file"),
    "pipe.jpg": (os.mkfifo, "pipe.jpg is a pipe or a device, not a photo"),
    "folder.jpg": (Path.mkdir, "folder.jpg is a folder, not a photo"),
    "two\nlines.jpg": (Path.touch, r"two\nlines.jpg is empty (0 bytes)"),
    os.fsdecode(b"latin\xe9.jpg"): (Path.touch, r"latin\udce9.jpg is empty (0 bytes)"),
    "loop.jpg": (lambda p: p.symlink_to(p), "loop.jpg cannot be read (Too many levels"),
}


@pytest.mark.parametrize("name", GOOD)
def test_good(tmp_path, name):
    make, mode, format, colours, note = GOOD[name]
    path = tmp_path / name
    make(path)
    before = read_photo(path)
    assert before.mode == mode
    assert before.format == format
    kind = "all" if before.axis is None else "grey" if before.axis is colour.GREY else "tint"
    assert kind == colours
    assert note in " ".join(before.notes)
    assert bool(note) == bool(before.notes)
    after = protect(path, tmp_path / "out" / name)
    assert after.format == format
    assert after.mode == mode
    assert after.pixels.shape == before.pixels.shape
    moved = after.pixels.astype(float) - before.pixels
    assert np.abs(moved).max() > 3
    # What the mask leaves beside its line is rounding, and chroma that the encoder cannot hold better.
    beside = moved - moved @ before.colours
    assert np.sqrt(np.mean(beside**2)) < (0.6 if format in ("PNG", "TIFF") else 1.5)
    if mode == "I;16":
        np.testing.assert_array_equal(moved, np.repeat(moved[..., :1], 3, axis=2))


@pytest.mark.parametrize("name", BAD)
def test_bad(tmp_path, name):
    make, says = BAD[name]
    make(tmp_path / name)
    with pytest.raises(PhotoError) as error:
        read_photo(tmp_path / name)
    assert says in str(error.value)
    assert str(error.value).isprintable()


def test_a_folder_that_cannot_be_written_to(tmp_path):
    albums.face().save(tmp_path / "a.png")
    folder = tmp_path / "fixed"
    folder.mkdir(mode=0o500)
    if os.access(folder, os.W_OK):
        pytest.skip("this user may write everywhere")
    with pytest.raises(PhotoError, match=r"a.png cannot be written \(Permission denied\)"):
        protect(tmp_path / "a.png", folder / "a.png")


def test_a_full_disk(tmp_path):
    albums.face().save(tmp_path / "a.png")
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", disk]
    try:
        mounted = subprocess.run(mount, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        mounted = False
    if not mounted:
        pytest.skip("no disk may be mounted here")
    try:
        with pytest.raises(PhotoError, match=r"a.png cannot be written: the disk is full; make"):
            protect(tmp_path / "a.png", disk / "a.png")
        assert list(disk.iterdir()) == []
    finally:
        subprocess.run(["umount", disk], check=True)


def test_the_attack_keeps_to_the_colours_of_tinted_photos(tipim, two_targets, tmp_path):
    grey().save(tmp_path / "grey.webp", quality=70)
    sepia().save(tmp_path / "sepia.jpg", quality=85)
    assert np.ptp(read_photo(tmp_path / "grey.webp").pixels.astype(int), axis=2).max() > 0
    photos = [tmp_path / "grey.webp", tmp_path / "sepia.jpg"]
    arguments = ["--out", tmp_path / "out", "--format=png", "--targets", two_targets, *QUICK]
    tipim("protect", *photos, *arguments)
    for path in photos:
        before, after = read_photo(path), read_photo(tmp_path / "out" / f"{path.stem}.png")
        moved = after.pixels.astype(float) - before.pixels
        assert np.abs(moved).max() > 3
        beside = moved - moved @ before.colours
        assert np.abs(beside).max() <= 1
        if path.suffix == ".webp":
            assert np.ptp(moved, axis=2).max() <= 1
