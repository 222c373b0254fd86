"""Numbers of two directions that several probes take."""

import jax
import jax.numpy as jnp


def cosine(a: jax.Array, b: jax.Array) -> jax.Array:
    """⟨a, b⟩ / (‖a‖ ‖b‖): []; NaN where one of them is 0."""
    return jnp.vdot(a, b) / (norm(a) * norm(b))


def norm(a: jax.Array) -> jax.Array:
    """ℓ2 norm over all entries: []."""
    return jnp.sqrt(jnp.vdot(a, a))


def rms(a: jax.Array) -> jax.Array:
    """Root mean square of all entries: []."""
    return jnp.sqrt(jnp.mean(a * a))


def flips(a: jax.Array, b: jax.Array) -> jax.Array:
    """Share of opposite signs among the entries where neither is 0."""
    product = a * b
    return jnp.sum(product < 0) / jnp.sum(product != 0)
