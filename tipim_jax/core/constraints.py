"""Where a protected photo may lie: an ε ball around the real one, within the pixel box, in its colours.

A constraint is a function `(x, real, epsilon) -> x`; all arrays [H,W,C] in pixel levels, epsilon [] or
[H,W,1].
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

Constraint = Callable[[jax.Array, jax.Array, jax.Array], jax.Array]


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


def coloured(mask: jax.Array, colours: jax.Array | None) -> jax.Array:
    """The part of a mask [H,W,C] (or of its gradient) in the colours that are allowed.

    Args:
      mask: [H,W,C].
      colours: [C,C] orthogonal projection, see `types.Problem`; None allows all.
    """
    if colours is None:
        return mask
    # Not a matrix product, which accelerators round to 8 or 10 bits.
    return jnp.sum(mask[..., None, :] * colours, axis=-1)


def in_colours(
    project: Constraint,
    x: jax.Array,
    real: jax.Array,
    epsilon: jax.Array,
    colours: jax.Array | None,
) -> jax.Array:
    """`project(x, real, epsilon)` with its mask in the colours that are allowed.

    Where the part of the mask in those colours would leave the ball or the box in one channel, the pixel's
    mask shrinks as a whole: clipping that channel alone would tint it.

    Args:
      project: a constraint whose set holds, with a mask, every mask of the same signs and smaller amounts.
      x: its first argument.
      real: its second one.
      epsilon: its third one.
      colours: as for `coloured`.
    """
    inside = project(x, real, epsilon)
    if colours is None:
        return inside
    mask = coloured(inside - real, colours)
    room = project(real + mask, real, epsilon) - real
    # What rounding takes from a small channel must not shrink the others.
    exceeds = jnp.abs(mask) > jnp.abs(room) + 1e-3
    share = jnp.where(exceeds, room / jnp.where(exceeds, mask, 1), 1)
    return real + mask * jnp.min(share, axis=-1, keepdims=True)
