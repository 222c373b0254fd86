"""TIP-IM with the structure of the released code, in JAX: what this library's attack is timed against.

One image at a time. Every step is one forward pass whose activations are kept, and for each target one
pull-back, one candidate and one forward pass of it; the target is then chosen on the host, as the released
loop does. Written from the published description, sharing nothing with `tipim_jax.core.attack`, and equal to
recorded runs of the released code (tests/experiments/test_released.py).
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from tipim_jax.core.types import PyTree

View = Callable[[jax.Array, jax.Array], jax.Array]  # (key, image [H,W,C]) -> [H,W,C], pure


class Iteration(NamedTuple):
    """One step, finished."""

    choice: int  # index of the target taken
    # gains, losses: [T]
    gains: np.ndarray
    losses: np.ndarray
    # image, momentum: [H,W,C]
    image: jax.Array
    momentum: jax.Array


def iterations(
    embed: Callable[[PyTree, jax.Array], jax.Array],
    params: PyTree,
    image: jax.Array,
    targets: jax.Array,
    *,
    epsilon: float,
    alpha: float,
    steps: int,
    key: jax.Array,
    view: View = lambda key, image: image,
) -> Iterator[Iteration]:
    """Protects one image [H,W,C] by Algorithm 1 with N ℓ∞ `steps`, maximum gain and plain distances to
    targets [T,D].

    ε and α are pixel levels. `view` is the random view whose gradient is taken, with `key` folded with the
    step; it and `embed` should be the same objects for all images, to compile once.
    """
    source = _embed(embed, params, image)
    x, momentum = image, jnp.zeros_like(image)
    for step in range(steps):
        embedding, pull = _forward(embed, view, params, key, step, x)
        losses, candidates, gains = [], [], []
        for target in targets:
            loss, gradient = _backward(pull, embedding, source, target)
            candidate, moved = _move(x, momentum, gradient, image, epsilon, alpha)
            gains.append(float(_gain(_embed(embed, params, candidate), source, targets)))
            losses.append(float(loss))
            candidates.append((candidate, moved))
        choice = int(np.argmax(gains))
        x, momentum = candidates[choice]
        yield Iteration(choice, np.array(gains), np.array(losses), x, momentum)


@partial(jax.jit, static_argnums=0)
def _embed(embed, params, image):
    return embed(params, image)


@partial(jax.jit, static_argnums=(0, 1))
def _forward(embed, view, params, key, step, x):
    """The embedding of the view, and its pull-back with the activations that it needs."""
    own = jax.random.fold_in(key, step)
    return jax.vjp(lambda image: embed(params, view(own, image)), x)


@jax.jit
def _backward(pull, embedding, source, target):
    def loss(z):
        return jnp.mean((z - target) ** 2) - jnp.mean((z - source) ** 2)

    value, cotangent = jax.value_and_grad(loss)(embedding)
    return value, pull(cotangent)[0]


@jax.jit
def _move(x, momentum, gradient, real, epsilon, alpha):
    moved = momentum + gradient / jnp.mean(jnp.abs(gradient))
    near = jnp.clip(x - alpha * jnp.sign(moved), real - epsilon, real + epsilon)
    return jnp.clip(near, 0, 255), moved


@jax.jit
def _gain(embedding, source, targets):
    """Eq. 7 with the maximum: [D], [D], [T,D] -> []."""
    to_targets = jnp.linalg.norm(embedding - targets, axis=1)
    return jnp.logaddexp(0.0, jnp.max(jnp.linalg.norm(embedding - source) - to_targets))
