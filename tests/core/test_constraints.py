"""Balls and rounding: nothing leaves, nothing inside moves."""

import numpy as np
import pytest

from tipim_jax.core import constraints

SEEDS = range(20)


def draw(seed, overshoot=3.0):
    """A photo of whole levels, an epsilon (scalar, or a map with zeros) and a point around it."""
    rng = np.random.default_rng(seed)
    real = rng.integers(0, 256, (6, 7, 3)).astype(np.float32)
    real[0] = rng.choice([0, 255], real[0].shape)  # the corners of the box
    epsilon = np.float32(rng.choice([0, 0.3, 1, 2.5, 12, 300]))
    if seed % 2:
        epsilon = np.maximum(rng.uniform(-3, 20, (6, 7, 1)), 0).astype(np.float32)
    noise = rng.uniform(-1, 1, real.shape) * np.maximum(epsilon, 1) * overshoot
    return (real + noise).astype(np.float32), real, epsilon


@pytest.mark.parametrize("seed", SEEDS)
def test_linf_ball(seed):
    x, real, epsilon = draw(seed)
    inside = np.asarray(constraints.linf_ball(x, real, epsilon))
    # Of all points in the ball, the nearest: pixel by pixel, which is what clipping is.
    low, high = np.maximum(real - epsilon, 0), np.minimum(real + epsilon, 255)
    np.testing.assert_array_equal(inside, np.minimum(np.maximum(x, low), high))
    np.testing.assert_array_equal(constraints.linf_ball(inside, real, epsilon), inside)


@pytest.mark.parametrize("seed", SEEDS)
def test_l2_ball(seed):
    x, real, epsilon = draw(seed)
    inside = np.asarray(constraints.l2_ball(x, real, epsilon))
    assert inside.min() >= 0
    assert inside.max() <= 255
    budget = np.broadcast_to(epsilon, real.shape)
    np.testing.assert_array_equal(inside[budget == 0], real[budget == 0])
    relative = np.where(budget > 0, (inside - real) / np.where(budget > 0, budget, 1), 0)
    assert np.sqrt(np.mean(relative.astype(np.float64) ** 2)) <= 1 + 1e-4
    again = constraints.l2_ball(inside, real, epsilon)
    np.testing.assert_allclose(again, inside, atol=1e-3)
    # Along the mask, shorter.
    assert np.all((inside - real) * (x - real) >= 0)
    assert np.all(np.abs(inside - real) <= np.abs(x - real) + 1e-4)


@pytest.mark.parametrize("seed", SEEDS)
def test_whole_levels_within_the_ball(seed):
    x, real, epsilon = draw(seed, overshoot=1.2)
    for start in (x, np.asarray(constraints.linf_ball(x, real, epsilon))):
        levels = np.asarray(constraints.round_within(start, real, epsilon))
        assert levels.dtype == np.uint8
        change = np.abs(levels.astype(int) - real.astype(int))
        assert np.all(change <= epsilon)
    # Nearest where that is allowed.
    near = np.clip(np.round(start), 0, 255)
    allowed = np.abs(near - real) <= epsilon
    assert np.all(np.abs(levels - start)[allowed] <= 0.5 + 1e-4)


@pytest.mark.parametrize("seed", SEEDS)
def test_truncation_grows_no_norm(seed):
    x, real, epsilon = draw(seed)
    x = np.asarray(constraints.l2_ball(x, real, epsilon))
    levels = np.asarray(constraints.truncate_within(x, real))
    assert levels.dtype == np.uint8
    change = levels.astype(np.float64) - real
    assert np.all(np.abs(change) <= np.abs(x - real))
    assert np.all(np.abs(change - (x - real)) < 1)
    assert np.all(change * (x - real) >= 0)


def line(direction):
    axis = np.asarray(direction) / np.linalg.norm(direction)
    return np.outer(axis, axis).astype(np.float32)


LINES = {"grey": (1, 1, 1), "sepia": (1.351, 1.203, 0.937), "two tints": (1, 0.1, -0.6)}


@pytest.mark.parametrize("project", [constraints.linf_ball, constraints.l2_ball])
@pytest.mark.parametrize("name", LINES)
@pytest.mark.parametrize("seed", [0, 1, 3, 4, 5])
def test_masks_keep_to_their_colours(seed, name, project):
    x, real, epsilon = draw(seed)
    if name == "grey":
        real = np.repeat(real[..., :1], 3, axis=2)
    colours = line(LINES[name])
    kept = np.asarray(constraints.in_colours(project, x, real, epsilon, colours))
    mask, plain = kept - real, np.asarray(project(x, real, epsilon)) - real
    np.testing.assert_allclose(constraints.coloured(mask, colours), mask, atol=1e-3)
    assert np.all(np.linalg.norm(mask, axis=-1) <= np.linalg.norm(plain, axis=-1) + 1e-3)
    np.testing.assert_allclose(project(kept, real, epsilon), kept, atol=2e-3)
    # Nothing shrinks that need not.
    free = np.abs(plain).max(-1) < 0.5 * np.minimum(
        np.broadcast_to(epsilon, real.shape), np.minimum(real, 255 - real)
    ).min(-1)
    np.testing.assert_allclose(mask[free], (plain @ colours)[free], atol=2e-3)
    if name == "grey":
        np.testing.assert_array_equal(mask, np.repeat(mask[..., :1], 3, axis=2))


@pytest.mark.parametrize("project", [constraints.linf_ball, constraints.l2_ball])
@pytest.mark.parametrize("seed", [0, 1, 3, 5])
def test_all_colours_change_nothing(seed, project):
    x, real, epsilon = draw(seed)
    plain = np.asarray(project(x, real, epsilon))
    without = constraints.in_colours(project, x, real, epsilon, None)
    np.testing.assert_array_equal(without, plain)
    everything = constraints.in_colours(project, x, real, epsilon, np.eye(3, dtype=np.float32))
    np.testing.assert_allclose(everything, plain, atol=1e-4)
