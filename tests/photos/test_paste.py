"""Masks on full-resolution photos: within ε everywhere, and nothing outside the faces."""

import numpy as np
import pytest

from tipim_jax.core import geometry
from tipim_jax.photos.crops import crop
from tipim_jax.photos.paste import FEATHER, FaceMask, paste, round_trip, window

SIZE = (160, 160)
PLACES = {
    "upright": (1.0, 0.0, 60, 40),
    "turned": (1.3, 0.7, 160, 20),
    "upside down": (0.8, np.pi, 230, 210),
    "large": (2.4, -0.2, -30, 20),
    "larger than the photo": (9.0, 0.3, -400, -300),
    "small": (0.21, 0.4, 120, 100),
    "over the left border": (1.0, 0.1, -80, 40),
    "over the corner": (1.0, -0.1, 230, 190),
    "outside": (1.0, 0.0, 900, 40),
}


def face(rng, scale, angle, x, y, bound=8.0) -> FaceMask:
    cos, sin = scale * np.cos(angle), scale * np.sin(angle)
    return FaceMask(
        rng.uniform(-bound, bound, (*SIZE, 3)), np.array([[cos, -sin, x], [sin, cos, y]])
    )


def photo_of(rng, height=260, width=340) -> np.ndarray:
    return rng.integers(0, 256, (height, width, 3), np.uint8)


def on_canvas(photo: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """[H,W] which pixels have their centre on the canvas."""
    y, x = np.mgrid[: photo.shape[0], : photo.shape[1]]
    points = np.stack([x, y], -1) @ geometry.invert(matrix)[:, :2].T + geometry.invert(matrix)[:, 2]
    return np.all((points >= -1e-9) & (points <= np.array(SIZE[::-1]) - 1 + 1e-9), axis=-1)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("epsilon", [0.0, 0.9, 1.0, 5.5, 8.0, 12.0, 255.0])
def test_bound_and_region(place, epsilon):
    rng = np.random.default_rng(0)
    photo, mask = photo_of(rng), face(rng, *PLACES[place], bound=1.5 * epsilon + 1)
    original = photo.copy()
    protected = paste(photo, [mask], epsilon)
    change = protected.astype(int) - photo
    assert protected.dtype == np.uint8
    assert np.abs(change).max() <= epsilon
    assert not change[~on_canvas(photo, mask.matrix)].any()
    np.testing.assert_array_equal(photo, original)
    if epsilon >= 5 and place != "outside":
        assert change.any()


@pytest.mark.parametrize("seed", range(5))
def test_many_overlapping_faces(seed):
    rng = np.random.default_rng(seed)
    photo = photo_of(rng, 1100, 400)  # more than one band of rows
    faces = [
        face(rng, rng.uniform(0.2, 4), rng.uniform(-4, 4), *rng.uniform(-100, 900, 2), bound=20)
        for _ in range(12)
    ]
    protected = paste(photo, faces, 7)
    change = protected.astype(int) - photo
    assert np.abs(change).max() <= 7
    somewhere = np.any([on_canvas(photo, f.matrix) for f in faces], axis=0)
    assert not change[~somewhere].any()
    np.testing.assert_array_equal(protected, paste(photo, faces[::-1], 7))


def test_faces_apart_are_pasted_as_if_alone():
    rng = np.random.default_rng(1)
    photo = photo_of(rng, 300, 700)
    one, two = face(rng, 1, 0, 20, 30), face(rng, 1, 0.3, 400, 20)
    both = paste(photo, [one, two], 8)
    np.testing.assert_array_equal(both, paste(paste(photo, [one], 8), [two], 8))


def test_no_mask_changes_nothing():
    rng = np.random.default_rng(2)
    photo = photo_of(rng)
    np.testing.assert_array_equal(paste(photo, [], 8), photo)
    zero = FaceMask(np.zeros((*SIZE, 3)), np.array([[1.0, 0, 20], [0, 1.0, 20]]))
    np.testing.assert_array_equal(paste(photo, [zero], 8), photo)


def test_on_the_pixel_grid_the_mask_arrives_unchanged():
    rng = np.random.default_rng(3)
    photo = rng.integers(20, 230, (260, 340, 3)).astype(np.uint8)
    limit = np.floor(8 * window(SIZE))[..., None]
    mask = np.clip(rng.integers(-8, 9, (*SIZE, 3)), -limit, limit)
    protected = paste(photo, [FaceMask(mask, np.array([[1.0, 0, 50], [0, 1.0, 60]]))], 8)
    np.testing.assert_array_equal(
        protected.astype(int)[60:220, 50:210] - photo[60:220, 50:210], mask
    )


def test_a_smooth_mask_survives_the_way_to_the_photo_and_back():
    rng = np.random.default_rng(4)
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    wave = 8 * window(SIZE)[..., None] * np.stack([np.sin(x / 6), np.cos(y / 7), np.sin(y / 5)], 2)
    photo = rng.integers(20, 230, (1000, 1000, 3)).astype(np.uint8)
    for scale, angle in ((1, 0.3), (1.7, 0), (3.1, -0.4), (4.9, 0.2)):
        matrix = face(rng, scale, angle, 0, 0).matrix
        matrix[:, 2] = 499.5 - matrix[:, :2] @ [79.5, 79.5]
        protected = paste(photo, [FaceMask(wave, matrix)], 8)
        seen = crop(protected, matrix, SIZE) - crop(photo, matrix, SIZE)
        assert np.abs(seen - wave).max() < 0.8


@pytest.mark.parametrize("scale", [0.24, 0.5, 0.9, 1.0, 1.3, 2.6, 4.1])
def test_round_trip_is_what_paste_and_crop_leave(scale):
    rng = np.random.default_rng(6)
    mask = rng.choice([-100.0, 100.0], (*SIZE, 3)) * window(SIZE)[..., None]
    photo = np.full((680, 680, 3), 128, np.uint8)
    left = []
    for x, y in rng.uniform(8, 9, (12, 2)):
        matrix = np.array([[scale, 0, x], [0, scale, y]])
        protected = paste(photo, [FaceMask(mask, matrix)], 100)
        left.append(crop(protected.astype(np.float32) - photo, matrix, SIZE))
    b = round_trip(scale, SIZE[0])
    np.testing.assert_allclose(b.sum(1), 1, atol=1e-6)
    predicted = (b @ (b @ mask.transpose(2, 0, 1)).swapaxes(1, 2)).transpose(2, 1, 0)
    inner = np.s_[16:-16, 16:-16]
    measured = np.mean(left, 0)[inner]
    assert np.corrcoef(measured.ravel(), predicted[inner].ravel())[0, 1] > 0.95
    np.testing.assert_allclose(measured.std(), predicted[inner].std(), rtol=0.1)


def test_a_grey_mask_keeps_a_photo_grey():
    rng = np.random.default_rng(5)
    photo = np.repeat(rng.integers(0, 256, (260, 340, 1), np.uint8), 3, 2)
    mask = face(rng, 1.2, 0.3, 80, 20)
    grey = mask._replace(mask=np.repeat(mask.mask[..., :1], 3, axis=-1))
    protected = paste(photo, [grey, grey._replace(matrix=mask.matrix + 3.3)], 8)
    assert (protected == protected[..., :1]).all()
    assert (protected != photo).any()


def test_the_window_falls_to_zero_at_the_border():
    w = window(SIZE)
    assert w[0].max() == w[-1].max() == w[:, 0].max() == w[:, -1].max() == 0
    assert (w[FEATHER:-FEATHER, FEATHER:-FEATHER] == 1).all()
    assert (np.diff(w[80, : FEATHER + 1]) > 0).all()


@pytest.mark.parametrize("epsilon", [-1, 256, float("nan")])
def test_bad_epsilon(epsilon):
    with pytest.raises(ValueError, match="pixel levels from 0 to 255"):
        paste(np.zeros((9, 9, 3), np.uint8), [], epsilon)


def test_a_mask_that_is_not_finite_is_refused():
    mask = FaceMask(np.full((*SIZE, 3), np.nan), np.eye(2, 3))
    with pytest.raises(ValueError, match="NaN"):
        paste(np.zeros((9, 9, 3), np.uint8), [mask], 8)
