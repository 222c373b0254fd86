"""The batch MMD against its definition, gradient included."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tipim_jax.core import naturalness

mmd_and_gradient = jax.jit(naturalness.mmd_and_gradient)

SIGMAS = [1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1, 5, 10, 15, 20, 25, 30, 35, 100, 1e3, 1e4, 1e5, 1e6]


def naive(x, y):
    """The definition, pair by pair, in NumPy float64."""
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)

    def mean_kernel(a, b):
        pairs = [np.sum((p - q) ** 2) for p in a for q in b]
        return np.mean([sum(np.exp(-d / (2 * sigma)) for sigma in SIGMAS) for d in pairs])

    return mean_kernel(x, x) + mean_kernel(y, y) - 2 * mean_kernel(x, y)


def naive_gradient(x, y):
    """Of the definition by automatic differentiation, in float64."""
    with jax.enable_x64(True):
        return np.asarray(_naive_gradient(x.astype(np.float64), y.astype(np.float64)))


@jax.jit
@jax.grad
def _naive_gradient(x, y):
    def mean_kernel(a, b):
        squared = jnp.sum((a[:, None] - b[None]) ** 2, axis=(2, 3, 4))
        return jnp.mean(jnp.exp(-squared[..., None] / (2 * jnp.array(SIGMAS))).sum(-1))

    return mean_kernel(x, x) + mean_kernel(y, y) - 2 * mean_kernel(x, y)


def batch(scale, count=4, seed=0):
    """Photos of whole levels, and masks of about `scale` levels added to them."""
    rng = np.random.default_rng(seed)
    real = rng.integers(0, 256, (count, 5, 6, 3)).astype(np.float64)
    real[-1] = real[0] + rng.integers(-3, 4, (5, 6, 3))  # two photos much alike
    return real + scale * rng.normal(size=real.shape), real


def test_kernel_mixture_is_the_published_one():
    assert list(naturalness.BANDWIDTHS) == SIGMAS


@pytest.mark.parametrize("scale", [0.0, 1e-4, 1e-2, 1.0, 12.0])
@pytest.mark.parametrize("count", [1, 4])
@pytest.mark.usefixtures("x64")
def test_definition(scale, count):
    protected, real = batch(scale, count)
    value, gradient = mmd_and_gradient(jnp.asarray(protected), jnp.asarray(real))
    np.testing.assert_allclose(value, naive(protected, real), atol=1e-12)
    expected = naive_gradient(protected, real)
    np.testing.assert_allclose(gradient, expected, rtol=1e-9, atol=1e-9 * np.abs(expected).max())


@pytest.mark.parametrize("scale", [1e-3, 1e-2, 1.0, 12.0])
def test_float32_keeps_small_distances(scale):
    protected, real = batch(scale)
    protected = protected.astype(np.float32)
    value, gradient = mmd_and_gradient(jnp.asarray(protected), jnp.asarray(real, jnp.float32))
    np.testing.assert_allclose(value, naive(protected, real), rtol=1e-5)
    expected = naive_gradient(protected, real.astype(np.float32))
    np.testing.assert_allclose(gradient, expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())


def test_value_alone():
    protected, real = (jnp.asarray(x, jnp.float32) for x in batch(1.0))
    np.testing.assert_allclose(naturalness.mmd(protected, real), naive(protected, real), rtol=1e-5)


@pytest.mark.usefixtures("x64")
def test_mask_leaves_rows_out():
    protected, real = batch(1.0)
    mask = np.array([True, False, True, True])
    value, gradient = mmd_and_gradient(jnp.asarray(protected), jnp.asarray(real), jnp.asarray(mask))
    np.testing.assert_allclose(value, naive(protected[mask], real[mask]), atol=1e-12)
    np.testing.assert_allclose(
        gradient[mask], naive_gradient(protected[mask], real[mask]), rtol=1e-9, atol=1e-12
    )
    np.testing.assert_array_equal(gradient[~mask], 0)
