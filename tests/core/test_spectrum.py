"""Energy by frequency and by region against NumPy and against images whose answer is known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tipim_jax.analysis import spectrum
from tipim_jax.core.geometry import CANVAS_LANDMARKS

pytestmark = pytest.mark.usefixtures("x64")


@pytest.mark.parametrize("size", [8, 11])
def test_radial_is_the_mean_of_the_full_transform_over_rings(size):
    image = np.random.default_rng(size).normal(size=(size, size, 3))
    power = np.sum(np.abs(np.fft.fft2(image, axes=(0, 1))) ** 2, axis=-1)
    f = np.fft.fftfreq(size) * size
    radius = np.rint(np.hypot(f[:, None], f)).astype(int)
    expected = [power[radius == r].mean() / power.mean() for r in range(size // 2 + 1)]
    np.testing.assert_allclose(spectrum.radial(jnp.asarray(image)), expected, rtol=1e-10)


def test_a_wave_has_its_energy_at_its_frequency():
    size, cycles = 32, 5
    wave = np.cos(2 * np.pi * cycles * np.arange(size) / size)
    image = jnp.asarray(np.broadcast_to(wave[None, :, None], (size, size, 3)))
    found = np.asarray(spectrum.radial(image))
    assert np.argmax(found) == cycles
    assert spectrum.frequencies(size)[cycles] == cycles / size
    assert np.sum(found) - found[cycles] < 1e-9
    np.testing.assert_array_equal(spectrum.radial(jnp.zeros((8, 8, 3))), np.zeros(5))
    noise = jax.random.normal(jax.random.key(0), (64, 64, 3))
    assert np.all(np.abs(np.asarray(spectrum.radial(noise))[4:] - 1) < 0.35)
    with pytest.raises(ValueError, match=r"square image, not \[8, 9\]"):
        spectrum.radial(jnp.zeros((8, 9, 3)))


def test_regions_are_where_the_landmarks_are():
    masks = spectrum.regions((160, 160), tuple(map(tuple, CANVAS_LANDMARKS.tolist())))
    np.testing.assert_array_equal(masks.sum(axis=0), 1)
    areas = masks.mean(axis=(1, 2))
    assert np.all(areas[:3] > 0.01)
    assert areas[3] > 0.7
    for point, region in zip(CANVAS_LANDMARKS, ("eyes", "eyes", "nose", "mouth", "mouth")):
        x, y = np.rint(point).astype(int)
        assert masks[spectrum.REGIONS.index(region), y, x] == 1


def test_energy_by_region():
    rng = np.random.default_rng(0)
    image = rng.normal(size=(160, 160, 3))
    masks = spectrum.regions((160, 160), tuple(map(tuple, CANVAS_LANDMARKS.tolist())))
    expected = [np.sum((image * mask[..., None]) ** 2) / np.sum(image**2) for mask in masks]
    np.testing.assert_allclose(spectrum.by_region(jnp.asarray(image)), expected, rtol=1e-6)
    mouth = jnp.asarray(image * masks[2][..., None])
    np.testing.assert_allclose(spectrum.by_region(mouth), [0, 0, 1, 0], atol=1e-12)
    np.testing.assert_array_equal(spectrum.by_region(jnp.zeros((160, 160, 3))), np.zeros(4))
