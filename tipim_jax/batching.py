"""Batches of one compiled shape: padding with a mask, and random keys that travel with an image."""

import hashlib
from typing import Any

import jax
import numpy as np


def pad(rows: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Repeats the last row until there are `size`: [n, ...] -> ([size, ...], mask [size] bool).

    Raises:
      ValueError: for no row or more than `size`.
    """
    count = len(rows)
    if not 0 < count <= size:
        raise ValueError(f"a batch of {size} cannot hold {count} rows")
    index = np.minimum(np.arange(size), count - 1)
    return rows[index], np.arange(size) < count


def content_key(seed: int, content: bytes, index: int = 0) -> jax.Array:
    """A random key from a photo's bytes: the same wherever and beside whatever the photo is processed.

    Args:
      seed: the run's seed.
      content: the photo's bytes.
      index: which face of the photo.
    """
    return digest_key(seed, digest(content), index)


def digest(content: Any) -> int:
    """Four bytes of the SHA-256 of bytes or of a contiguous array: what keys know of a photo."""
    return int.from_bytes(hashlib.sha256(content).digest()[:4], "big")


def digest_key(seed: int, content: int, index: int = 0) -> jax.Array:
    """`content_key` of a photo whose `digest` is known."""
    return jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), content), index)
