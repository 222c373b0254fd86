"""Random views of an image, so that a mask does not fit one framing alone.

`sample(key) -> view` draws the map, `apply(view, image [H,W,C]) -> [H,W,C]` applies it. The two are apart
so that all targets of a step share one map and recorded maps can be replayed.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from tipim_jax.core import geometry


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


def chain(*parts: Diversity) -> Diversity:
    """One view after the other, each drawn by itself."""

    def sample(key: jax.Array) -> tuple[Any, ...]:
        keys = jax.random.split(key, len(parts))
        return tuple(part.sample(key) for part, key in zip(parts, keys))

    def apply(views: tuple[Any, ...], image: jax.Array) -> jax.Array:
        for part, view in zip(parts, views):
            image = part.apply(view, image)
        return image

    return Diversity(sample, apply)


def sometimes(probability: float, change: Callable[[jax.Array], jax.Array]) -> Diversity:
    """`change` of the image with a probability, otherwise the image as it is."""

    def apply(view: jax.Array, image: jax.Array) -> jax.Array:
        return jnp.where(view, change(image), image)

    return Diversity(lambda key: jax.random.bernoulli(key, probability), apply)


def swapped_channels(probability: float = 0.25) -> Diversity:
    """Sometimes the channels in reverse order.

    Deployed systems often feed a network the order it was not trained on and hardly lose accuracy; a
    mask made on one order alone is then worth much less.
    """
    return sometimes(probability, lambda image: image[..., ::-1])


def blurred(probability: float = 0.3, sigma: float = 1.0) -> Diversity:
    """Sometimes through a Gaussian of `sigma` pixels, as resizing blurs; borders repeated."""
    half = round(2 * sigma)
    kernel = np.exp(-0.5 * (np.arange(-half, half + 1) / sigma) ** 2)
    kernel = kernel / kernel.sum()

    def along(axis: int, image: jax.Array) -> jax.Array:
        length = image.shape[axis]
        pad = [(half, half) if i == axis else (0, 0) for i in range(3)]
        padded = jnp.pad(image, pad, mode="edge")
        parts = [
            weight * jax.lax.slice_in_dim(padded, i, i + length, axis=axis)
            for i, weight in enumerate(kernel.tolist())
        ]
        return sum(parts[1:], parts[0])

    return sometimes(probability, lambda image: along(1, along(0, image)))


def contrast(amount: float = 0.3) -> Diversity:
    """Contrast times U(1 − amount, 1 + amount), about the mean of the image."""

    def apply(view: jax.Array, image: jax.Array) -> jax.Array:
        mean = jnp.mean(image)
        return mean + view.astype(image.dtype) * (image - mean)

    return Diversity(
        lambda key: jax.random.uniform(key, minval=1 - amount, maxval=1 + amount), apply
    )


class FaceView(NamedTuple):
    """map: [2,3] in coordinates of [−1, 1]; bend: [5,5,2] shifts (x, y) in pixels of a coarse grid."""

    map: jax.Array
    bend: jax.Array


def deformed(spread: float = 0.05, turn: float = 0.1, bend: float = 1.5) -> Diversity:
    """A face as other crops show it: moved, sheared, turned, mirrored or not, and smoothly bent.

    One resampling, zero outside. The bend lets a mask depend less on where exactly the features lie, which
    is where recognisers differ (deformation-constrained warping, Lin et al., 2024).

    Args:
      spread: largest standard deviation of the entries of the affine map, which is itself drawn from
        U(0.01, 1) times that, as the released code does with 0.1.
      turn: the same of the angle, in radians.
      bend: standard deviation of the shifts, in pixels.
    """

    def sample(key: jax.Array) -> FaceView:
        scales, matrix, angle, mirror, grid = jax.random.split(key, 5)
        s_p, s_r = jax.random.uniform(scales, (2,), minval=0.01, maxval=1.0)
        affine = jnp.eye(2, 3) + spread * s_p * jax.random.normal(matrix, (2, 3))
        outer = rotation(turn * s_r * jax.random.normal(angle))[:, :2]
        side = jnp.where(jax.random.bernoulli(mirror), -1.0, 1.0)
        linear = affine[:, :2] @ outer * jnp.stack([side, jnp.ones(())])
        shifts = bend * jax.random.normal(grid, (5, 5, 2))
        return FaceView(jnp.concatenate([linear, affine[:, 2:]], axis=1), shifts)

    def apply(view: FaceView, image: jax.Array) -> jax.Array:
        height, width, _ = image.shape
        rows, columns = (_cubic(length, 5).astype(image.dtype) for length in (height, width))
        bend = jnp.einsum("ya,xb,abc->yxc", rows, columns, view.bend.astype(image.dtype))
        points = geometry.mapped(_to_pixels(view.map, image), (height, width), image.dtype)
        return geometry.sample(image, points + bend)

    return Diversity(sample, apply)


def _cubic(length: int, coarse: int) -> jax.Array:
    """[length,coarse] weights of smooth interpolation from a coarse grid, rows summing to one."""
    return jax.image.resize(jnp.eye(coarse), (length, coarse), "cubic")


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
