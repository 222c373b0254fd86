"""An ensemble is one embedding whose distances are the weighted sum of its members'."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tipim_jax.core import ensemble, geometry
from tipim_jax.core.types import Recogniser, l2_normalise

pytestmark = pytest.mark.usefixtures("x64")


def linear(params, crop):
    return l2_normalise(params @ (crop.reshape(-1) / 128 - 1))


def recogniser(name, landmarks, size, features):
    rng = np.random.default_rng(features)
    params = rng.normal(size=(features, size[0] * size[1] * 3))
    return Recogniser(name, linear, params, size, landmarks)


@pytest.fixture(scope="module")
def members():
    return [
        recogniser("square", geometry.ARCFACE_112, (112, 112), 8),
        recogniser("narrow", geometry.ARCFACE_112 - [8, 0], (112, 96), 5),
        recogniser("small", geometry.ARCFACE_112 / 2, (56, 56), 16),
    ]


@pytest.fixture(scope="module")
def canvases():
    return np.random.default_rng(0).uniform(0, 255, (2, 160, 160, 3))


@pytest.mark.parametrize("weights", [None, [1, 2, 5]])
def test_distances_add_up(members, canvases, weights):
    both = ensemble.combine(members, weights)
    a, b = jax.jit(jax.vmap(both.embed, (None, 0)))(both.params, jnp.asarray(canvases))
    assert a.shape == (8 + 5 + 16,)
    assert jnp.sum(a**2) == pytest.approx(1, abs=1e-6)
    shares = np.array(weights or [1, 1, 1]) / sum(weights or [1, 1, 1])
    parts = []
    for member in members:
        embed = jax.jit(ensemble.on_canvas(member))
        parts.append([embed(member.params, jnp.asarray(canvas)) for canvas in canvases])
    distances = [np.sum((p - q) ** 2) for p, q in parts]
    np.testing.assert_allclose(np.sum((a - b) ** 2), shares @ distances, rtol=1e-9)


def test_a_member_sees_its_own_crop(members, canvases):
    canvas = jnp.asarray(canvases[0])
    square, narrow, _ = members
    ours = ensemble.on_canvas(square)(square.params, canvas)
    np.testing.assert_allclose(ours, linear(square.params, canvas[24:136, 24:136]), atol=1e-12)
    ours = ensemble.on_canvas(narrow)(narrow.params, canvas)
    np.testing.assert_allclose(ours, linear(narrow.params, canvas[24:136, 32:128]), atol=1e-12)
    alone = ensemble.combine([square])
    np.testing.assert_array_equal(
        alone.embed(alone.params, canvas), ensemble.on_canvas(square)(square.params, canvas)
    )


def test_a_network_and_its_framing_are_one_function_whatever_the_parameters(members):
    square, narrow, _ = members
    again = square._replace(params=square.params + 1, landmarks=square.landmarks.copy())
    assert ensemble.on_canvas(again) is ensemble.on_canvas(square)
    assert ensemble.on_canvas(narrow) is not ensemble.on_canvas(square)
    assert ensemble.on_canvas(square, 112) is not ensemble.on_canvas(square)


def test_refusals(members):
    with pytest.raises(ValueError, match="at least one"):
        ensemble.combine([])
    for weights in ([1, 2], [1, 1, 0], [1, 1, -1], [1, 1, float("nan")]):
        with pytest.raises(ValueError, match="3 positive numbers"):
            ensemble.combine(members, weights)
