"""Alignment and sampling against OpenCV, SciPy and Umeyama's formula."""

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from tipim_jax.core import geometry

warp = jax.jit(geometry.warp, static_argnums=2)

# Upright framings of other recognisers: the 112×96 crop of SphereFace, and one of 150 pixels.
SPHEREFACE = (geometry.ARCFACE_112 - [8, 0], (112, 96))
WIDE = (geometry.ARCFACE_112 * 1.2 + [3.3, 1.7], (150, 150))
ARCFACE = (geometry.ARCFACE_112, (112, 112))


def umeyama(source, target):
    """By singular values, reflections excluded (Umeyama, 1991, Eq. 40-43)."""
    s, t = source - source.mean(0), target - target.mean(0)
    u, d, vt = np.linalg.svd(t.T @ s / len(s))
    signs = np.array([1, np.sign(np.linalg.det(u) * np.linalg.det(vt))])
    linear = (u * signs) @ vt * (d @ signs) / np.mean(np.sum(s**2, axis=1))
    return np.column_stack([linear, target.mean(0) - linear @ source.mean(0)])


def similarity(rng):
    angle, scale = rng.uniform(-np.pi, np.pi), rng.uniform(0.3, 3)
    linear = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return np.column_stack([linear, rng.uniform(-50, 50, 2)])


@pytest.mark.parametrize("seed", range(10))
def test_fit_similarity(seed):
    rng = np.random.default_rng(seed)
    matrix = similarity(rng)
    points = geometry.ARCFACE_112 + rng.normal(0, 3, (5, 2))
    exact = points @ matrix[:, :2].T + matrix[:, 2]
    np.testing.assert_allclose(geometry.fit_similarity(points, exact), matrix, atol=1e-9)
    theirs, _ = cv2.estimateAffinePartial2D(points, exact)
    np.testing.assert_allclose(geometry.fit_similarity(points, exact), theirs, atol=1e-4)
    noisy = exact + rng.normal(0, 8, (5, 2))
    ours = geometry.fit_similarity(points, noisy)
    np.testing.assert_allclose(ours, umeyama(points, noisy), atol=1e-9)
    both = np.vstack([ours, [0, 0, 1]]) @ np.vstack([geometry.invert(ours), [0, 0, 1]])
    np.testing.assert_allclose(both, np.eye(3), atol=1e-12)


def test_two_points_fix_a_similarity():
    ours = geometry.fit_similarity(np.array([[0, 0], [1, 0]]), np.array([[2, 3], [2, 5]]))
    np.testing.assert_allclose(ours, [[0, -2, 2], [2, 0, 3]], atol=1e-12)


@pytest.fixture(scope="module")
def photo():
    """Smooth, so that OpenCV's rounding of coordinates to 1/32 pixel stays small."""
    noise = np.random.default_rng(0).uniform(0, 255, (60, 80, 3))
    return ndimage.gaussian_filter(noise, (4, 4, 0)) * 4 - 380


@pytest.mark.parametrize("seed", range(4))
def test_warp(photo, seed):
    rng = np.random.default_rng(seed)
    size = (50, 44)
    matrix = similarity(rng) * [[1, 1, 0], [1, 1, 0]]
    matrix[:, 2] = [40, 30] - matrix[:, :2] @ [22, 25]  # centre on centre, corners outside
    image = photo.astype(np.float32)
    ours = np.asarray(warp(jnp.asarray(image), matrix, size))
    rows, columns = np.mgrid[: size[0], : size[1]]
    x, y = np.tensordot(matrix, np.stack([columns, rows, np.ones(size)]), 1)
    expected = np.stack(
        [
            ndimage.map_coordinates(photo[..., c], [y, x], order=1, mode="grid-constant")
            for c in range(3)
        ],
        -1,
    )
    np.testing.assert_allclose(ours, expected, atol=2e-2)
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    theirs = cv2.warpAffine(image, matrix, size[::-1], flags=flags)
    inside = (x > 0) & (x < 79) & (y > 0) & (y < 59)
    assert inside.sum() > 100
    np.testing.assert_allclose(ours[inside], theirs[inside], atol=1.0)
    outside = (x <= -1) | (x >= 80) | (y <= -1) | (y >= 60)
    np.testing.assert_array_equal(ours[outside], 0)


@pytest.mark.usefixtures("x64")
def test_warp_is_exact_and_its_gradient_is_its_transpose(photo):
    matrix = np.array([[0.8, 0.3, -2.2], [-0.25, 0.9, 7.4]])
    forward = lambda image: warp(image, matrix, (20, 30))  # noqa: E731
    image = jnp.asarray(photo)
    rows, columns = np.mgrid[:20, :30]
    x, y = np.tensordot(matrix, np.stack([columns, rows, np.ones((20, 30))]), 1)
    expected = ndimage.map_coordinates(photo[..., 0], [y, x], order=1, mode="grid-constant")
    np.testing.assert_allclose(forward(image)[..., 0], expected, atol=1e-10)
    g = np.random.default_rng(1).normal(size=(20, 30, 3))
    (pulled,) = jax.vjp(forward, image)[1](jnp.asarray(g))
    np.testing.assert_allclose(np.sum(pulled * photo), np.sum(g * forward(image)), rtol=1e-12)


@pytest.mark.parametrize(
    ("landmarks", "size"), [ARCFACE, SPHEREFACE, WIDE], ids=["arcface", "sphereface", "wide"]
)
@pytest.mark.usefixtures("x64")
def test_crop_of_the_canvas_is_a_warp(landmarks, size):
    canvas = (geometry.CANVAS_SIZE, geometry.CANVAS_SIZE)
    crop = geometry.crop_between(geometry.CANVAS_LANDMARKS, landmarks, size, canvas)
    image = jnp.asarray(np.random.default_rng(0).uniform(0, 255, (*canvas, 3)))
    matrix = geometry.fit_similarity(landmarks, geometry.CANVAS_LANDMARKS)
    np.testing.assert_allclose(jax.jit(crop)(image), warp(image, matrix, size), atol=1e-9)


def test_whole_pixel_crops_are_slices():
    canvas = (160, 160)
    image = np.random.default_rng(0).integers(0, 256, (*canvas, 3))
    for (landmarks, size), corner in [(ARCFACE, (24, 24)), (SPHEREFACE, (24, 32))]:
        crop = geometry.crop_between(geometry.CANVAS_LANDMARKS, landmarks, size, canvas)
        y, x = corner
        np.testing.assert_array_equal(crop(image), image[y : y + size[0], x : x + size[1]])


@pytest.mark.usefixtures("x64")
def test_crop_beyond_the_canvas_is_black_there():
    landmarks = geometry.ARCFACE_112 + 40
    crop = geometry.crop_between(geometry.CANVAS_LANDMARKS, landmarks, (192, 192), (160, 160))
    framed = np.array(crop(jnp.ones((160, 160, 1))))
    np.testing.assert_allclose(framed[16:176, 16:176], 1, atol=1e-9)
    framed[16:176, 16:176] = 0
    np.testing.assert_allclose(framed, 0, atol=1e-9)
