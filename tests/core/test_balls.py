"""Balls: the projection stays inside and moves nothing that is inside; no step inside gains more."""

import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tipim_jax.core import balls, updates

AXES = {"channels": None, "lightness": balls.lightness_and_chroma(0.5)}
SEEDS = range(6)


def draw(seed):
    rng = np.random.default_rng(seed)
    real = rng.integers(0, 256, (6, 7, 3)).astype(np.float32)
    epsilon = np.maximum(rng.uniform(-3, 20, (6, 7, 1)), 0).astype(np.float32)
    gradient = (rng.normal(size=real.shape) * 10.0 ** rng.uniform(-9, 3)).astype(np.float32)
    return rng, real, epsilon, gradient


def coordinates(mask, epsilon, axes):
    """Σ u_i a_i = mask / ε solved for u at the pixels with a budget: [n,3]."""
    inside = epsilon[..., 0] > 0
    relative = (mask / np.where(epsilon > 0, epsilon, 1))[inside]
    return relative if axes is None else np.linalg.solve(axes.T, relative.T).T


def size(mask, epsilon, axes, p):
    return np.mean(np.abs(coordinates(mask, epsilon, axes)) ** p) ** (1 / p)


@pytest.mark.parametrize("axes", AXES.values(), ids=AXES)
@pytest.mark.parametrize("p", [1.5, 2.0, 3.0, 8.0])
@pytest.mark.parametrize("seed", SEEDS)
def test_projection(seed, p, axes):
    rng, real, epsilon, _ = draw(seed)
    ball = balls.lp(p, axes)
    x = real + rng.normal(size=real.shape).astype(np.float32) * 40
    inside = np.asarray(ball.project(x, real, epsilon))
    assert inside.min() >= 0
    assert inside.max() <= 255
    np.testing.assert_array_equal(inside[epsilon[..., 0] == 0], real[epsilon[..., 0] == 0])
    small = real + np.where(epsilon > 0, rng.uniform(-0.1, 0.1, real.shape), 0).astype(np.float32)
    small = np.clip(small, 0, 255)
    if size(small - real, epsilon, axes, p) <= 1:
        np.testing.assert_allclose(ball.project(small, real, epsilon), small, atol=1e-4)
    # Far from the borders of the box nothing is clipped and the size is exact.
    grey = np.full_like(real, 127)
    there = np.asarray(ball.project(grey + (x - real) / 2, grey, epsilon))
    full = size((x - real) / 2, epsilon, axes, p)
    np.testing.assert_allclose(size(there - grey, epsilon, axes, p), min(1, full), rtol=1e-3)


@pytest.mark.parametrize("axes", AXES.values(), ids=AXES)
@pytest.mark.parametrize("p", [1.5, 2.0, 3.0, 8.0])
@pytest.mark.parametrize("seed", SEEDS)
def test_direction_is_the_steepest_of_its_size(seed, p, axes):
    rng, _, epsilon, gradient = draw(seed)
    direction = optax.with_extra_args_support(balls.lp(p, axes).direction)
    move, _ = direction.update(gradient, direction.init(gradient), epsilon=epsilon)
    mask = np.asarray(move) * epsilon
    np.testing.assert_allclose(size(mask, epsilon, axes, p), 1, rtol=1e-3)
    gained = np.sum(mask.astype(np.float64) * gradient)
    for _ in range(20):
        other = np.sign(gradient) * np.abs(rng.normal(size=mask.shape)) * epsilon
        other = rng.choice([0, 1]) * mask + other * rng.choice([0.01, 1])
        other = other / size(other, epsilon, axes, p)
        assert np.sum(other * gradient) <= gained * (1 + 1e-4)


def test_two_is_the_l2_ball_where_every_pixel_has_a_budget():
    _, real, _, gradient = draw(0)
    epsilon = np.float32(7)
    direction = optax.with_extra_args_support(balls.lp(2.0).direction)
    move, _ = direction.update(gradient, direction.init(gradient), epsilon=epsilon)
    plain, _ = updates.l2_direction().update(gradient, optax.EmptyState())
    np.testing.assert_allclose(move, plain, rtol=1e-4, atol=1e-5)
    x = real + 30 * np.asarray(move)
    ours, theirs = (b.project(x, real, epsilon) for b in (balls.lp(2.0), balls.l2()))
    np.testing.assert_allclose(ours, theirs, atol=1e-3)


def test_large_p_tends_to_signs():
    _, _, _, gradient = draw(1)
    direction = optax.with_extra_args_support(balls.lp(1e4).direction)
    move, _ = direction.update(gradient, direction.init(gradient), epsilon=jnp.float32(1))
    np.testing.assert_allclose(move, np.sign(gradient), atol=5e-3)


def test_no_gradient_no_move():
    direction = optax.with_extra_args_support(balls.lp(3.0).direction)
    zero = jnp.zeros((4, 4, 3))
    move, _ = direction.update(zero, direction.init(zero), epsilon=jnp.ones((4, 4, 1)))
    np.testing.assert_array_equal(move, 0)
    move, _ = direction.update(zero + 1, direction.init(zero), epsilon=jnp.zeros((4, 4, 1)))
    np.testing.assert_array_equal(move, 0)


@pytest.mark.parametrize("p", [1.0, 0.5, float("inf"), float("nan")])
def test_other_p_are_refused(p):
    with pytest.raises(ValueError, match="1 < p < ∞"):
        balls.lp(p)
