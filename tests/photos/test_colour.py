"""Photos of one tint are told from photos of many colours, in every file they may come from."""

import io

import numpy as np
import pytest
from PIL import Image

from tipim_jax.photos import colour, demo
from tipim_jax.photos.decode import decode

DEMO = sorted(demo.demo_photos())
# What becomes of a level n in 0–1: (red, green, blue).
TINTS = {
    "sepia, full in its lights": lambda n: (1.351 * n, 1.203 * n, 0.937 * n),
    "faded": lambda n: (0.05 + 0.93 * n, 0.03 + 0.9 * n, 0.02 + 0.86 * n),
    "cyan": lambda n: (n**1.3, n, n),
    "shadows and lights of two tints": lambda n: (n**0.8, n, n**1.25),
}
LOSSY = {"JPEG": dict(quality=75), "WEBP": dict(quality=75), "AVIF": dict(quality=60, speed=10)}


def tinted(path, tint) -> np.ndarray:
    with Image.open(path) as image:
        level = np.asarray(image.convert("L")) / 255
    return np.clip(np.rint(255 * np.stack(tint(level), axis=2)), 0, 255).astype(np.uint8)


def stored(pixels: np.ndarray, format: str, **options) -> np.ndarray:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format, **options)
    with Image.open(buffer) as image:
        return np.asarray(image.convert("RGB"))


@pytest.mark.parametrize("path", DEMO, ids=lambda path: path.name)
def test_colour_photos_have_no_line(path):
    assert colour.line(decode(path.read_bytes()).pixels) is None


@pytest.mark.parametrize("format", LOSSY)
@pytest.mark.parametrize("path", DEMO[::3], ids=lambda path: path.name)
def test_grey_is_grey_in_lossy_files_too(path, format):
    grey = stored(tinted(path, lambda n: (n, n, n)), format, **LOSSY[format])
    assert colour.line(grey) is colour.GREY


@pytest.mark.parametrize("format", LOSSY)
@pytest.mark.parametrize("tint", TINTS)
@pytest.mark.parametrize("path", DEMO[::3], ids=lambda path: path.name)
def test_tints_have_the_direction_they_vary_in(path, tint, format):
    exact = tinted(path, TINTS[tint])
    axis = colour.line(stored(exact, format, **LOSSY[format]))
    assert np.linalg.norm(axis) == pytest.approx(1)
    middle = np.array(TINTS[tint](0.6)) - np.array(TINTS[tint](0.3))
    assert axis @ middle / np.linalg.norm(middle) > 0.99


@pytest.mark.parametrize("shape", [(1, 1), (3, 200), (40, 30)])
def test_photos_without_contrast_and_of_any_size(shape):
    assert colour.line(np.full((*shape, 3), (90, 20, 60), np.uint8)) is colour.GREY


def test_black_and_white():
    drawing = np.zeros((40, 40, 3), np.uint8)
    drawing[8:16] = 255
    assert colour.line(drawing) is colour.GREY


def test_a_projection_takes_a_mask_to_the_line():
    np.testing.assert_array_equal(colour.projection(None), np.eye(3))
    grey = colour.projection(colour.GREY)
    np.testing.assert_allclose(grey, np.full((3, 3), 1 / 3), rtol=1e-6)
    assert len(np.unique(grey)) == 1
