"""Animations keep their frames, durations, loops and transparency, and change where they are painted."""

import io

import numpy as np
import pytest
from PIL import Image

from tests.video import clips
from tipim_jax.photos.decode import is_animation
from tipim_jax.photos.finish import Encoding
from tipim_jax.photos.photo import PhotoError
from tipim_jax.video import animations
from tipim_jax.video.clip import Frame, shown

KINDS = {
    "gif": {},
    "png": {},
    "webp": {"quality": 95},
    "lossless.webp": {"lossless": True},
    "avif": {},
}
DURATIONS = [50, 60, 70, 200, 90, 100]


def painted(number, pixels):
    """The upper left part moved by some levels."""
    assert pixels.dtype == np.uint8
    change = np.zeros(pixels.shape, int)
    change[8:40, 8:40] = [12, -9, 6]
    return np.clip(pixels + change, 0, 255).astype(np.uint8)


def written(path, encoding=Encoding()):
    out = path.with_name("written.part")
    clip = animations.read(path)
    notes = clip.write(out, painted, encoding)
    return clip, animations.read(out), out, notes


@pytest.mark.parametrize("kind", KINDS)
def test_everything_but_the_change_is_kept(tmp_path, kind):
    path = tmp_path / f"a.{kind}"
    clips.animation(path, clips.patches(len(DURATIONS)), DURATIONS, **KINDS[kind])
    assert is_animation(path)
    before, after, out, notes = written(path)
    assert before.length == after.length == len(DURATIONS)
    starts = np.cumsum([0, *DURATIONS[:-1]]) / 1000
    frames = list(zip(before.frames(), after.frames(), strict=True))
    np.testing.assert_allclose([a.seconds for _, a in frames], starts)
    for old, new in frames:
        change = new.pixels.astype(float) - old.pixels
        np.testing.assert_allclose(change[12:36, 12:36].mean((0, 1)), [12, -9, 6], atol=2)
        assert np.abs(change[50:].mean((0, 1))).max() < 1
        if kind in ("png", "lossless.webp"):
            np.testing.assert_array_equal(new.pixels, painted(0, old.pixels))
    with Image.open(path) as a, Image.open(out) as b:
        assert a.format == b.format
        assert a.info.get("loop") == b.info.get("loop")
    assert bool(notes) == (kind == "gif")


@pytest.mark.parametrize("kind", ["gif", "png", "webp"])
def test_transparency_is_kept(tmp_path, kind):
    images = []
    for i, frame in enumerate(clips.patches(4)):
        image = Image.fromarray(frame)
        alpha = np.full(frame.shape[:2], 255, np.uint8)
        alpha[60 + 5 * i :, 100:] = 0
        image.putalpha(Image.fromarray(alpha))
        images.append(image)
    path = tmp_path / f"a.{kind}"
    images[0].save(path, save_all=True, append_images=images[1:], duration=80, disposal=2)
    _, _, out, _ = written(path)
    with Image.open(path) as a, Image.open(out) as b:
        for number in range(4):
            a.seek(number)
            b.seek(number)
            old, new = (np.asarray(image.convert("RGBA"))[..., 3] for image in (a, b))
            np.testing.assert_array_equal(old, new)


def test_an_apng_gives_up_the_picture_for_viewers_of_photos(tmp_path):
    first, *others = (Image.fromarray(frame) for frame in clips.patches(4))
    path = tmp_path / "a.png"
    first.save(path, save_all=True, append_images=others, default_image=True, duration=50)
    before, after, out, _ = written(path)
    assert before.length == after.length == 3
    with Image.open(out) as image:
        np.testing.assert_array_equal(
            np.asarray(image.convert("RGB")), painted(0, np.asarray(others[0]))
        )


@pytest.mark.parametrize("keep", [False, True])
def test_metadata_goes_unless_it_is_kept(tmp_path, keep):
    exif = Image.Exif()
    exif[0x013B] = "Jane"
    path = tmp_path / "a.webp"
    clips.animation(path, clips.patches(2), [50, 50], exif=exif)
    _, _, out, _ = written(path, Encoding(keep_metadata=keep))
    with Image.open(out) as image:
        assert image.getexif().get(0x013B) == ("Jane" if keep else None)


def test_what_is_damaged_or_too_large_is_told_in_one_sentence(tmp_path, monkeypatch):
    path = tmp_path / "a.gif"
    clips.animation(path, clips.patches(6), DURATIONS)
    monkeypatch.setattr(animations, "MAX_TOTAL", 5 * 160 * 96)
    with pytest.raises(PhotoError, match=r"a.gif has 6 frames of 160×96, .* make it smaller or"):
        animations.read(path)
    monkeypatch.undo()
    webp = tmp_path / "a.webp"
    clips.animation(webp, clips.patches(6), DURATIONS)
    webp.write_bytes(webp.read_bytes()[:-1500])
    with pytest.raises(PhotoError, match="damaged or cut short"):
        list(animations.read(webp).frames())
    assert not is_animation(tmp_path / "missing.gif")
    still = io.BytesIO()
    Image.new("RGB", (9, 9)).save(still, "GIF")
    path.write_bytes(still.getvalue())
    assert not is_animation(path)


def test_frames_are_matched_by_the_time_that_they_are_shown():
    frames = [Frame(s, np.full((1, 1, 3), i)) for i, s in enumerate([0.0, 0.1, 0.3])]
    at = shown(frames)
    assert [at(s)[0, 0, 0] for s in (0.0, 0.05, 0.1, 0.29, 0.3, 9.0)] == [0, 0, 1, 1, 2, 2]
