"""Layers that every port is built from: inference-only, NHWC, computed in the dtype of the input.

What they compute convolutions with is in `ports.convolutions`. Flax's PReLU has one scalar slope, the face
networks have one per channel.
"""

from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import lax

from ports.convolutions import Padding, convolution, depthwise, pads

M = TypeVar("M", bound=nnx.Module)


class _Unfilled:
    def params(self) -> None:
        return None


# Stands in for `nnx.Rngs` where a network is filled from a file.
UNFILLED: Any = _Unfilled()


# Values before a network is filled are NumPy's: jax.numpy would compile a program for every shape, and pages
# of zeros that nobody reads take no memory.
def zeros(*shape: int) -> np.ndarray:
    """Zeros of JAX's usual dtype."""
    return np.zeros(shape, jax.dtypes.canonicalize_dtype(float))


def ones(*shape: int) -> np.ndarray:
    """Ones of JAX's usual dtype."""
    return np.ones(shape, jax.dtypes.canonicalize_dtype(float))


def _kernel_init(key: jax.Array | None, shape: tuple[int, ...]) -> jax.Array | np.ndarray:
    return zeros(*shape) if key is None else nnx.initializers.lecun_normal()(key, shape)


def _pair(size: int | tuple[int, int]) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else size


class Conv(nnx.Module):
    """Convolution with explicit (PyTorch-style) padding: [B,H,W,I] -> [B,H',W',O].

    Parameters: `kernel` [kh,kw,I/groups,O], `bias` [O] or None.
    """

    def __init__(
        self,
        features_in: int,
        features_out: int,
        size: int | tuple[int, int],
        *,
        stride: int = 1,
        padding: Padding = 0,
        groups: int = 1,
        bias: bool = False,
        rngs: nnx.Rngs,
    ):
        shape = (*_pair(size), features_in // groups, features_out)
        self.kernel = nnx.Param(_kernel_init(rngs.params(), shape))
        self.bias = nnx.data(nnx.Param(zeros(features_out)) if bias else None)
        self.stride, self.padding, self.groups = stride, pads(padding), groups

    def __call__(self, x: jax.Array) -> jax.Array:
        # a few groups are convolved one by one: XLA's grouped convolution is slow on the CPU
        images = jnp.split(x, self.groups, -1)
        kernels = jnp.split(self.kernel[...].astype(x.dtype), self.groups, -1)
        y = jnp.concatenate([self._group(*pair) for pair in zip(images, kernels)], -1)
        return y if self.bias is None else y + self.bias[...].astype(x.dtype)

    def _group(self, x: jax.Array, kernel: jax.Array) -> jax.Array:
        if kernel.shape[:2] == (1, 1) and not any(map(any, self.padding)):
            return x[:, :: self.stride, :: self.stride] @ kernel[0, 0]
        return convolution(x, kernel, self.stride, self.padding)


class Linear(nnx.Module):
    """`x @ kernel + bias`: [B,I] -> [B,O]; `kernel` [I,O], `bias` [O] or None."""

    def __init__(self, features_in: int, features_out: int, *, bias: bool = True, rngs: nnx.Rngs):
        self.kernel = nnx.Param(_kernel_init(rngs.params(), (features_in, features_out)))
        self.bias = nnx.data(nnx.Param(zeros(features_out)) if bias else None)

    def __call__(self, x: jax.Array) -> jax.Array:
        y = x @ self.kernel[...].astype(x.dtype)
        return y if self.bias is None else y + self.bias[...].astype(x.dtype)


class BatchNorm(nnx.Module):
    """Frozen batch normalisation over the last axis, with running statistics as parameters.

    Without `learned` there is no scale and no bias (PyTorch's `affine=False`).
    """

    def __init__(self, features: int, *, epsilon: float = 1e-5, learned: bool = True):
        self.scale = nnx.data(nnx.Param(ones(features)) if learned else None)
        self.bias = nnx.data(nnx.Param(zeros(features)) if learned else None)
        self.mean, self.var = nnx.Param(zeros(features)), nnx.Param(ones(features))
        self.epsilon = epsilon

    def affine(self) -> tuple[jax.Array, jax.Array]:
        """The (multiplier [C], offset [C]) that this normalisation amounts to."""
        multiplier = (self.var[...] + self.epsilon) ** -0.5
        if self.scale is None or self.bias is None:
            return multiplier, -self.mean[...] * multiplier
        multiplier = self.scale[...] * multiplier
        return multiplier, self.bias[...] - self.mean[...] * multiplier

    def __call__(self, x: jax.Array) -> jax.Array:
        multiplier, offset = self.affine()
        return x * multiplier.astype(x.dtype) + offset.astype(x.dtype)


class Affine(nnx.Module):
    """`x * scale + bias` per channel [C]: a BatchNorm whose statistics its file has folded."""

    def __init__(self, features: int):
        self.scale, self.bias = nnx.Param(ones(features)), nnx.Param(zeros(features))

    def affine(self) -> tuple[jax.Array, jax.Array]:
        """The (multiplier [C], offset [C])."""
        return self.scale[...], self.bias[...]

    def __call__(self, x: jax.Array) -> jax.Array:
        return x * self.scale[...].astype(x.dtype) + self.bias[...].astype(x.dtype)


class LayerNorm(nnx.Module):
    """Layer normalisation over the last axis."""

    def __init__(self, features: int, *, epsilon: float = 1e-5):
        self.scale, self.bias = nnx.Param(ones(features)), nnx.Param(zeros(features))
        self.epsilon = epsilon

    def __call__(self, x: jax.Array) -> jax.Array:
        centred = x - x.mean(-1, keepdims=True)
        x = centred * lax.rsqrt((centred * centred).mean(-1, keepdims=True) + self.epsilon)
        return x * self.scale[...].astype(x.dtype) + self.bias[...].astype(x.dtype)


class PReLU(nnx.Module):
    """`max(x, 0) + slope * min(x, 0)` with one `slope` per channel [C]."""

    def __init__(self, features: int):
        self.slope = nnx.Param(0.25 * ones(features))

    def __call__(self, x: jax.Array) -> jax.Array:
        return jnp.where(x >= 0, x, x * self.slope[...].astype(x.dtype))


class Normed(nnx.Module):
    """A convolution or linear layer followed by its BatchNorm, which `fold_batch_norm` merges.

    `norm` replaces the BatchNorm by another module with the method `affine`.
    """

    def __init__(
        self, layer: Any, *, epsilon: float = 1e-5, norm: BatchNorm | Affine | None = None
    ):
        self.layer = layer
        features = layer.kernel[...].shape[-1]
        self.bn: BatchNorm | Affine | None = nnx.data(
            BatchNorm(features, epsilon=epsilon) if norm is None else norm
        )

    def __call__(self, x: jax.Array) -> jax.Array:
        y = self.layer(x)
        return y if self.bn is None else self.bn(y)


def fold_batch_norm(model: nnx.Module) -> nnx.Module:
    """A copy of `model` in which every `Normed` layer carries its BatchNorm inside its kernel.

    Exact in real arithmetic; BatchNorms that precede a padded convolution cannot be folded and
    stay.
    """
    graph, state = nnx.split(model)
    # in NumPy: jax.numpy would compile a program for every new shape of every operation
    folded = nnx.merge(graph, jax.tree.map(np.asarray, state))
    for module in _normed(folded):
        multiplier, offset = module.bn.affine()
        layer = module.layer
        if layer.bias is not None:
            offset = offset + layer.bias[...] * multiplier
        layer.kernel = nnx.Param(layer.kernel[...] * multiplier)
        layer.bias = nnx.Param(offset)
        module.bn = None
    graph, state = nnx.split(folded)
    return nnx.merge(graph, jax.device_put(state))


def without_batch_norm(model: M) -> M:
    """`model` with a bias in place of every BatchNorm, for weights in which they are folded already."""
    for module in _normed(model):
        if module.layer.bias is None:
            module.layer.bias = nnx.Param(zeros(module.layer.kernel[...].shape[-1]))
        module.bn = None
    return model


def _normed(model: nnx.Module) -> list[Any]:
    """The `Normed` layers that have their BatchNorm."""
    modules = [module for _, module in nnx.iter_graph(model)]
    return [m for m in modules if isinstance(m, Normed) and m.bn is not None]


class DepthwiseConv(nnx.Module):
    """Depthwise convolution [B,H,W,C] -> [B,H',W',C]; `kernel` [kh,kw,C], `bias` [C] or None."""

    def __init__(
        self,
        features: int,
        size: int | tuple[int, int],
        *,
        stride: int = 1,
        padding: Padding = 0,
        bias: bool = False,
        rngs: nnx.Rngs,
    ):
        height, width = _pair(size)
        kernel = _kernel_init(rngs.params(), (height, width, 1, features))
        self.kernel = nnx.Param(kernel[:, :, 0])
        self.bias = nnx.data(nnx.Param(zeros(features)) if bias else None)
        self.stride, self.padding = stride, pads(padding)

    def __call__(self, x: jax.Array) -> jax.Array:
        y = depthwise(x, self.kernel[...].astype(x.dtype), self.stride, self.padding)
        return y if self.bias is None else y + self.bias[...].astype(x.dtype)
