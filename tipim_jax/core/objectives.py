"""The identity loss: towards a target, away from the source (Eq. 2).

On unit-norm embeddings every form is linear in the embedding of the protected photo, so its gradient
with respect to that embedding is a constant and `T + 1` pull-backs, of the source and of every target,
span the gradients of all T losses.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp


class Objective(NamedTuple):
    """attract · D(x, target) − repel · D(x, source), D the squared distance of embeddings.

    Attributes:
      attract: weight of the target; 0 gives the untargeted (dodging) form.
      repel: weight of the source.
      mean: divide by the embedding size, as the released code does (mean-square error). The scale only
        matters beside the MMD term.
    """

    attract: float = 1.0
    repel: float = 1.0
    mean: bool = False


def identity_loss(
    objective: Objective, embedding: jax.Array, source: jax.Array, target: jax.Array
) -> jax.Array:
    """The loss: embeddings [D] -> []."""
    loss = objective.attract * squared_distance(embedding, target)
    loss -= objective.repel * squared_distance(embedding, source)
    return loss / embedding.shape[-1] if objective.mean else loss


def cotangent(objective: Objective, size: int, source: jax.Array, target: jax.Array) -> jax.Array:
    """Gradient of the loss in the embedding, 2 (repel · source − attract · target).

    Linear in both arguments: it also combines the pulled-back images `Jᵀ f(x_r)` and `Jᵀ f(x_t)` into
    the gradient in pixels. (The term 2 (attract − repel) f(x) is left out: f has unit norm, so its
    pull-back vanishes.)

    Args:
      objective: the loss.
      size: D, the embedding size.
      source: [...]; target: [..., ] of the same or a broadcastable shape.
    """
    gradient = 2 * (objective.repel * source - objective.attract * target)
    return gradient / size if objective.mean else gradient


def squared_distance(a: jax.Array, b: jax.Array) -> jax.Array:
    """‖a − b‖² over the last axis."""
    return jnp.sum((a - b) ** 2, axis=-1)
