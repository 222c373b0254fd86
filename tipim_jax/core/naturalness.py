"""Maximum mean discrepancy between a batch of protected and a batch of real photos (Eq. 3).

Written out by hand, gradient included: automatic differentiation would keep the [N,N,P] differences.
Both are taken from differences a_i − b_j, a row at a time. The shorter ‖a‖² + ‖b‖² − 2ab, or slopes @ b,
lose the small distances in float32: the narrowest kernel multiplies any rounding by 10⁶.
"""

import jax
import jax.numpy as jnp
from jax import lax

BANDWIDTHS = (
    1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1, 5, 10, 15, 20, 25, 30, 35, 100, 1e3, 1e4, 1e5, 1e6,
)  # fmt: skip


def mmd(protected: jax.Array, real: jax.Array, mask: jax.Array | None = None) -> jax.Array:
    """mean K(x,x) + mean K(y,y) − 2 mean K(x,y), K = Σ_σ exp(−d²/(2σ)), d in pixel levels.

    Args:
      protected: [N, ...] photos.
      real: [N, ...] photos to compare them with.
      mask: [N] which of them count; all by default.

    Returns:
      []: the squared MMD.
    """
    return mmd_and_gradient(protected, real, mask)[0]


def mmd_and_gradient(
    protected: jax.Array, real: jax.Array, mask: jax.Array | None = None
) -> tuple[jax.Array, jax.Array]:
    """`mmd` and its gradient [N, ...] with respect to `protected`."""
    shape = protected.shape
    x, y = protected.reshape(shape[0], -1), real.reshape(shape[0], -1)
    weights = jnp.ones(shape[0], x.dtype) if mask is None else mask.astype(x.dtype)
    pairs = weights[:, None] * weights / jnp.sum(weights) ** 2
    kernel_xx, slope_xx = _kernel(x, x)
    kernel_yy, _ = _kernel(y, y)
    kernel_xy, slope_xy = _kernel(x, y)
    value = jnp.sum(pairs * (kernel_xx + kernel_yy - 2 * kernel_xy))
    # dK(x_i, y_j)/dx_i = slope_ij (x_i − y_j); every x_i stands twice in K(x, x).
    gradient = 2 * (_pull(pairs * slope_xx, x, x) - _pull(pairs * slope_xy, x, y))
    return value, gradient.reshape(shape)


def _kernel(a: jax.Array, b: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The kernel [N,N] and its slope, the factor of (a_i − b_j) in its gradient."""
    squared = lax.map(lambda row: jnp.sum((row - b) ** 2, axis=1), a)
    sigmas = jnp.asarray(BANDWIDTHS, squared.dtype)
    terms = jnp.exp(-squared[..., None] / (2 * sigmas))
    return jnp.sum(terms, axis=-1), -jnp.sum(terms / sigmas, axis=-1)


def _pull(slopes: jax.Array, a: jax.Array, b: jax.Array) -> jax.Array:
    """Σ_j slopes_ij (a_i − b_j): [N,P]."""
    return lax.map(lambda row: row[0] @ (row[1] - b), (slopes, a))
