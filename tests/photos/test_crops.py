"""Crops of photos: exact where they must be, and free of aliasing where faces are large."""

import numpy as np
import pytest

from tipim_jax.core import geometry
from tipim_jax.photos.crops import crop


def similarity(scale: float, angle: float, x: float, y: float) -> np.ndarray:
    cos, sin = scale * np.cos(angle), scale * np.sin(angle)
    return np.array([[cos, -sin, x], [sin, cos, y]])


def noise(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)


@pytest.mark.parametrize("matrix", [
    similarity(1, 0, 0, 0), similarity(1, 0, 7, -5), similarity(0.7, 0.3, 20, 10),
    similarity(1, -2.5, 60, 70), similarity(0.2, 1, -3, 90),
])  # fmt: skip
def test_up_to_full_size_it_is_the_core_warp(matrix):
    image = noise(90, 100)
    expected = geometry.warp(image.astype(np.float32), matrix, (48, 64))
    np.testing.assert_allclose(crop(image, matrix, (48, 64)), expected, atol=0.02)


def test_the_identity_copies():
    image = noise(40, 50)
    np.testing.assert_array_equal(crop(image, similarity(1, 0, 0, 0), (40, 50)), image)


@pytest.mark.parametrize("scale", [0.3, 1, 1.01, 1.5, 1.99, 2, 3.3, 4.5, 7.9, 12])
@pytest.mark.parametrize("angle", [0, 0.4, 3])
def test_a_ramp_is_sampled_at_the_right_place(scale, angle):
    y, x = np.mgrid[:500, :500].astype(np.float32)
    ramp = np.stack([x, y], 2)
    size = (20, 24)
    # Centred in the ramp, so that the zeros outside play no part.
    matrix = similarity(scale, angle, 0, 0)
    matrix[:, 2] = 250 - matrix[:, :2] @ [11.5, 9.5]
    rows, columns = np.mgrid[: size[0], : size[1]]
    points = np.stack([columns, rows], 2) @ matrix[:, :2].T + matrix[:, 2]
    np.testing.assert_allclose(crop(ramp, matrix, size), points, atol=1e-3)


@pytest.mark.parametrize("scale", [2, 3, 5, 9.5])
def test_what_is_finer_than_a_pixel_is_averaged_away(scale):
    y, x = np.mgrid[:400, :400]
    checks = np.repeat(((x + y) % 2 * 255)[..., None], 3, 2).astype(np.uint8)
    matrix = similarity(scale, 0.1, 40, 30)
    # The cells of a rotated footprint do not cancel exactly; aliasing would give a spread of 127.
    assert np.abs(crop(checks, matrix, (30, 30)) - 127.5).max() < 32
    coarse = crop(noise(400, 400), matrix, (30, 30))
    assert coarse.std() < 1.3 * 74 / scale


def test_whole_blocks_are_area_means():
    image = noise(60, 80)
    matrix = np.array([[4, 0, 1.5], [0, 4, 1.5]])
    means = image.reshape(15, 4, 20, 4, 3).mean((1, 3))
    got = crop(image, matrix, (15, 20))
    # Bilinear samples between blocks reach a little into the neighbours.
    assert np.corrcoef(got[1:-1, 1:-1].ravel(), means[1:-1, 1:-1].ravel())[0, 1] > 0.95


def test_outside_is_zero():
    image = np.full((30, 30, 3), 200, np.uint8)
    assert not crop(image, similarity(1, 0, 500, 0), (8, 8)).any()
    assert not crop(image, similarity(5, 0, -500, -500), (8, 8)).any()
    half = crop(image, similarity(1, 0, -4, 0), (8, 8))
    assert not half[:, :4].any()
    assert (half[:, 4:] == 200).all()
