"""Where a protected photo may lie: an ε ball around the real one, within the pixel box.

A constraint is a function `(x, real, epsilon) -> x`; all arrays [H,W,C] in pixel levels, epsilon [] or
[H,W,1].
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp


def linf_ball(x: jax.Array, real: jax.Array, epsilon: jax.Array) -> jax.Array:
    """The projection on |x − real| ≤ ε and 0 ≤ x ≤ 255."""
    return jnp.clip(jnp.clip(x, real - epsilon, real + epsilon), 0, 255)


def l2_ball(x: jax.Array, real: jax.Array, epsilon: jax.Array) -> jax.Array:
    """Scales the mask to a root mean square of (x − real) / ε of at most 1, then clips to the box.

    Clipping only shrinks the mask, since the real photo is in the box. Pixels with ε = 0 stay.
    """
    mask = x - real
    relative = jnp.where(epsilon > 0, mask / jnp.where(epsilon > 0, epsilon, 1), 0)
    rms = jnp.sqrt(jnp.mean(relative**2))
    mask = jnp.where(epsilon > 0, mask, 0) / jnp.maximum(rms, 1)
    return jnp.clip(real + mask, 0, 255)


def round_within(x: jax.Array, real: jax.Array, epsilon: jax.Array) -> jax.Array:
    """Rounds x to whole levels without leaving the ℓ∞ ball or the box: [H,W,C] -> uint8.

    `real` must hold whole levels. The mask is rounded to the nearest level where |mask| stays within
    ε, otherwise towards zero; inside an ℓ2 ball use `truncate_within`.
    """
    mask = x - real
    bound = jnp.floor(jnp.broadcast_to(epsilon, mask.shape))
    return jnp.clip(real + jnp.clip(jnp.round(mask), -bound, bound), 0, 255).astype(jnp.uint8)


def truncate_within(x: jax.Array, real: jax.Array) -> jax.Array:
    """Rounds the mask towards zero at every pixel, so that no norm of it grows: -> uint8."""
    return jnp.clip(real + jnp.trunc(x - real), 0, 255).astype(jnp.uint8)


def grey_kept(project: Callable[..., jax.Array]) -> Callable[..., jax.Array]:
    """A constraint that also keeps a grey photo grey: its mask is the same in every channel."""

    def constrained(x: jax.Array, real: jax.Array, epsilon: jax.Array) -> jax.Array:
        x = project(x, real, epsilon)
        grey = jnp.all(real == real[..., :1])
        return jnp.where(grey, jnp.mean(x, axis=-1, keepdims=True), x)

    return constrained
