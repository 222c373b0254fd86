"""How a loss bends and an embedding stretches at a point: Hessian and Jacobian through products alone.

Everything is built from pull-backs, also the forward products, because custom pull-backs (`jax.custom_vjp`)
have no forward rule. Images have any shape; inner products are over all their entries.

Networks of convolutions and (P)ReLU are piecewise linear: their exact Hessian holds inside one linear piece
only, and a step of an attack crosses many. `secant_curvature` measures across them.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

_Basis = tuple[jax.Array, jax.Array, jax.Array]  # vectors so far, the next one, the scale

Function = Callable[[jax.Array], jax.Array]


def hessian_product(loss: Function, x: jax.Array, v: jax.Array) -> jax.Array:
    """H v of a scalar loss at x, the gradient of ⟨∇loss, v⟩; the shape of x."""
    return jax.grad(lambda x: jnp.vdot(jax.grad(loss)(x), v))(x)


def jacobian_product(f: Function, x: jax.Array, v: jax.Array) -> jax.Array:
    """J v of f: x -> [D] at x, as the transpose of the pull-back: [D]."""
    y, pull = jax.vjp(f, x)
    return jax.vjp(lambda u: pull(u)[0], jnp.zeros_like(y))[1](v)[0]


class Spectrum(NamedTuple):
    """values: [k] in descending order; vectors: [k, *shape], orthonormal."""

    values: jax.Array
    vectors: jax.Array


def lanczos(product: Function, start: jax.Array, steps: int) -> Spectrum:
    """Ritz values and vectors of a symmetric linear map after `steps` products.

    The Krylov basis is orthogonalised twice against itself at every step, so no eigenvalue appears twice
    by rounding. The ends of the spectrum converge first. Where the Krylov space is exhausted early, the
    remaining values are 0 and their vectors 0.

    Args:
      product: v -> H v.
      start: first direction, of the shape of v, not 0; random unless something is known.
      steps: m, number of products and of values returned.
    """
    shape, size = start.shape, start.size
    tiny = 1e3 * jnp.finfo(start.dtype).eps

    def apply(v: jax.Array) -> jax.Array:
        return product(v.reshape(shape)).reshape(-1)

    def expand(carry: _Basis, i: jax.Array) -> tuple[_Basis, tuple[jax.Array, jax.Array]]:
        basis, q, scale = carry
        basis = basis.at[i].set(q)
        w = apply(q)
        alpha = jnp.vdot(q, w)
        scale = jnp.maximum(scale, jnp.linalg.norm(w))
        for _ in range(2):
            w = w - basis.T @ (basis @ w)
        beta = jnp.linalg.norm(w)
        alive = beta > tiny * scale
        q = jnp.where(alive, w / jnp.where(alive, beta, 1), 0)
        return (basis, q, scale), (alpha, jnp.where(alive, beta, 0))

    first = start.reshape(-1) / jnp.linalg.norm(start)
    initial = (jnp.zeros((steps, size), start.dtype), first, jnp.zeros((), start.dtype))
    (basis, _, _), (alphas, betas) = lax.scan(expand, initial, jnp.arange(steps))
    tridiagonal = jnp.diag(alphas) + jnp.diag(betas[:-1], 1) + jnp.diag(betas[:-1], -1)
    values, vectors = jnp.linalg.eigh(tridiagonal)
    ritz = (vectors.T @ basis)[::-1].reshape(steps, *shape)
    return Spectrum(values[::-1], ritz)


def singular(f: Function, x: jax.Array, start: jax.Array, iterations: int) -> Spectrum:
    """Largest singular values of the Jacobian of f at x, with their right singular vectors.

    Block power iteration on JᵀJ: every direction is pushed forward, pulled back and orthogonalised.

    Args:
      f: x -> [D].
      x: the point.
      start: [k, *shape of x] first directions, independent; k ≤ D.
      iterations: of the block; the error falls with (σ_{k+1} / σ_i)^{2·iterations}.
    """
    shape = start.shape
    y, pull = jax.vjp(f, x)
    transpose = jax.vjp(lambda u: pull(u)[0], jnp.zeros_like(y))[1]
    push = jax.vmap(lambda v: transpose(v)[0])
    back = jax.vmap(lambda u: pull(u)[0])

    def orthonormal(directions: jax.Array) -> jax.Array:
        q, _ = jnp.linalg.qr(directions.reshape(shape[0], -1).T)
        return q.T.reshape(shape)

    def iterate(_: int, directions: jax.Array) -> jax.Array:
        return orthonormal(back(push(directions)))

    directions = lax.fori_loop(0, iterations, iterate, orthonormal(start))
    # Rayleigh-Ritz: inside the converged space, the singular vectors of the small matrix J V.
    _, values, rotation = jnp.linalg.svd(push(directions).T, full_matrices=False)
    return Spectrum(values, jnp.tensordot(rotation, directions, 1))


def directional_curvature(loss: Function, x: jax.Array, direction: jax.Array) -> jax.Array:
    """dᵀ H d / ‖d‖² of the exact Hessian at x: []; 0 for no direction."""
    product = jnp.vdot(hessian_product(loss, x, direction), direction)
    return _per_square(product, direction)


def secant_curvature(before: jax.Array, after: jax.Array, move: jax.Array) -> jax.Array:
    """⟨∇loss(x + move) − ∇loss(x), move⟩ / ‖move‖²: the mean curvature over a whole step, kinks included.

    Args:
      before, after: gradients at both ends.
      move: the step.
    """
    return _per_square(jnp.vdot(after - before, move), move)


def _per_square(value: jax.Array, direction: jax.Array) -> jax.Array:
    square = jnp.vdot(direction, direction)
    return jnp.where(square > 0, value / jnp.where(square > 0, square, 1), 0)


def plane(
    value: Callable[[jax.Array], jax.Array],
    origin: jax.Array,
    first: jax.Array,
    second: jax.Array,
    at_first: jax.Array,
    at_second: jax.Array,
) -> jax.Array:
    """A slice of a loss surface: value(origin + a · first + b · second), clipped to pixel levels.

    Args:
      value: image -> [...].
      origin, first, second: of an image's shape.
      at_first: [A] the a; at_second: [B] the b.

    Returns:
      [A,B,...]; points are evaluated one row at a time.
    """

    def row(a: jax.Array) -> jax.Array:
        points = origin + a * first + at_second.reshape(-1, *[1] * origin.ndim) * second
        return jax.vmap(value)(jnp.clip(points, 0, 255))

    return lax.map(row, at_first)
