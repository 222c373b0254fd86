"""The perceptual budget: follows contrast, keeps its level and its bounds."""

import numpy as np
import pytest
from scipy import ndimage

from tipim_jax.core import perceptual


@pytest.fixture(scope="module")
def photo():
    """Flat on the left, grain that grows to the right."""
    rng = np.random.default_rng(0)
    contrast = np.linspace(-10, 60, 40).clip(0)[None, :, None]
    return np.clip(128 + contrast * rng.normal(size=(32, 40, 3)), 0, 255).astype(np.float32)


@pytest.mark.parametrize("exponent", [0.5, 1.0])
def test_budget_formula(photo, exponent):
    luma = photo.astype(np.float64) @ [0.299, 0.587, 0.114]
    mean, square = (ndimage.uniform_filter(x, 9, mode="nearest") for x in (luma, luma**2))
    shape = np.sqrt(square - mean**2 + 1) ** exponent
    shape /= np.sqrt(np.mean(shape**2))
    expected = np.minimum(6 * np.clip(shape, 0.25, 2.5), 10)[..., None]
    ours = perceptual.budget(photo, 6.0, 10.0, exponent=exponent)
    assert ours.shape == (32, 40, 1)
    np.testing.assert_allclose(ours, expected, rtol=2e-3)


def test_budget_bounds(photo):
    ours = np.asarray(perceptual.budget(photo, 6.0, 255.0))
    assert np.sqrt(np.mean(ours**2)) == pytest.approx(6, rel=0.02)
    assert ours.min() >= 6 / 4
    assert ours.max() <= 6 * 2.5
    columns = ours.mean(axis=(0, 2))
    assert columns[-5:].min() > 2 * columns[:5].max()
    assert np.all(np.asarray(perceptual.budget(photo, 6.0, 5.0)) <= 5)
    assert np.all(np.asarray(perceptual.budget(photo, 6.0, 0.0)) == 0)


def test_flat_photos_and_exponent_zero_are_uniform(photo):
    np.testing.assert_allclose(perceptual.budget(photo, 6.0, 12.0, exponent=0.0), 6, rtol=1e-6)
    flat = np.full((20, 20, 3), 255, np.float32)
    np.testing.assert_allclose(perceptual.budget(flat, 6.0, 12.0), 6, rtol=1e-3)


def test_region_gets_the_whole_level_and_the_rest_nothing(photo):
    region = np.zeros((32, 40, 1), np.float32)
    region[8:24, 10:36] = 1
    region[12:16, 20:24] = 0.5
    ours = np.asarray(perceptual.budget(photo, 6.0, 255.0, region=region))
    np.testing.assert_array_equal(ours[region == 0], 0)
    full = region[..., 0] == 1
    assert np.sqrt(np.mean(ours[full] ** 2)) == pytest.approx(6, rel=0.1)
    ungated = np.asarray(perceptual.budget(photo, 6.0, 255.0, region=np.ceil(region)))
    ratio = ours[12:16, 20:24] / ungated[12:16, 20:24]
    np.testing.assert_allclose(ratio, ratio.mean(), rtol=0.05)
    assert ratio.mean() == pytest.approx(0.5, rel=0.1)
    nowhere = perceptual.budget(photo, 6.0, 255.0, region=np.zeros_like(region))
    np.testing.assert_array_equal(nowhere, 0)
