"""Gradient transforms against their formulas."""

import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy import ndimage

from tipim_jax.core import updates

SHAPE = (9, 11, 3)


def gradients(count, seed=0):
    rng = np.random.default_rng(seed)
    return [rng.normal(size=SHAPE).astype(np.float32) * 1e-4 for _ in range(count)]


def apply(transform: optax.GradientTransformation, gradient):
    return np.asarray(transform.update(jnp.asarray(gradient), transform.init(gradient))[0])


@pytest.mark.parametrize(
    "transform",
    [updates.unit_mean_abs(), updates.sign(), updates.l2_direction(), updates.mi_fgsm(0.1)],
)
def test_zero_gradient_stays_zero(transform):
    np.testing.assert_array_equal(apply(transform, np.zeros(SHAPE, np.float32)), 0)


def test_normalisations():
    (g,) = gradients(1)
    for scale in (1e-12, 1.0, 1e12):
        np.testing.assert_allclose(
            apply(updates.unit_mean_abs(), g * np.float32(scale)),
            g / np.mean(np.abs(g)),
            rtol=1e-5,
        )
    direction = apply(updates.l2_direction(), g)
    np.testing.assert_allclose(np.sqrt(np.mean(direction**2)), 1, rtol=1e-6)
    np.testing.assert_allclose(direction, g / np.sqrt(np.mean(g**2)), rtol=1e-5)
    np.testing.assert_array_equal(apply(updates.sign(), g), np.sign(g))


@pytest.mark.parametrize("decay", [0.0, 0.9, 1.0])
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_momentum_iterative_steps(decay, norm):
    direction = updates.l2_direction() if norm == "l2" else None
    transform = updates.mi_fgsm(0.125, decay=decay, direction=direction)
    momentum, state = np.zeros(SHAPE), transform.init(jnp.zeros(SHAPE))
    for g in gradients(4):
        momentum = decay * momentum + g / np.mean(np.abs(g))
        way = np.sign(momentum)
        if norm == "l2":
            way = momentum / np.linalg.norm(momentum) * np.sqrt(momentum.size)
        move, state = transform.update(jnp.asarray(g), state)
        np.testing.assert_allclose(move, -0.125 * way, rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(state["momentum"].trace, momentum, rtol=1e-5, atol=1e-5)


def test_plain_sign_steps():
    (g,) = gradients(1)
    np.testing.assert_array_equal(apply(updates.pgd(0.25), g), -0.25 * np.sign(g))
    np.testing.assert_array_equal(apply(updates.fgsm(), g), -np.sign(g))


@pytest.mark.parametrize(("size", "sigma"), [(7, 3.0), (5, 1.0)])
def test_smoothing(size, sigma):
    (g,) = gradients(1)
    offsets = np.arange(size) - size // 2
    kernel = np.exp(-(offsets**2) / (2 * sigma**2))
    kernel = np.outer(kernel, kernel) / kernel.sum() ** 2
    expected = ndimage.convolve(g, kernel[..., None], mode="constant")
    np.testing.assert_allclose(apply(updates.smooth(size, sigma), g), expected, atol=1e-9)
