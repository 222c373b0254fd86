"""What happens to photos on their way, and what of a mask shows."""

import numpy as np
import pytest
from skimage.data import astronaut

from experiments.protection.degradations import DEGRADATIONS, bilateral, median, total_variation
from experiments.studies import naturalness
from tipim_jax.analysis import metrics
from tipim_jax.core.naturalness import mmd


@pytest.fixture(scope="module")
def canvas() -> np.ndarray:
    return np.ascontiguousarray(astronaut()[40:200, 140:300])


@pytest.mark.parametrize("name", DEGRADATIONS)
def test_every_degradation_keeps_the_photo_recognisable(name, canvas):
    apply = DEGRADATIONS[name].apply
    done = apply(canvas, np.random.default_rng(0))
    assert (done.shape, done.dtype) == (canvas.shape, np.uint8)
    np.testing.assert_array_equal(done, apply(canvas, np.random.default_rng(0)))
    if name == "as made":
        np.testing.assert_array_equal(done, canvas)
    elif name != "resize and pad":
        assert 18 < metrics.psnr(canvas, done) < 50
    else:  # smaller, on black
        assert 0 < np.mean(done.max(-1) == 0) < 0.4
        assert not np.array_equal(done, apply(canvas, np.random.default_rng(1)))


def test_harsher_is_worse_within_a_family(canvas):
    for family in ("JPEG", "WebP", "blur", "bits"):
        members = [d for d in DEGRADATIONS.values() if d.family == family]
        assert len(members) == 3
        strengths = [d.strength for d in members]
        assert strengths == sorted(strengths)
        left = [metrics.psnr(canvas, d.apply(canvas, np.random.default_rng(0))) for d in members]
        assert left == sorted(left, reverse=True)


def test_bits_are_what_is_left(canvas):
    done = DEGRADATIONS["3 bits"].apply(canvas, np.random.default_rng(0))
    assert len(np.unique(done)) == 8
    assert np.abs(done.astype(int) - canvas).max() <= 255 / 7 / 2 + 1


@pytest.mark.parametrize("smooth", [median(3), bilateral(30, 2.0), total_variation(0.1)])
def test_what_removes_masks_removes_noise_and_keeps_edges(smooth):
    rng = np.random.default_rng(0)
    photo = np.full((64, 64, 3), 60, np.uint8)
    photo[:, 32:] = 190
    noisy = (photo + rng.integers(-8, 9, photo.shape)).astype(np.uint8)
    done = smooth(noisy, rng)
    error = np.abs(done.astype(float) - photo)
    assert error.mean() < 0.6 * np.abs(noisy.astype(float) - photo).mean()
    assert error[:, 31:33].mean() < 10


def test_a_mask_shows_where_the_photo_is_flat():
    rng = np.random.default_rng(0)
    photo = np.full((2, 160, 160, 3), 128, np.uint8)
    photo[:, :80] = rng.integers(0, 256, (2, 80, 160, 1))
    rough, flat = photo.copy(), photo.copy()
    rough[:, 10:70] += 4  # wraps around at a few pixels of the noise; the same in none of the other
    rough = np.where(np.abs(rough.astype(int) - photo) > 4, photo, rough)
    flat[:, 90:150] += 4
    shows = naturalness.visible(photo, rough), naturalness.visible(photo, flat)
    assert np.all(shows[1] > 2 * shows[0])
    assert np.all(naturalness.visible(photo, photo) == 0)


def test_the_discrepancy_is_that_of_the_faces_in_groups(canvas):
    rng = np.random.default_rng(0)
    clean = np.stack([np.roll(canvas, i, axis=1) for i in range(3)])
    noisy = np.clip(clean + rng.integers(-3, 4, clean.shape), 0, 255).astype(np.uint8)
    found = naturalness.discrepancy(clean, noisy)
    inside = slice(24, 136)
    whole = mmd(*(x[:, inside, inside].astype(np.float32) for x in (noisy, clean)))
    np.testing.assert_allclose(found, [whole], rtol=1e-5)
    assert naturalness.discrepancy(clean, clean) == pytest.approx([0], abs=1e-4)
    assert (
        len(naturalness.discrepancy(*[np.repeat(x[:1], 101, axis=0) for x in (clean, noisy)])) == 2
    )
