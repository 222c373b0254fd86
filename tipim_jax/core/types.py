"""The nouns of the library, with their shapes.

Everything is written for one image; `attack.run` maps it over a batch. H, W, C are the canvas height,
width and channels, D the embedding size, T the number of targets.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

PyTree = Any
Embed = Callable[[PyTree, jax.Array], jax.Array]  # (params, image [h,w,C] in 0–255) -> [D]


class Recogniser(NamedTuple):
    """One face-recognition network, ready to embed.

    Attributes:
      name: its name in `tipim models`.
      embed: (params, crop [h,w,3], RGB, pixel levels 0–255) -> [D], unit norm, float32; pure.
      params: the network's parameters.
      size: crop (height, width).
      landmarks: [5,2] alignment template, (x, y) in crop pixels.
    """

    name: str
    embed: Embed
    params: PyTree
    size: tuple[int, int]
    landmarks: np.ndarray


class Problem(NamedTuple):
    """What an attack is given for one image.

    Attributes:
      image: [H,W,C] real photo x_r, pixel levels 0–255.
      embedding: [D] its embedding f(x_r).
      targets: [T,D] embeddings of the allowed identities.
      epsilon: [] or [H,W,1] bound on the mask, pixel levels; a map makes the budget perceptual.
      cap: [] hard bound on the mask at every value, pixel levels, or None where the ball is bound enough.
      carrier: [H,H] B, or None: recognisers see the mask m as B · m · Bᵀ, what is left of it after it
        was pasted at another resolution and cropped again (`photos.paste.round_trip`).
      colours: [C,C] orthogonal projection onto the colours that a mask may have, or None: all. On the line
        of greys, no mask of a grey photo shows as a stain.
    """

    image: jax.Array
    embedding: jax.Array
    targets: jax.Array
    epsilon: jax.Array
    cap: jax.Array | None = None
    carrier: jax.Array | None = None
    colours: jax.Array | None = None


def carried(problem: Problem, image: jax.Array) -> jax.Array:
    """What recognisers get to see of `image` [H,W,C]."""
    carrier = problem.carrier
    if carrier is None:
        return image
    rows = jnp.einsum("hH,HWc->hWc", carrier, image - problem.image)
    return problem.image + jnp.einsum("wW,hWc->hwc", carrier, rows)


class AttackState(NamedTuple):
    """What an attack carries from step to step for one image.

    Attributes:
      image: [H,W,C] protected photo so far.
      updates: state of the optax transform (momentum).
      target: [] int32 index of the target of the last step.
      memory: state of the target search.
    """

    image: jax.Array
    updates: PyTree
    target: jax.Array
    memory: PyTree


class Choice(NamedTuple):
    """What a target search decides in one step.

    Attributes:
      target: [] int32.
      gradient: [H,W,C] gradient of the loss for that target.
      gains: [T] gains it measured or predicted, NaN where it did not look.
      memory: its state.
    """

    target: jax.Array
    gradient: jax.Array
    gains: jax.Array
    memory: PyTree


class Witnesses(NamedTuple):
    """What K recognisers that watch an attack without taking part in it know of one image.

    Attributes:
      params: K parameter trees, shared by a batch.
      sources: K × [D_k] embedding of the real photo.
      targets: K × [T,D_k] embeddings of the allowed identities.
    """

    params: tuple[PyTree, ...] = ()
    sources: tuple[jax.Array, ...] = ()
    targets: tuple[jax.Array, ...] = ()


class Step(NamedTuple):
    """One step of an attack on one image, for whoever watches (`attack.run(record=...)`).

    Attributes:
      before, after: the states around the step.
      choice: the target, its gradient and the gains.
      embedding: [D] embedding of the (diversified) image before the step.
      losses: [T] identity loss to every target at that embedding, plus `naturalness`.
      naturalness: [] γ · MMD of the batch, 0 without it.
      number, params, problem, witnesses: [] the step from 0, and what `attack.run` was given; it fills
        them in.
    """

    before: AttackState
    after: AttackState
    choice: Choice
    embedding: jax.Array
    losses: jax.Array
    naturalness: jax.Array
    number: jax.Array | None = None
    params: PyTree = None
    problem: Problem | None = None
    witnesses: Witnesses = Witnesses()


class Attack(NamedTuple):
    """An attack: `init(problem) -> state`, `update(params, key, step, state, problem, extra) -> (state, Step)`.

    `extra` is (γ·MMD value [], its gradient [H,W,C]), the only thing an image learns of its batch.
    """

    init: Callable[[Problem], AttackState]
    update: Callable[..., tuple[AttackState, Step]]


def l2_normalise(z: jax.Array) -> jax.Array:
    """`z / sqrt(sum(z²) + 1e-5)` over the last axis, as the released code normalises."""
    return z * jax.lax.rsqrt(jnp.sum(z * z, axis=-1, keepdims=True) + 1e-5)
