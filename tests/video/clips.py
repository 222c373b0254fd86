"""Clips for tests and measurements: a portrait of the demo that a camera moves over, and a tone."""

import math
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
from PIL import Image

from tipim_jax.core.geometry import CANVAS_LANDMARKS
from tipim_jax.photos.demo import demo_photos
from tipim_jax.photos.faces import Face, align

COLLINS, SUNAK = "collins.jpg", "sunak.jpg"
# left, top, width, height of the face in the portrait
FACES = {COLLINS: (178, 63, 91, 113), SUNAK: (168, 134, 192, 272)}


def portrait(name: str = COLLINS) -> Image.Image:
    (path,) = [path for path in demo_photos() if path.name == name]
    return Image.open(path).convert("RGB")


def moving(
    count: int,
    size: tuple[int, int] = (192, 144),
    name: str = COLLINS,
    *,
    face: float = 0.5,
    cycle: int = 75,
) -> Iterator[np.ndarray]:
    """A slow pan, zoom and turn over a portrait: [h,w,3] uint8.

    Args:
      count: frames.
      size: width, height.
      name: of the portrait.
      face: height of the face in the middle of the zoom, of the height of the picture.
      cycle: frames of a pan there and back.
    """
    photo = portrait(name)
    for i in range(count):
        matrix = _camera(i, size, name, face, cycle)
        yield np.asarray(
            photo.transform(size, Image.Transform.AFFINE, matrix, Image.Resampling.BICUBIC)
        )


def placed(
    points: np.ndarray,
    number: int,
    size: tuple[int, int] = (192, 144),
    name: str = COLLINS,
    *,
    face: float = 0.5,
    cycle: int = 75,
) -> np.ndarray:
    """Where points [n,2] of a portrait lie in a frame of `moving`."""
    a, b, x, d, e, y = _camera(number, size, name, face, cycle)
    return (points + 0.5 - [x, y]) @ np.linalg.inv([[a, b], [d, e]]).T - 0.5


def _camera(i: int, size: tuple[int, int], name: str, face: float, cycle: int) -> tuple[float, ...]:
    """What takes the pixels of a frame to those of the portrait, as Pillow wants it."""
    left, top, width, height = FACES[name]
    t = 2 * math.pi * i / cycle
    scale = height / (face * size[1]) * (1 + 0.15 * math.sin(t))  # photo pixels per pixel
    angle = 0.1 * math.sin(2 * t)
    a, b = scale * math.cos(angle), scale * math.sin(angle)
    x = left + width / 2 + 0.25 * width * math.cos(t)
    y = top + height / 2 + 0.1 * height * math.sin(t)
    c, d = size[0] / 2, size[1] / 2
    return a, b, x - a * c - b * d, -b, a, y + b * c - a * d


def animation(
    path: Path, frames: Sequence[np.ndarray], durations: Sequence[int], **options
) -> None:
    images = [Image.fromarray(frame) for frame in frames]
    images[0].save(
        path, save_all=True, append_images=images[1:], duration=list(durations), loop=3, **options
    )


def film(
    path: Path,
    frames: Sequence[np.ndarray],
    times: Sequence[int],
    *,
    codec: str = "libx264",
    sound: str | None = "aac",
    pix_fmt: str = "yuv420p",
    options: dict[str, str] | None = None,
    color_range: int = 0,
    metadata: dict[str, str] | None = None,
    movflags: str = "",
) -> None:
    """Writes a film; `times` are in milliseconds, and the tone lasts as long as they."""
    import av

    flags = {"movflags": movflags} if movflags else {}
    with av.open(str(path), "w", options=flags) as container:
        container.metadata.update(metadata or {})
        pictures = container.add_stream(codec, rate=25, options=options or {})
        pictures.height, pictures.width = frames[0].shape[:2]
        pictures.pix_fmt = pix_fmt
        pictures.time_base = pictures.codec_context.time_base = Fraction(1, 1000)
        pictures.codec_context.color_range = color_range
        tone = container.add_stream(sound, rate=48_000, layout="mono") if sound else None
        for time, pixels in zip(times, frames, strict=True):
            frame = av.VideoFrame.from_ndarray(pixels, "rgb24")
            frame = frame.reformat(format=pix_fmt, dst_color_range=color_range or None)
            frame.pts, frame.time_base = time, Fraction(1, 1000)
            container.mux(pictures.encode(frame))
        container.mux(pictures.encode())
        if tone is not None:
            size = tone.codec_context.frame_size or 960
            for start in range(0, 48 * (times[-1] + 40), size):
                wave = np.sin(2 * np.pi * 440 * np.arange(start, start + size) / 48_000)
                samples = av.AudioFrame.from_ndarray(wave[None].astype(np.float32), "fltp", "mono")
                samples.sample_rate, samples.pts = 48_000, start
                container.mux(tone.encode(samples))
            container.mux(tone.encode())


def patch(seed: int, side: int = 72) -> np.ndarray:
    """A square that stands for a face: smooth noise, never dark."""
    noise = np.random.default_rng(seed).integers(90, 230, (9, 9, 3), np.uint8)
    return np.asarray(Image.fromarray(noise).resize((side, side), Image.Resampling.BICUBIC))


def patches(
    count: int, size: tuple[int, int] = (160, 96), *, seeds: Sequence[int] = (1,), speed: int = 1
) -> list[np.ndarray]:
    """Frames [h,w,3] with a square for each seed, side by side, that go down and up again in dark halves."""
    frames = []
    for i in range(count):
        frame = np.full((size[1], size[0], 3), 20, np.uint8)
        for j, seed in enumerate(seeds):
            square = patch(seed)
            top, left = 4 + abs(speed * i % 32 - 16), 4 + j * (size[0] // 2)
            frame[top : top + len(square), left : left + len(square)] = square
        frames.append(frame)
    return frames


def find(pixels: np.ndarray) -> list[Face]:
    """The squares of `patches`, one in each half of the picture."""
    faces = []
    middle = pixels.shape[1] // 2
    for offset, half in ((0, pixels[:, :middle]), (middle, pixels[:, middle:])):
        rows, columns = (np.flatnonzero((half > 60).any(2).sum(axis) > 8) for axis in (1, 0))
        if len(rows) and len(columns):
            top, left, side = rows[0], columns[0] + offset, rows[-1] + 1 - rows[0]
            landmarks = np.array([left, top]) + np.asarray(CANVAS_LANDMARKS) * side / 160
            faces.append(align(pixels, landmarks, (float(left), float(top), side, side)))
    return faces
