"""Slices of the loss around the way from a photo to its protection, on any recogniser."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.recordings import recorder
from experiments.recordings.recorder import Watched
from tipim_jax.analysis import curvature
from tipim_jax.core.types import Embed


class Surface(NamedTuple):
    """Slices of the margin (cosine to the target minus cosine to the real photo) of some images."""

    # [A] multiples of the final mask; across: [B] multiples of the other direction
    along: np.ndarray
    across: np.ndarray
    margins: Mapping[str, np.ndarray]  # {recogniser: [P,A,B]}


DIRECTIONS = ("random", "gradient")


def surface(
    seen: Watched,
    recognisers: Sequence[str],
    count: int,
    *,
    direction: str = "random",
    points: int = 13,
    seed: int = 0,
) -> Surface:
    """The loss around the way from the first `count` photos to their protections, towards their own targets,
    on any recognisers that embed these.

    The direction across the mask, at its length and orthogonal to it, is of "random" signs, or the "gradient"
    of the last recogniser's margin at the photo (its sign). Both sides have so many `points`.
    """
    along, across = np.linspace(-0.25, 1.5, points), np.linspace(-1, 1, points)
    real = jnp.asarray(seen.subjects.faces.canvases[:count], jnp.float32)
    masks = jnp.asarray(seen.canvases[:count], jnp.float32) - real
    noise = jax.random.rademacher(jax.random.key(seed), masks.shape, jnp.float32)
    if direction == "gradient":
        embed, params = recorder.on_canvas(recognisers[-1])
        goals = jnp.asarray(seen.subjects.targets[recognisers[-1]][seen.targets[:count]])
        noise = _ascent(embed, params, real, goals)
    second = jax.vmap(_orthogonal)(noise, masks)
    margins = {}
    for name in recognisers:
        embed, params = recorder.on_canvas(name)
        goals = jnp.asarray(seen.subjects.targets[name][seen.targets[:count]])
        margins[name] = np.stack(
            [
                np.asarray(_slice(embed, params, *rows, jnp.asarray(along), jnp.asarray(across)))
                for rows in zip(real, masks, second, goals)
            ]
        )
    return Surface(along, across, margins)


def _orthogonal(direction: jax.Array, mask: jax.Array) -> jax.Array:
    """The part of a direction orthogonal to the mask, at the mask's length."""
    square = jnp.vdot(mask, mask)
    rest = direction - jnp.vdot(direction, mask) / jnp.maximum(square, 1e-12) * mask
    return rest * jnp.sqrt(square / jnp.maximum(jnp.vdot(rest, rest), 1e-12))


def _margin(embed: Embed, params: Any, real: jax.Array, goal: jax.Array):
    way = goal - embed(params, real)
    return lambda image: jnp.vdot(embed(params, image), way)


@partial(jax.jit, static_argnums=0)
def _ascent(embed: Embed, params: Any, real: jax.Array, goals: jax.Array) -> jax.Array:
    return jax.vmap(lambda x, t: jnp.sign(jax.grad(_margin(embed, params, x, t))(x)))(real, goals)


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
    return curvature.plane(_margin(embed, params, real, goal), real, mask, second, along, across)
