"""Random views of an image, so that a mask does not fit one framing alone.

`sample(key) -> view` draws the map, `apply(view, image [H,W,C]) -> [H,W,C]` applies it. The two are apart
so that all targets of a step share one map and recorded maps can be replayed.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from tipim_jax import geometry


class Diversity(NamedTuple):
    sample: Callable[[jax.Array], Any]
    apply: Callable[[Any, jax.Array], jax.Array]


def none() -> Diversity:
    """The image as it is."""
    return Diversity(lambda key: (), lambda view, image: image)


class AffineView(NamedTuple):
    """affine: [2,3] in coordinates of [−1, 1]; theta: [] radians."""

    affine: jax.Array
    theta: jax.Array


def sample_affine(key: jax.Array) -> AffineView:
    """The released map: identity + N(0, s_p) and a rotation N(0, s_r), s_p, s_r ~ U(0.01, 0.1)."""
    scales, matrix, angle = jax.random.split(key, 3)
    s_p, s_r = jax.random.uniform(scales, (2,), minval=0.01, maxval=0.1)
    affine = jnp.eye(2, 3) + s_p * jax.random.normal(matrix, (2, 3))
    return AffineView(affine, s_r * jax.random.normal(angle))


def rotation(theta: jax.Array) -> jax.Array:
    """[2,3] rotation in the released code's sense."""
    cos, sin = jnp.cos(theta), jnp.sin(theta)
    zero = jnp.zeros_like(theta)
    return jnp.stack([jnp.stack([cos, sin, zero]), jnp.stack([-sin, cos, zero])])


def released_affine() -> Diversity:
    """The released augmentation: the affine map sampled first, its result rotated, both masked."""

    def apply(view: AffineView, image: jax.Array) -> jax.Array:
        return _masked_warp(_masked_warp(image, view.affine), rotation(view.theta))

    return Diversity(sample_affine, apply)


def affine() -> Diversity:
    """The same map drawn the same way, applied in one resampling: half the cost, less blur."""

    def apply(view: AffineView, image: jax.Array) -> jax.Array:
        outer = rotation(view.theta)
        linear = view.affine[:, :2] @ outer[:, :2]
        return _masked_warp(image, jnp.concatenate([linear, view.affine[:, 2:]], axis=1))

    return Diversity(sample_affine, apply)


def with_swapped_channels(diversity: Diversity, probability: float = 0.25) -> Diversity:
    """Views whose channels are sometimes in reverse order.

    Deployed systems often feed a network the order it was not trained on and hardly lose accuracy; a
    mask made on one order alone is then worth much less.
    """

    def sample(key: jax.Array) -> tuple[Any, jax.Array]:
        inner, coin = jax.random.split(key)
        return diversity.sample(inner), jax.random.bernoulli(coin, probability)

    def apply(view: tuple[Any, jax.Array], image: jax.Array) -> jax.Array:
        image = diversity.apply(view[0], image)
        return jnp.where(view[1], image[..., ::-1], image)

    return Diversity(sample, apply)


def resize_and_pad(smallest: float = 0.9, probability: float = 0.5) -> Diversity:
    """DIM (Xie et al., 2019): with a probability, shrink by U(smallest, 1) and pad at random."""

    def sample(key: jax.Array) -> jax.Array:
        coin, scale, place = jax.random.split(key, 3)
        size = jax.random.uniform(scale, minval=smallest, maxval=1.0)
        size = jnp.where(jax.random.bernoulli(coin, probability), size, 1.0)
        # In coordinates of [−1, 1] the shrunk image spans 2·size of 2.
        centre = (1 - size) * jax.random.uniform(place, (2,), minval=-1.0, maxval=1.0)
        return jnp.concatenate([jnp.eye(2) / size, -centre[:, None] / size], axis=1)

    def apply(view: jax.Array, image: jax.Array) -> jax.Array:
        height, width, _ = image.shape
        return geometry.warp(image, _to_pixels(view, image), (height, width))

    return Diversity(sample, apply)


def _masked_warp(image: jax.Array, matrix: jax.Array) -> jax.Array:
    """`image` through a map of [−1, 1]², zero at every pixel that touches the outside."""
    pixels = _to_pixels(matrix, image)
    height, width = image.shape[:2]
    with_ones = jnp.concatenate([image, jnp.ones((height, width, 1), image.dtype)], axis=-1)
    sampled = geometry.warp(with_ones, pixels, (height, width))
    return sampled[..., :-1] * (sampled[..., -1:] >= 0.9999)


def _to_pixels(matrix: jax.Array, image: jax.Array) -> jax.Array:
    """A [2,3] map of [−1, 1]² (pixel centres at (2i + 1)/n − 1) as a map of pixel coordinates."""
    half = jnp.asarray([image.shape[1], image.shape[0]], image.dtype) / 2
    matrix = matrix.astype(image.dtype)
    linear = matrix[:, :2] * half[:, None] / half[None, :]
    # pixel = half · (unit + 1) − ½ on both sides
    shift = half * (1 + matrix[:, 2]) - 0.5 - linear @ (half - 0.5)
    return jnp.concatenate([linear, shift[:, None]], axis=1)
