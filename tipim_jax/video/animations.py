"""Animations that Pillow reads and writes: GIF, WebP, APNG and AVIF."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tipim_jax.photos import metadata
from tipim_jax.photos.decode import ANIMATED, MAX_PIXELS, explained, has_lossless_chunk
from tipim_jax.photos.finish import Encoding
from tipim_jax.photos.photo import PhotoError
from tipim_jax.video.clip import Clip, Frame, Paint

# Pixels of all frames together: Pillow holds what it is going to write.
MAX_TOTAL = 2 * MAX_PIXELS
_COLOURS = 255  # of a frame of a GIF; one index is left for what is transparent


def read(path: Path) -> Clip:
    """Opens an animation.

    Raises:
      PhotoError: it is damaged or too large.
    """
    with explained(str(path)), _opened(path) as image:
        count, size = _count(image) - _first(image), image.size
    if count * size[0] * size[1] > MAX_TOTAL:
        raise PhotoError(
            f"{path} has {count} frames of {size[0]}×{size[1]}, more than {MAX_TOTAL / 1e6:.0f} megapixels "
            "in all; make it smaller or shorter"
        )

    def frames() -> Iterator[Frame]:
        seconds = 0.0
        for picture, duration in _pictures(path):
            yield Frame(seconds, np.asarray(picture)[..., :3])
            seconds += duration / 1000

    def write(out: Path, paint: Paint, encoding: Encoding) -> tuple[str, ...]:
        return _write(path, out, paint, encoding)

    return Clip(count, frames, write)


def _opened(path: Path) -> Image.Image:
    return Image.open(path, formats=ANIMATED)


def _count(image: Image.Image) -> int:
    return int(getattr(image, "n_frames", 1))


def _first(image: Image.Image) -> int:
    """The first picture that moves; an APNG may hold one more, for viewers of photos."""
    return int(bool(getattr(image, "default_image", False) or image.info.get("default_image")))


def _pictures(path: Path) -> Iterator[tuple[Image.Image, float]]:
    """Every frame, whole, RGB or RGBA, and its milliseconds."""
    with explained(str(path)), _opened(path) as image:
        for number in range(_first(image), _count(image)):
            image.seek(number)
            image.load()
            mode = "RGBA" if image.has_transparency_data else "RGB"
            yield image.convert(mode), float(image.info.get("duration", 0))


def _write(path: Path, out: Path, paint: Paint, encoding: Encoding) -> tuple[str, ...]:
    with explained(str(path)), _opened(path) as image:
        kept = metadata.read(image, image.size)
        format, arguments = str(image.format), _arguments(path, image, encoding)
    if encoding.keep_metadata:
        arguments |= metadata.save_arguments(kept, format)
    durations = [round(duration) for _, duration in _pictures(path)]

    def painted() -> Iterator[Image.Image]:
        for number, (picture, _) in enumerate(_pictures(path)):
            samples = np.array(picture)
            samples[..., :3] = paint(number, np.ascontiguousarray(samples[..., :3]))
            frame = Image.fromarray(samples)
            yield _with_palette(frame) if format == "GIF" else frame

    first, *others = painted()
    first.save(out, format, save_all=True, append_images=others, duration=durations, **arguments)
    return ("every frame has a new palette",) if format == "GIF" else ()


def _arguments(path: Path, image: Image.Image, encoding: Encoding) -> dict[str, Any]:
    """What Pillow is to write besides the frames."""
    arguments: dict[str, Any] = {}
    if "loop" in image.info:
        arguments["loop"] = image.info["loop"]
    if (profile := image.info.get("icc_profile")) and image.format != "GIF":
        arguments["icc_profile"] = profile
    if image.format == "GIF":
        # Frames are whole: what one leaves is cleared where the next is transparent, and else covered.
        arguments["disposal"] = 2 if _any_transparent(path) else 1
    elif image.format == "WEBP":
        with path.open("rb") as file:
            lossless = has_lossless_chunk(file)
        arguments |= {"lossless": lossless, "exact": True}
        arguments["quality"] = 80 if lossless else encoding.quality  # effort, for lossless files
    elif image.format == "AVIF":
        arguments |= {"quality": encoding.quality, "subsampling": "4:4:4", "max_threads": 1}
    elif image.format == "PNG":
        arguments |= {"disposal": 0, "blend": 0}
    return arguments


def _any_transparent(path: Path) -> bool:
    return any(
        picture.mode == "RGBA" and np.asarray(picture)[..., 3].min() < 128
        for picture, _ in _pictures(path)
    )


def _with_palette(frame: Image.Image) -> Image.Image:
    """The frame in a palette of its own, dithered."""
    colours = frame.convert("RGB")
    palette = colours.quantize(_COLOURS, Image.Quantize.MEDIANCUT)
    made = colours.quantize(palette=palette, dither=Image.Dither.FLOYDSTEINBERG)
    if frame.mode == "RGBA":
        clear = frame.getchannel("A").point(lambda a: 255 * (a < 128), "1")
        made.paste(_COLOURS, mask=clear)
        made.info["transparency"] = _COLOURS
    return made
