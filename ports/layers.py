"""Layers that every port is built from: inference-only, NHWC, computed in the dtype of the input.

Two of them exist because the obvious choice is wrong here. XLA's grouped convolution on the CPU is
20-60 times slower than `DepthwiseConv`, which adds k² shifted copies and carries its own VJP.
Flax's PReLU has one scalar slope, the face networks have one per channel.
"""

from collections.abc import Callable
from functools import partial, reduce
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import lax

M = TypeVar("M", bound=nnx.Module)
Padding = int | tuple[tuple[int, int], tuple[int, int]]


class _ShapesOnly:
    def params(self) -> None:
        return None


# Stands in for `nnx.Rngs` where a network is filled from a file: drawing takes long to trace.
SHAPES_ONLY: Any = _ShapesOnly()


def _kernel_init(key: jax.Array | None, shape: tuple[int, ...]) -> jax.Array:
    return jnp.zeros(shape) if key is None else nnx.initializers.lecun_normal()(key, shape)


def _pads(padding: Padding) -> tuple[tuple[int, int], tuple[int, int]]:
    return ((padding, padding), (padding, padding)) if isinstance(padding, int) else padding


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
        self.bias = nnx.data(nnx.Param(jnp.zeros(features_out)) if bias else None)
        self.stride, self.padding, self.groups = stride, _pads(padding), groups

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
        self.bias = nnx.data(nnx.Param(jnp.zeros(features_out)) if bias else None)

    def __call__(self, x: jax.Array) -> jax.Array:
        y = x @ self.kernel[...].astype(x.dtype)
        return y if self.bias is None else y + self.bias[...].astype(x.dtype)


class BatchNorm(nnx.Module):
    """Frozen batch normalisation over the last axis, with running statistics as parameters.

    Without `learned` there is no scale and no bias (PyTorch's `affine=False`).
    """

    def __init__(self, features: int, *, epsilon: float = 1e-5, learned: bool = True):
        self.scale = nnx.data(nnx.Param(jnp.ones(features)) if learned else None)
        self.bias = nnx.data(nnx.Param(jnp.zeros(features)) if learned else None)
        self.mean, self.var = nnx.Param(jnp.zeros(features)), nnx.Param(jnp.ones(features))
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
        self.scale, self.bias = nnx.Param(jnp.ones(features)), nnx.Param(jnp.zeros(features))

    def affine(self) -> tuple[jax.Array, jax.Array]:
        """The (multiplier [C], offset [C])."""
        return self.scale[...], self.bias[...]

    def __call__(self, x: jax.Array) -> jax.Array:
        return x * self.scale[...].astype(x.dtype) + self.bias[...].astype(x.dtype)


class LayerNorm(nnx.Module):
    """Layer normalisation over the last axis."""

    def __init__(self, features: int, *, epsilon: float = 1e-5):
        self.scale, self.bias = nnx.Param(jnp.ones(features)), nnx.Param(jnp.zeros(features))
        self.epsilon = epsilon

    def __call__(self, x: jax.Array) -> jax.Array:
        centred = x - x.mean(-1, keepdims=True)
        x = centred * lax.rsqrt((centred * centred).mean(-1, keepdims=True) + self.epsilon)
        return x * self.scale[...].astype(x.dtype) + self.bias[...].astype(x.dtype)


class PReLU(nnx.Module):
    """`max(x, 0) + slope * min(x, 0)` with one `slope` per channel [C]."""

    def __init__(self, features: int):
        self.slope = nnx.Param(jnp.full(features, 0.25))

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
            module.layer.bias = nnx.Param(jnp.zeros(module.layer.kernel[...].shape[-1]))
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
        self.bias = nnx.data(nnx.Param(jnp.zeros(features)) if bias else None)
        self.stride, self.padding = stride, _pads(padding)

    def __call__(self, x: jax.Array) -> jax.Array:
        y = depthwise(x, self.kernel[...].astype(x.dtype), self.stride, self.padding)
        return y if self.bias is None else y + self.bias[...].astype(x.dtype)


def _convolve(x: jax.Array, kernel: jax.Array, stride: int, padding: Any) -> jax.Array:
    return lax.conv_general_dilated(
        x, kernel, (stride, stride), padding, dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


@partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def convolution(
    x: jax.Array, kernel: jax.Array, stride: int, padding: tuple[tuple[int, int], tuple[int, int]]
) -> jax.Array:
    """Convolution [B,H,W,I], [kh,kw,I,O] -> [B,H',W',O] whose pull-back is a plain one, too.

    The automatic pull-back keeps the kernel as it is and asks for one with its input and output
    axes exchanged. XLA's CPU compiler brings that to its fast form only outside loops; in the scan
    of an attack it would take four times as long. Here the kernel is turned first.
    """
    return _convolve(x, kernel, stride, padding)


def _convolution_forward(x: jax.Array, kernel: jax.Array, stride: int, padding: Any) -> Any:
    return _convolve(x, kernel, stride, padding), (x, kernel)


def _convolution_backward(stride: int, padding: Any, residuals: Any, cotangent: jax.Array) -> Any:
    x, kernel = residuals
    x_gradient = _input_gradient(cotangent, kernel, stride, padding, x.shape[1:3])
    # not computed when the weights are frozen
    (kernel_gradient,) = jax.vjp(lambda k: _convolve(x, k, stride, padding), kernel)[1](cotangent)
    return x_gradient, kernel_gradient


def _input_gradient(
    cotangent: jax.Array, kernel: jax.Array, stride: int, padding: Any, size: tuple[int, ...]
) -> jax.Array:
    """The pull-back of a convolution to its input: [B,H',W',O], [kh,kw,I,O] -> [B,H,W,I].

    A plain convolution of the cotangent that gives the s × s pixels under each of its pixels at once, as
    s² · I channels. The usual form inserts zeros between the pixels of the cotangent and multiplies them,
    s² times the work. With x[p + low] = x[q s + r]: dx[q, r] = Σ_m dy[q − m] · K[r + s m].
    """
    (top, _), (left, _) = padding
    taps = [-(-length // stride) for length in kernel.shape[:2]]
    full = [(0, m * stride - length) for m, length in zip(taps, kernel.shape, strict=False)]
    inputs, outputs = kernel.shape[2:]
    phases = jnp.pad(kernel, (*full, (0, 0), (0, 0))).reshape(
        taps[0], stride, taps[1], stride, inputs, outputs
    )
    phases = jnp.flip(phases, (0, 2)).transpose(0, 2, 5, 1, 3, 4)
    phases = phases.reshape(*taps, outputs, stride * stride * inputs)
    blocks = [(length - 1 + low) // stride + 1 for length, low in zip(size, (top, left))]
    pads = [
        (m - 1, count - steps)
        for m, count, steps in zip(taps, blocks, cotangent.shape[1:], strict=False)
    ]
    pixels = _convolve(cotangent, phases, 1, pads)
    pixels = pixels.reshape(-1, *blocks, stride, stride, inputs).transpose(0, 1, 3, 2, 4, 5)
    pixels = pixels.reshape(-1, blocks[0] * stride, blocks[1] * stride, inputs)
    return pixels[:, top : top + size[0], left : left + size[1]]


convolution.defvjp(_convolution_forward, _convolution_backward)


def depthwise(
    x: jax.Array, kernel: jax.Array, stride: int, padding: tuple[tuple[int, int], tuple[int, int]]
) -> jax.Array:
    """Depthwise convolution as shifted multiply-adds: [B,H,W,C], [kh,kw,C] -> [B,H',W',C]."""
    # Rows and columns of the kernel that only ever meet padding are left out (9×9 on a 3×3 map).
    crop, pads = [], []
    for size, taps, (low, high) in zip(x.shape[1:3], kernel.shape, padding, strict=False):
        steps = (size + low + high - taps) // stride + 1
        first, last = max(0, low - (steps - 1) * stride), min(taps, low + size)
        crop.append(slice(first, last))
        pads.append((low - first, high - (taps - last)))
    return _depthwise(x, kernel[tuple(crop)], stride, tuple(pads))


@partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _depthwise(
    x: jax.Array, kernel: jax.Array, stride: int, padding: tuple[tuple[int, int], tuple[int, int]]
) -> jax.Array:
    (top, bottom), (left, right) = padding
    x = jnp.pad(x, ((0, 0), (top, bottom), (left, right), (0, 0)))
    (height, width), (kh, kw) = x.shape[1:3], kernel.shape[:2]
    if (height, width) == (kh, kw):  # a global window (GDC head): one product and one sum
        return jnp.sum(x * kernel, axis=(1, 2), keepdims=True)
    rows, columns = (height - kh) // stride + 1, (width - kw) // stride + 1
    return _sum_shifts(lambda i, j: _strided(x, i, j, rows, columns, stride) * kernel[i, j], kh, kw)


def _strided(x: jax.Array, i: int, j: int, rows: int, columns: int, stride: int) -> jax.Array:
    """Every `stride`-th pixel from (i, j), `rows` × `columns` of them."""
    last = (x.shape[0], i + (rows - 1) * stride + 1, j + (columns - 1) * stride + 1, x.shape[3])
    return lax.slice(x, (0, i, j, 0), last, (1, stride, stride, 1))


def max_pool(x: jax.Array, size: int, *, stride: int, padding: int = 0) -> jax.Array:
    """Maximum over `size`² windows, rows then columns: [B,H,W,C] -> [B,H',W',C].

    As maxima of shifted slices: the gradient of XLA's windowed maximum is 10-40 times slower on the
    CPU. Equal maxima share the gradient.
    """
    pads = (padding, padding)
    x = jnp.pad(x, ((0, 0), pads, pads, (0, 0)), constant_values=-jnp.inf)
    for axis in (1, 2):
        span = (x.shape[axis] - size) // stride * stride + 1
        shifts = [lax.slice_in_dim(x, i, i + span, stride, axis) for i in range(size)]
        x = reduce(jnp.maximum, shifts)
    return x


def average_pool(x: jax.Array, size: int, *, stride: int, padding: int = 0) -> jax.Array:
    """Mean over `size`² windows, padding counted as zeros: [B,H,W,C] -> [B,H',W',C]."""
    kernel = jnp.full((size, size, x.shape[-1]), 1 / size**2, x.dtype)
    return depthwise(x, kernel, stride, _pads(padding))


def _sum_shifts(term: Callable[[int, int], jax.Array], kh: int, kw: int) -> jax.Array:
    return sum((term(i, j) for i in range(kh) for j in range(kw)), start=0)  # type: ignore[return-value]


def _depthwise_forward(x: jax.Array, kernel: jax.Array, stride: int, padding: Any) -> Any:
    return _depthwise(x, kernel, stride, padding), (x, kernel)


def _depthwise_backward(stride: int, padding: Any, residuals: Any, cotangent: jax.Array) -> Any:
    # The transpose of a strided slice is a dilation: dilate the cotangent once, then shift it by
    # the flipped kernel. The automatic transpose of the k² slices is several times slower.
    x, kernel = residuals
    (height, width), (kh, kw) = x.shape[1:3], kernel.shape[:2]
    (top, bottom), (left, right) = padding
    rows, columns = cotangent.shape[1:3]
    zero = jnp.zeros((), x.dtype)
    low = (kh - 1 - top, kw - 1 - left)
    high = (
        height - 1 - ((rows - 1) * stride - top),
        width - 1 - ((columns - 1) * stride - left),
    )
    dilated = lax.pad(
        cotangent,
        zero,
        (
            (0, 0, 0),
            (low[0], high[0], stride - 1),
            (low[1], high[1], stride - 1),
            (0, 0, 0),
        ),
    )
    x_gradient = _sum_shifts(
        lambda i, j: (
            lax.slice(dilated, (0, i, j, 0), (x.shape[0], i + height, j + width, x.shape[3]))
            * kernel[kh - 1 - i, kw - 1 - j]
        ),
        kh,
        kw,
    )
    padded = jnp.pad(x, ((0, 0), (top, bottom), (left, right), (0, 0)))
    kernel_gradient = jnp.stack(
        [
            jnp.stack(
                [
                    jnp.sum(_strided(padded, i, j, rows, columns, stride) * cotangent, (0, 1, 2))
                    for j in range(kw)
                ]
            )
            for i in range(kh)
        ]
    )  # unused (so not computed) when the weights are frozen
    return x_gradient, kernel_gradient


_depthwise.defvjp(_depthwise_forward, _depthwise_backward)
