"""One mask for all photos of a person (OPOM, Zhong and Deng, 2022), as an attack on a canvas of grey.

The canvas that is attacked is 128 plus the mask; its embedding is that of all of the person's photos with
the mask on, each scaled by the root of its weight and joined end to end. Squared distances are then the mean
over the photos, and every method of `experiments.protection.methods` takes it like a single photo.
"""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np

from experiments.protection import methods
from experiments.protection.methods import Method
from tipim_jax.core import batching, ensemble
from tipim_jax.core.types import Embed, PyTree

_GREY = 128


@cache
def joined(embed: Embed) -> Embed:
    """((params, photos [K,H,W,3], weights [K]), grey plus mask [H,W,3]) -> [K·D], unit norm."""

    def all_photos(params: PyTree, canvas: jax.Array) -> jax.Array:
        network, photos, weights = params
        masked = jnp.clip(photos + (canvas - _GREY), 0, 255)
        embedded = jax.vmap(embed, (None, 0))(network, masked)
        return (jnp.sqrt(weights)[:, None] * embedded).reshape(-1)

    return all_photos


def mask(
    method: Method,
    combined: ensemble.Ensemble,
    photos: np.ndarray,
    count: int,
    targets: np.ndarray,
    seed: int,
) -> np.ndarray:
    """The mask [H,W,3] int16 of one person.

    Args:
      method: composed with `joined(combined.embed)`; without random views, which would part mask and face.
      combined: the surrogates.
      photos: [n,H,W,3] uint8 of the person.
      count: K ≥ n, the same for everybody: one compiled shape.
      targets: [T,D] as joined for the ensemble.
      seed: of all randomness.
    """
    padded, real = batching.pad(photos, count)
    weights = real.astype(np.float32) / real.sum()
    every = np.sqrt(weights)[:, None] * targets[:, None]  # [T,K,D]
    stack = ensemble.Ensemble(
        joined(combined.embed),
        (combined.params, jnp.asarray(padded, jnp.float32), jnp.asarray(weights)),
    )
    grey = np.full((1, *photos.shape[1:]), _GREY, np.uint8)
    keys = methods.keys(photos[:1], seed)
    made = methods.protect(method, stack, grey, every.reshape(len(targets), -1), keys, 1)
    return made[0].astype(np.int16) - _GREY


def worn(canvases: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Photos [n,H,W,3] uint8 with the mask on."""
    return np.clip(canvases.astype(np.int16) + mask, 0, 255).astype(np.uint8)
