"""Where a mask is hard to see: a per-pixel budget that follows the local contrast of the photo."""

import jax
import jax.numpy as jnp

LUMA = (0.299, 0.587, 0.114)  # Rec. 601
_WINDOW = 9  # pixels of the canvas over which contrast is taken


def budget(
    image: jax.Array,
    level: jax.typing.ArrayLike,
    cap: jax.typing.ArrayLike,
    *,
    exponent: jax.typing.ArrayLike = 0.5,
    region: jax.Array | None = None,
) -> jax.Array:
    """A map of epsilon proportional to (local standard deviation of luma)^exponent.

    Scaled to a root mean square of `level`, kept between a quarter and 2½ times `level`, and never above
    `cap`; then times the region, in which alone the mean square is taken.

    Args:
      image: [H,W,3] photo, pixel levels.
      level: [] root mean square of the map, pixel levels.
      cap: [] hard bound per pixel, pixel levels.
      exponent: 0 gives the uniform budget.
      region: [H,W,1] share of the budget that a place may have, 0 to 1; all of it by default.

    Returns:
      [H,W,1].
    """
    luma = image @ jnp.asarray(LUMA, image.dtype)
    mean = _box(luma)
    # One level of floor: flat areas show every mask, and noise below one level is not contrast.
    deviation = jnp.sqrt(jnp.maximum(_box(luma**2) - mean**2, 0) + 1)
    shape = deviation**exponent
    where = jnp.ones_like(shape) if region is None else region[..., 0]
    size = jnp.sqrt(jnp.sum(where * shape**2) / jnp.maximum(jnp.sum(where), 1e-6))
    epsilon = level * jnp.clip(shape / jnp.maximum(size, 1e-6), 0.25, 2.5)
    return (jnp.minimum(epsilon, cap) * where)[..., None]


def _box(x: jax.Array) -> jax.Array:
    """Mean over a window, borders repeated: [H,W] -> [H,W]."""
    half = _WINDOW // 2
    padded = jnp.pad(x, half, mode="edge")
    window = (_WINDOW, _WINDOW)
    total = jax.lax.reduce_window(padded, 0.0, jax.lax.add, window, (1, 1), "valid")
    return total / _WINDOW**2
