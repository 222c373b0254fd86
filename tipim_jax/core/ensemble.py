"""Several recognisers, each with its own framing and weight, as one embedding of the canvas."""

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from tipim_jax.core import geometry
from tipim_jax.core.types import Embed, PyTree, Recogniser


class Ensemble(NamedTuple):
    """embed: (params, canvas [H,W,3]) -> [D]; params: one entry per recogniser."""

    embed: Embed
    params: PyTree


def on_canvas(recogniser: Recogniser, size: int = geometry.CANVAS_SIZE) -> Embed:
    """The recogniser's embedding of an aligned canvas: (params, [size,size,3]) -> [D].

    It is one function for all recognisers of the same network and framing, so that what was compiled for
    a model serves whenever the model is loaded again, and it holds no parameters.
    """
    template = tuple(map(tuple, np.asarray(recogniser.landmarks, np.float64).tolist()))
    return _on_canvas(recogniser.embed, template, recogniser.size, size)


@lru_cache(maxsize=64)
def _on_canvas(
    embed: Embed, template: tuple[tuple[float, ...], ...], crop_size: tuple[int, int], size: int
) -> Embed:
    crop = geometry.crop_between(
        geometry.CANVAS_LANDMARKS, np.array(template), crop_size, (size, size)
    )
    return lambda params, canvas: embed(params, crop(canvas))


def combine(
    recognisers: Sequence[Recogniser],
    weights: Sequence[float] | None = None,
    *,
    in_turn: bool = False,
) -> Ensemble:
    """Embeddings scaled by √weight and joined end to end.

    Squared distances of the joined embedding are then the weighted sum of those of the recognisers, and
    with weights that sum to 1 it has unit norm, so every loss, gain and search takes it like any other.

    Args:
      recognisers: at least one.
      weights: one each, normalised to sum 1; equal by default.
      in_turn: no recogniser begins before the last one has ended, nor does its pull-back: for memory.

    Raises:
      ValueError: for no recogniser, or weights that are not positive or not one each.
    """
    if not recognisers:
        raise ValueError("an ensemble needs at least one recogniser")
    shares = np.ones(len(recognisers)) if weights is None else np.asarray(weights, np.float64)
    if shares.shape != (len(recognisers),) or not np.all(shares > 0):
        raise ValueError(f"weights must be {len(recognisers)} positive numbers, not {weights}")
    roots = [float(root) for root in np.sqrt(shares / shares.sum())]
    embeds = [on_canvas(recogniser) for recogniser in recognisers]

    def embed(params: PyTree, canvas: jax.Array) -> jax.Array:
        parts = []
        for root, f, p in zip(roots, embeds, params):
            part = root * f(p, canvas)
            if in_turn:
                part, canvas = lax.optimization_barrier((part, canvas))
            parts.append(part)
        return jnp.concatenate(parts)

    return Ensemble(embed, tuple(recogniser.params for recogniser in recognisers))
