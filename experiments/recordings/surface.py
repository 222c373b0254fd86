"""Slices of the loss around the way from a photo to its protection, on any recogniser."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.recordings import recorder
from experiments.recordings.recorder import Watched
from experiments.reporting import plots
from tipim_jax.analysis import curvature
from tipim_jax.core.types import Embed


def surface(
    seen: Watched, recognisers: Sequence[str], count: int, *, points: int = 13, seed: int = 0
) -> dict[str, plots.Map]:
    """The mean margin (cosine to the target minus cosine to the real photo) of the first `count` photos around
    the way to their protections, towards their own targets, on any recognisers that embed these.

    Along: multiples of the mask; across: of a direction of random signs, orthogonal to it and as long. Both
    sides have so many `points`.
    """
    along, across = np.linspace(-0.25, 1.5, points), np.linspace(-1, 1, points)
    real = jnp.asarray(seen.subjects.faces.canvases[:count], jnp.float32)
    masks = jnp.asarray(seen.canvases[:count], jnp.float32) - real
    noise = jax.random.rademacher(jax.random.key(seed), masks.shape, jnp.float32)
    second = jax.vmap(_orthogonal)(noise, masks)
    found: dict[str, plots.Map] = {}
    for name in recognisers:
        own = partial(_slice, *recorder.on_canvas(name))
        goals = jnp.asarray(seen.subjects.targets[name][seen.targets[:count]])
        sides = jnp.asarray(along), jnp.asarray(across)
        margins = [np.asarray(own(*rows, *sides)) for rows in zip(real, masks, second, goals)]
        found[name] = (across, along, np.mean(margins, axis=0))
    return found


def _orthogonal(direction: jax.Array, mask: jax.Array) -> jax.Array:
    """The part of a direction orthogonal to the mask, at the mask's length."""
    square = jnp.vdot(mask, mask)
    rest = direction - jnp.vdot(direction, mask) / jnp.maximum(square, 1e-12) * mask
    return rest * jnp.sqrt(square / jnp.maximum(jnp.vdot(rest, rest), 1e-12))


@partial(jax.jit, static_argnums=0)
def _slice(
    embed: Embed,
    params: Any,
    real: jax.Array,
    mask: jax.Array,
    second: jax.Array,
    goal: jax.Array,
    along: jax.Array,
    across: jax.Array,
) -> jax.Array:
    way = goal - embed(params, real)

    def margin(image: jax.Array) -> jax.Array:
        return jnp.vdot(embed(params, image), way)

    return curvature.plane(margin, real, mask, second, along, across)
