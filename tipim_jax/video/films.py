"""Films that PyAV reads and writes: the change of a picture is made in the film's own samples."""

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import av
import numpy as np
from av.codec import Codec
from av.stream import Disposition

from tipim_jax.photos.decode import MAX_PIXELS
from tipim_jax.photos.encode import QUALITY
from tipim_jax.photos.finish import Encoding
from tipim_jax.photos.photo import PhotoError
from tipim_jax.video.clip import Clip, Frame, Paint

CONTAINERS = {
    ".mp4": "mp4",
    ".m4v": "mp4",
    ".mov": "mov",
    ".webm": "webm",
    ".mkv": "matroska",
}


class Encoder(NamedTuple):
    """A way to write films.

    Attributes:
      name: FFmpeg's.
      crf: its constant rate factor at quality 95.
      options: others.
    """

    name: str
    crf: int
    options: dict[str, str]


# by the name of the codec that reads them
ENCODERS = {
    "h264": Encoder("libx264", 18, {"preset": "medium"}),
    "hevc": Encoder("libx265", 20, {"preset": "medium", "x265-params": "log-level=error"}),
    "vp9": Encoder("libvpx-vp9", 22, {"b:v": "0", "deadline": "good", "cpu-used": "3"}),
    "av1": Encoder("libsvtav1", 24, {"preset": "8"}),
}
# Weights of red and blue in lightness, by FFmpeg's number of the colour space; BT.601 for all others
_LIGHTNESS = {1: (0.2126, 0.0722), 9: (0.2627, 0.0593), 10: (0.2627, 0.0593)}
_FULL = 2  # FFmpeg's number of the range 0…255
os.environ.setdefault("SVT_LOG", "1")  # or libsvtav1 prints what it is
# With another number of threads x264 writes other bytes.
_THREADS = 4


def read(path: Path, suffix: str) -> Clip:
    """Opens a film.

    Args:
      path: of the file.
      suffix: of its name, which says what container it is written in again.

    Raises:
      PhotoError: it is damaged, encrypted or too large, or holds no pictures that can be read.
    """
    with _opened(path) as (container, stream):
        length = stream.frames
        if not length and stream.average_rate and container.duration:
            length = round(container.duration / av.time_base * stream.average_rate)

    def frames() -> Iterator[Frame]:
        with _opened(path) as (container, stream), _explained(path):
            end = 0.0
            for packet in container.demux():
                if packet.pts is not None:
                    end = max(end, float((packet.pts + (packet.duration or 0)) * packet.time_base))
                if packet.stream.index == stream.index:
                    for frame in packet.decode():
                        yield Frame(_seconds(frame), _upright(_rgb(frame), frame.rotation))
            # Some containers end anywhere without being told from those that are whole.
            start, length = (
                (x or 0) / av.time_base for x in (container.start_time, container.duration)
            )
            if end < start + length - max(0.5, 0.02 * length):
                raise _damaged(path)

    def write(out: Path, paint: Paint, encoding: Encoding) -> tuple[str, ...]:
        return _write(path, suffix.lower(), out, paint, encoding)

    return Clip(length, frames, write)


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[tuple[Any, Any]]:
    """The container and the stream of its pictures."""
    with _explained(path):
        container = av.open(str(path))
    with container:
        streams = [
            stream
            for stream in container.streams.video
            if not stream.disposition & Disposition.attached_pic  # a cover
        ]
        if not streams:
            raise PhotoError(f"{path} holds no moving pictures")
        stream = streams[0]
        if stream.codec_context is None:
            raise PhotoError(f"{path} is encoded in a way that cannot be read; save it as H.264")
        if stream.width * stream.height > MAX_PIXELS:
            most = MAX_PIXELS / 1e6
            raise PhotoError(f"{path} has more than {most:.0f} megapixels; make it smaller")
        stream.thread_type = "AUTO"
        yield container, stream


@contextlib.contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Says in our words that FFmpeg cannot read a film."""
    try:
        yield
    except av.error.FFmpegError as error:
        raise _damaged(path) from error


def _damaged(path: Path) -> PhotoError:
    return PhotoError(
        f"{path} is damaged, cut short, encrypted or no film; copy it again from where it came from"
    )


def _seconds(frame: Any) -> float:
    return 0.0 if frame.time is None else float(frame.time)


def _rgb(frame: Any) -> np.ndarray:
    """[H,W,3] uint8 of a frame, as it is stored."""
    return np.asarray(frame.to_ndarray(format="rgb24"))


def _upright(pixels: np.ndarray, rotation: float) -> np.ndarray:
    """Turned as the film wants to be shown, by degrees against the clock."""
    return np.ascontiguousarray(np.rot90(pixels, round(rotation / 90)))


def _write(path: Path, suffix: str, out: Path, paint: Paint, encoding: Encoding) -> tuple[str, ...]:
    with _opened(path) as (container, stream):
        with _explained(path):
            first = next(container.decode(stream), None)
        if first is None:
            raise PhotoError(f"{path} holds no pictures")
        codec, notes = stream.codec.canonical_name, []
    if codec not in ENCODERS:
        saved_as = "vp9" if suffix == ".webm" else "h264"
        notes.append(f"the pictures, which were {codec}, are saved as {saved_as}")
        codec = saved_as
    if first.rotation:
        notes.append("the pictures are saved upright")
    try:
        with (
            _opened(path) as (container, stream),
            # without random numbers in the file
            av.open(
                str(out),
                "w",
                format=CONTAINERS[suffix],
                options={"fflags": "+bitexact"},
            ) as writer,
        ):
            encoder = _encoder(writer, stream, first, ENCODERS[codec], encoding.quality)
            copied = _copied(writer, container, encoding.keep_metadata)
            number = 0
            for kind, item in _items(path, container, stream, copied):
                if kind is None:
                    writer.mux(encoder.encode(_changed(item, number, paint, encoder.pix_fmt)))
                    number += 1
                else:
                    item.stream = kind
                    writer.mux(item)
            writer.mux(encoder.encode())
    except av.error.FFmpegError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise OSError(error.errno, error.strerror) from error
        raise PhotoError(
            f"{path} cannot be written again as it is ({error.strerror}); save it as H.264 with AAC in MP4"
        ) from error
    return tuple(notes)


def _items(
    path: Path, container: Any, stream: Any, copied: dict[int, Any]
) -> Iterator[tuple[Any, Any]]:
    """What a film holds in its order: (None, a frame) and (the stream it goes to, a packet to copy)."""
    with _explained(path):
        streams = [stream, *(container.streams[index] for index in copied)]
        for packet in container.demux(streams):
            if packet.stream.index == stream.index:
                yield from ((None, frame) for frame in packet.decode())
            elif packet.dts is not None:
                yield copied[packet.stream.index], packet


def _copied(writer: Any, container: Any, keep_metadata: bool) -> dict[int, Any]:
    """The streams of sound and subtitles that are copied as they are, by their numbers in the original."""
    copied = {
        stream.index: writer.add_stream_from_template(stream)
        for stream in container.streams
        if stream.type in ("audio", "subtitle")
    }
    if keep_metadata:
        writer.metadata.update(container.metadata)
        for index, stream in copied.items():
            stream.metadata.update(container.streams[index].metadata)
    return copied


def _encoder(writer: Any, stream: Any, first: Any, encoder: Encoder, quality: int) -> Any:
    """The stream of pictures of what is written, like that of what is read."""
    crf = max(1, round(encoder.crf + (QUALITY - quality) / 2))
    made = writer.add_stream(
        encoder.name,
        rate=stream.average_rate or stream.guessed_rate,
        options=encoder.options | {"crf": str(min(crf, 51))},
        time_base=stream.time_base,
    )
    turned = round(first.rotation / 90) % 2
    made.width, made.height = (first.height, first.width) if turned else (first.width, first.height)
    made.pix_fmt = _format(first, encoder.name)
    context = made.codec_context
    context.thread_count = _THREADS
    if stream.codec_context.codec_tag in ("hvc1", "avc1"):
        context.codec_tag = stream.codec_context.codec_tag
    aspect = stream.sample_aspect_ratio
    if aspect:
        context.sample_aspect_ratio = 1 / aspect if turned else aspect
    context.color_range = _FULL if _is_full(first) else first.color_range
    context.colorspace = first.colorspace
    context.color_trc, context.color_primaries = first.color_trc, first.color_primaries
    return made


def _format(frame: Any, encoder: str) -> str:
    """The format of samples that is written: the film's own if the change can be made in it."""
    name = frame.format.name.replace("yuvj", "yuv")  # their range is said apart
    there = {format.name for format in Codec(encoder, "w").video_formats or ()}
    parts = frame.format.components
    own = not frame.format.is_rgb and all(
        part.plane == i and not part.is_alpha for i, part in enumerate(parts)
    )
    if own and name in there:
        return str(name)
    if parts[0].bits > 8 and "yuv420p10le" in there:
        return "yuv420p10le"
    return "yuv444p" if frame.format.is_rgb and "yuv444p" in there else "yuv420p"


def _is_full(frame: Any) -> bool:
    return frame.color_range == _FULL or frame.format.name.startswith("yuvj")


def _changed(frame: Any, number: int, paint: Paint, format: str) -> Any:
    """The frame as it is painted, in samples of a format; what is not painted keeps its samples."""
    turn = round(frame.rotation / 90)
    before = _rgb(frame)
    after = paint(number, np.ascontiguousarray(np.rot90(before, turn)))
    change = np.rot90(after, -turn).astype(np.float32) - before
    range_ = _FULL if _is_full(frame) else frame.color_range
    saved = frame.reformat(format=format, src_color_range=range_, dst_color_range=range_)
    saved.make_writable()
    rows, columns = (np.flatnonzero(change.any((axis, 2))) for axis in (1, 0))
    if rows.size:
        _add(saved, change, (rows[0], rows[-1] + 1), (columns[0], columns[-1] + 1))
    if turn % 4:
        saved = _turned(saved, turn)
    saved.pict_type = 0  # the encoder decides
    return saved


def _add(frame: Any, change: np.ndarray, rows: tuple[int, int], columns: tuple[int, int]) -> None:
    """Adds a change [H,W,3] of RGB within some rows and columns to a frame's own samples."""
    red, blue = _LIGHTNESS.get(frame.colorspace, (0.299, 0.114))
    bits = frame.format.components[0].bits
    luma, chroma = (1, 1) if frame.color_range == _FULL else (219 / 255, 224 / 255)
    for i, plane in enumerate(_planes(frame)):
        across, down = (
            -(-full // part) for full, part in zip(change.shape[1::-1], plane.shape[::-1])
        )
        top, left = rows[0] // down * down, columns[0] // across * across
        part = change[top : rows[1], left : columns[1]]
        light = part @ np.array([red, 1 - red - blue, blue], np.float32)
        if i == 0:
            moved = light * luma
        else:
            share, channel = (blue, 2) if i == 1 else (red, 0)
            moved = (part[..., channel] - light) * (chroma / (2 - 2 * share))
        height, width = -(-part.shape[0] // down), -(-part.shape[1] // across)
        padded = np.pad(
            moved, ((0, height * down - part.shape[0]), (0, width * across - part.shape[1])), "edge"
        )
        means = padded.reshape(height, down, width, across).mean((1, 3)) * 2 ** (bits - 8)
        there = plane[top // down :, left // across :][:height, :width]
        there[...] = np.clip(np.rint(there + means), 0, 2**bits - 1)


def _planes(frame: Any) -> list[np.ndarray]:
    """[h,w] views of a frame's samples."""
    kind = np.uint16 if frame.format.components[0].bits > 8 else np.uint8
    return [
        np.frombuffer(plane, kind).reshape(plane.height, -1)[:, : plane.width]
        for plane in frame.planes
    ]


def _turned(frame: Any, turn: int) -> Any:
    """A copy, turned by so many quarters against the clock."""
    size = (frame.height, frame.width) if turn % 2 else (frame.width, frame.height)
    copy = av.VideoFrame(*size, frame.format.name)
    for there, here in zip(_planes(copy), _planes(frame), strict=True):
        there[...] = np.rot90(here, turn)
    for name in ("pts", "time_base", "duration", "color_range", "colorspace"):
        setattr(copy, name, getattr(frame, name))
    return copy
