"""Gains and losses against their formulas."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tipim_jax.core.gains import Gain, gain
from tipim_jax.core.objectives import Objective, cotangent, identity_loss
from tipim_jax.core.types import l2_normalise

FOLD = {"max": np.max, "sum": np.sum, "min": np.min}


@pytest.mark.parametrize("squared", [True, False])
@pytest.mark.parametrize("reduce", FOLD)
def test_gain_formula(reduce, squared):
    rng = np.random.default_rng(0)
    for _ in range(10):
        to_source, to_targets = rng.uniform(0, 4), rng.uniform(0, 4, 5)
        power = 1 if squared else 0.5
        margins = np.exp(to_source**power - to_targets**power)
        ours = gain(Gain(reduce, squared), jnp.asarray(to_source), jnp.asarray(to_targets))
        np.testing.assert_allclose(ours, np.log(1 + FOLD[reduce](margins)), rtol=1e-5)


@pytest.mark.parametrize("squared", [True, False])
def test_rounding_below_zero_is_a_distance_of_zero(squared):
    kind = Gain("max", squared)
    below = gain(kind, jnp.asarray(1.0), jnp.asarray([-1e-7, 2.0]))
    np.testing.assert_allclose(below, np.log(1 + np.e), rtol=1e-6)
    assert np.isfinite(gain(kind, jnp.asarray(-1e-7), jnp.asarray([0.0, 2.0])))


def test_gain_does_not_overflow():
    assert gain(Gain("sum"), jnp.asarray(200.0), jnp.zeros(3)) == pytest.approx(200 + np.log(3))


def test_unknown_gain():
    with pytest.raises(ValueError, match=r"'mean'.*'max', 'sum' or 'min'"):
        gain(Gain("mean"), jnp.asarray(1.0), jnp.ones(2))


@pytest.mark.parametrize("mean", [True, False])
@pytest.mark.parametrize(("attract", "repel"), [(1, 1), (0, 1), (1, 0), (0.5, 2)])
@pytest.mark.usefixtures("x64")
def test_cotangent_is_the_gradient_of_the_loss(attract, repel, mean):
    objective = Objective(attract, repel, mean)
    z, source, target = np.random.default_rng(1).normal(size=(3, 8))
    source, target = source / np.linalg.norm(source), target / np.linalg.norm(target)
    unit = lambda z: z / jnp.linalg.norm(z)  # noqa: E731
    f = unit(z)
    expected = attract * np.sum((f - target) ** 2) - repel * np.sum((f - source) ** 2)
    expected /= 8 if mean else 1
    np.testing.assert_allclose(identity_loss(objective, f, source, target), expected, rtol=1e-12)
    # Through a unit-norm embedding the two agree, whatever the weights.
    slope = jax.grad(lambda z: identity_loss(objective, unit(z), source, target))(z)
    ours = jax.vjp(unit, z)[1](cotangent(objective, 8, jnp.asarray(source), jnp.asarray(target)))
    np.testing.assert_allclose(ours[0], slope, atol=1e-14)


def test_normalisation_of_the_released_code():
    z = np.random.default_rng(2).normal(size=(4, 6)).astype(np.float32) * 0.01
    expected = z / np.sqrt(np.sum(z**2, axis=1, keepdims=True) + 1e-5)
    np.testing.assert_allclose(l2_normalise(jnp.asarray(z)), expected, rtol=1e-6)
    np.testing.assert_array_equal(l2_normalise(jnp.zeros(6)), 0)
