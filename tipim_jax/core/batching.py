"""Batches of one compiled shape: how large, padded with a mask, and random keys that travel with an image."""

import hashlib
import math
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from tipim_jax.errors import UserError


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


def largest(
    compiled: Callable[[int], jax.stages.Compiled], most: int, limit: int
) -> tuple[int, jax.stages.Compiled]:
    """The largest batch whose program fits, by the program's own account of its memory.

    Tries `most`; if that does not fit, a single image, and then the largest power of two for which the line
    through both accounts promises room.

    Args:
      compiled: size of a batch -> its program.
      most: no larger batch is wanted.
      limit: bytes that the program may take on a device.

    Returns:
      The size, and its program.

    Raises:
      UserError: not even a single image fits.
    """
    whole = compiled(most)
    if memory(whole) <= limit:
        return most, whole
    single = compiled(1)
    if memory(single) > limit:
        raise UserError(
            f"the attack on a single face takes {memory(single) / 2**30:.1f} GiB and "
            f"{limit / 2**30:.1f} GiB may be used; choose fewer or smaller surrogates"
        )
    each = (memory(whole) - memory(single)) / (most - 1)
    size = 2 ** int(math.log2(1 + (limit - memory(single)) / each))
    while size > 1:
        program = compiled(size)
        if memory(program) <= limit:
            return size, program
        size //= 2
    return 1, single


def memory(program: jax.stages.Compiled) -> int:
    """Bytes that a compiled program takes on each of its devices: arguments, results and what is between."""
    account = program.memory_analysis()
    assert account is not None
    return int(
        account.argument_size_in_bytes
        + account.output_size_in_bytes
        + account.temp_size_in_bytes
        - account.alias_size_in_bytes
    )


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
