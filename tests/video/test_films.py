"""Films keep their timing, sound, colours and shape, and change where they are painted."""

import struct

import numpy as np
import pytest

from tests.video import clips
from tests.video.test_animations import painted
from tipim_jax.photos.finish import Encoding
from tipim_jax.photos.photo import PhotoError

av = pytest.importorskip("av", reason='films need `pip install "tipim-jax[video]"`')
films = pytest.importorskip("tipim_jax.video.films")

TIMES = [0, 40, 80, 120, 200, 280, 320, 330, 400, 560]  # of frames that do not come regularly
QUIET = {"x265-params": "log-level=error"}
# name -> (how it is encoded, codec and format of samples of what is written)
KINDS = {
    "a.mp4": ({}, "h264", "yuv420p"),
    "a.MOV": ({}, "h264", "yuv420p"),
    "a.mkv": ({"pix_fmt": "yuv444p"}, "h264", "yuv444p"),
    "full.mp4": ({"color_range": 2}, "h264", "yuvj420p"),
    "hevc.mp4": (
        {"codec": "libx265", "pix_fmt": "yuv420p10le", "options": QUIET},
        "hevc",
        "yuv420p10le",
    ),
    "a.webm": ({"codec": "libvpx-vp9", "sound": "libopus"}, "vp9", "yuv420p"),
    "av1.webm": ({"codec": "libsvtav1", "sound": "libopus"}, "av1", "yuv420p"),
    "silent.mkv": ({"codec": "ffv1", "pix_fmt": "bgr0", "sound": None}, "h264", "yuv444p"),
    "old.mp4": ({"codec": "mpeg4"}, "h264", "yuv420p"),
}


def read(path):
    return films.read(path, path.suffix)


def written(path, encoding=Encoding()):
    out = path.with_name("written.part")
    notes = read(path).write(out, painted, encoding)
    return out, notes


def packets(path):
    """The sound: times and bytes."""
    with av.open(str(path)) as container:
        if not container.streams.audio:
            return []
        found = container.demux(container.streams.audio[0])
        return [(packet.pts, bytes(packet)) for packet in found if packet.dts is not None]


@pytest.mark.parametrize("kind", KINDS)
def test_everything_but_the_change_is_kept(tmp_path, kind):
    options, codec, pix_fmt = KINDS[kind]
    path = tmp_path / kind
    clips.film(path, clips.patches(len(TIMES)), TIMES, **options)
    out, notes = written(path)
    again = films.read(out, path.suffix)
    frames = list(zip(read(path).frames(), again.frames(), strict=True))
    assert [round(1000 * new.seconds) for _, new in frames] == TIMES
    change = np.mean([new.pixels.astype(float) - old.pixels for old, new in frames], axis=0)
    np.testing.assert_allclose(change[12:36, 12:36].mean((0, 1)), [12, -9, 6], atol=2)
    assert np.abs(change[44:].mean((0, 1))).max() < 1
    assert packets(out) == packets(path)
    with av.open(str(path)) as a, av.open(str(out)) as b:
        old, new = a.streams.video[0], b.streams.video[0]
        assert (new.codec.canonical_name, new.pix_fmt) == (codec, pix_fmt)
        assert new.codec_context.color_range == old.codec_context.color_range
        assert new.time_base == old.time_base
        assert len(b.streams) == len(a.streams)
    assert bool(notes) == (kind in ("silent.mkv", "old.mp4"))
    first = out.read_bytes()
    written(path)
    assert out.read_bytes() == first


def test_samples_that_are_not_painted_are_untouched():
    """Before the encoder: what is outside the change has its own samples, to the bit."""
    rng = np.random.default_rng(0)
    frame = av.VideoFrame.from_ndarray(rng.integers(16, 235, (72, 64), np.uint8), "yuv420p")
    before = [plane.copy() for plane in films._planes(frame)]
    saved = films._changed(frame, 0, painted, "yuv420p")
    for old, new, scale in zip(before, films._planes(saved), (1, 2, 2), strict=True):
        differ = np.flatnonzero((old != new).any(1)), np.flatnonzero((old != new).any(0))
        assert [(d[0] * scale, (d[-1] + 1) * scale) for d in differ] == [(8, 40), (8, 40)]


def test_a_film_that_is_turned_is_saved_upright(tmp_path):
    path = tmp_path / "a.mp4"
    clips.film(path, clips.patches(6), TIMES[:6])
    data = bytearray(path.read_bytes())
    at = data.find(b"tkhd") + 4 + 4 + 36  # of the first track: after its version, times and layer
    one = 1 << 16
    data[at : at + 36] = struct.pack(">9i", 0, one, 0, -one, 0, 0, 0, 0, 1 << 30)
    path.write_bytes(data)
    clip = read(path)
    frames = list(clip.frames())
    assert frames[0].pixels.shape == (160, 96, 3)
    np.testing.assert_allclose(
        frames[0].pixels.astype(float), np.rot90(clips.patches(1)[0], -1), atol=40
    )
    out, notes = written(path)
    assert notes == ("the pictures are saved upright",)
    with av.open(str(out)) as container:
        assert next(container.decode(video=0)).rotation == 0
    for old, new in zip(frames, films.read(out, ".mp4").frames(), strict=True):
        change = new.pixels.astype(float) - old.pixels
        np.testing.assert_allclose(change[12:36, 12:36].mean((0, 1)), [12, -9, 6], atol=3)
    assert packets(out) == packets(path)


@pytest.mark.parametrize("keep", [False, True])
def test_metadata_goes_unless_it_is_kept(tmp_path, keep):
    path = tmp_path / "a.mp4"
    clips.film(path, clips.patches(3), TIMES[:3], metadata={"title": "At home"})
    out, _ = written(path, Encoding(keep_metadata=keep))
    with av.open(str(out)) as container:
        assert container.metadata.get("title") == ("At home" if keep else None)
    assert (b"At home" in out.read_bytes()) == keep


def test_quality_is_the_size(tmp_path):
    path = tmp_path / "a.mp4"
    clips.film(path, list(clips.moving(6)), TIMES[:6])
    sizes = [written(path, Encoding(quality=q))[0].stat().st_size for q in (50, 80, 95, 100)]
    assert sizes == sorted(sizes)
    assert sizes[-1] > 2 * sizes[0]


def test_bad_films_are_told_in_one_sentence(tmp_path):
    good, bad = tmp_path / "good.mp4", tmp_path / "bad.mp4"
    clips.film(good, list(clips.moving(24)), range(0, 960, 40))
    data = good.read_bytes()
    sound, cut = tmp_path / "sound.mp4", tmp_path / "cut.mkv"
    with av.open(str(sound), "w") as container, av.open(str(good)) as there:
        tone = container.add_stream_from_template(there.streams.audio[0])
        for packet in there.demux(there.streams.audio[0]):
            if packet.dts is not None:
                packet.stream = tone
                container.mux(packet)
    with pytest.raises(PhotoError, match=r"sound.mp4 holds no moving pictures$"):
        read(sound)
    half = data.find(b"mdat") + 4 + (len(data) - data.find(b"mdat")) // 3
    zeros = data[:half] + bytes(2000) + data[half + 2000 :]
    for content in (b"", b"text", data[: len(data) // 2], zeros):
        bad.write_bytes(content)
        with pytest.raises(
            PhotoError, match=r"bad.mp4 is damaged, cut short, encrypted or no film; "
        ):
            list(read(bad).frames())
        with pytest.raises(PhotoError):
            read(bad).write(tmp_path / "out.part", painted, Encoding())
    clips.film(cut, list(clips.moving(24)), range(0, 960, 40))
    cut.write_bytes(cut.read_bytes()[: cut.stat().st_size // 2])
    with pytest.raises(PhotoError, match="cut short"):
        list(read(cut).frames())
    ahead = tmp_path / "ahead.mp4"  # its table of contents comes first
    clips.film(ahead, list(clips.moving(24)), range(0, 960, 40), movflags="faststart")
    assert len(list(read(ahead).frames())) == 24
    ahead.write_bytes(ahead.read_bytes()[: ahead.stat().st_size // 2])
    with pytest.raises(PhotoError, match="cut short"):
        list(read(ahead).frames())
