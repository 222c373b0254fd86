"""Norm balls, each a pair: the steepest direction in it, and the projection on it.

Both are in units of the budget ε, [] or a map [H,W,1] in pixel levels: u = (x − x_r) / ε. For an ℓp ball with
1 < p < ∞ the step that gains most to first order puts |u| ∝ |ε g|^(q − 1), 1/p + 1/q = 1: much where a change
counts, hardly any elsewhere. ℓ∞, with its signs, spends the whole budget on every pixel.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from tipim_jax.core.constraints import Constraint, l2_ball, linf_ball
from tipim_jax.core.types import PyTree
from tipim_jax.core.updates import l2_direction, sign

# Rows: lightness, red against green, yellow against blue; orthonormal.
_OPPONENT = np.array([[1, 1, 1], [1, -1, 0], [1, 1, -2]]) / np.sqrt([[3.0], [2.0], [6.0]])


class Ball(NamedTuple):
    """A ball in units of the budget.

    Attributes:
      direction: optax transform, gradient -> the steepest ascent direction of size 1; its `update` takes the
        budget as the extra argument `epsilon`.
      project: (x, real, epsilon) -> x, the constraint.
    """

    direction: optax.GradientTransformation
    project: Constraint


def linf() -> Ball:
    """|u| ≤ 1 at every pixel: the ball of the paper."""
    return Ball(sign(), linf_ball)


def l2() -> Ball:
    """Root mean square of u over the image ≤ 1, with the direction that the released code takes in it."""
    return Ball(l2_direction(), l2_ball)


def lightness_and_chroma(chroma: float) -> np.ndarray:
    """[3,3] colour axes in which a change of colour takes 1 / `chroma` of the budget that a grey one takes."""
    return _OPPONENT * np.array([[1.0], [chroma], [chroma]])


def lp(p: float, axes: np.ndarray | None = None) -> Ball:
    """(mean |u|^p)^(1/p) ≤ 1, the mean over the axes of the pixels that have a budget.

    The projection is radial, then on the pixel box, which only shrinks the mask. Pixels with ε = 0 stay.

    Args:
      p: above 1 and finite.
      axes: [C,C] orthogonal rows a_i in which u is measured: (x − x_r) / ε = Σ u_i a_i. A longer row has a
        larger budget. The channels by default.

    Raises:
      ValueError: for another p; `linf` is the limit.
    """
    if not 1 < p < np.inf:
        raise ValueError(f"p is {p}; an ℓp ball needs 1 < p < ∞")

    def along(vector: jax.Array) -> jax.Array:
        return vector if axes is None else _combined(vector, axes)

    def steepest(gradient: jax.Array, epsilon: jax.Array) -> jax.Array:
        slope = along(gradient * epsilon)
        size = jnp.abs(slope)
        largest = jnp.max(size)
        # Divided by the largest first: powers of small numbers would underflow.
        size = size / jnp.where(largest > 0, largest, 1)
        direction = jnp.sign(slope) * size ** (1 / (p - 1))  # q − 1 = 1 / (p − 1)
        length = _norm(direction, epsilon, p)
        direction = direction / jnp.where(length > 0, length, 1)
        return direction if axes is None else _combined(direction, axes.T)

    def update(
        gradient: PyTree, state: PyTree, params: PyTree = None, *, epsilon: jax.Array
    ) -> tuple[PyTree, PyTree]:
        return jax.tree.map(lambda g: steepest(g, epsilon), gradient), state

    def project(x: jax.Array, real: jax.Array, epsilon: jax.Array) -> jax.Array:
        has_budget = epsilon > 0
        mask = jnp.where(has_budget, x - real, 0)
        coordinates = along(mask / jnp.where(has_budget, epsilon, 1))
        if axes is not None:
            coordinates = coordinates / np.sum(axes**2, axis=1).astype(mask.dtype)
        length = _norm(coordinates, epsilon, p)
        return jnp.clip(real + mask / jnp.maximum(length, 1), 0, 255)

    stateless = optax.GradientTransformationExtraArgs(lambda _: optax.EmptyState(), update)
    return Ball(stateless, project)


def _combined(vector: jax.Array, rows: np.ndarray) -> jax.Array:
    """`rows` times the last axis, in full precision: accelerators round matrix products."""
    return jnp.sum(vector[..., None, :] * rows.astype(vector.dtype), axis=-1)


def _norm(u: jax.Array, epsilon: jax.Array, p: float) -> jax.Array:
    """(mean |u|^p)^(1/p) over the pixels of u [H,W,C] with a budget, 0 if there is none."""
    with_budget = jnp.broadcast_to(epsilon > 0, u.shape)
    total = jnp.sum(jnp.where(with_budget, jnp.abs(u) ** p, 0))
    return (total / jnp.maximum(jnp.sum(with_budget), 1)) ** (1 / p)
