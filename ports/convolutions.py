"""Convolutions and pools with pull-backs of their own, where XLA's choice on the CPU is slow.

Its grouped convolution takes 20-60 times as long as `depthwise`, which adds k² shifted copies; its pull-backs
of a convolution inside a loop and of a windowed maximum are slow as well. All are NHWC.
"""

from collections.abc import Callable
from functools import partial, reduce
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

Pads = tuple[tuple[int, int], tuple[int, int]]  # (top, bottom), (left, right)
Padding = int | Pads  # the same at every side, or each


def pads(padding: Padding) -> Pads:
    """The padding of each side."""
    return ((padding, padding), (padding, padding)) if isinstance(padding, int) else padding


def _convolve(x: jax.Array, kernel: jax.Array, stride: int, padding: Any) -> jax.Array:
    return lax.conv_general_dilated(
        x, kernel, (stride, stride), padding, dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


@partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def convolution(x: jax.Array, kernel: jax.Array, stride: int, padding: Pads) -> jax.Array:
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
    around = [
        (m - 1, count - steps)
        for m, count, steps in zip(taps, blocks, cotangent.shape[1:], strict=False)
    ]
    pixels = _convolve(cotangent, phases, 1, around)
    pixels = pixels.reshape(-1, *blocks, stride, stride, inputs).transpose(0, 1, 3, 2, 4, 5)
    pixels = pixels.reshape(-1, blocks[0] * stride, blocks[1] * stride, inputs)
    return pixels[:, top : top + size[0], left : left + size[1]]


convolution.defvjp(_convolution_forward, _convolution_backward)


def depthwise(x: jax.Array, kernel: jax.Array, stride: int, padding: Pads) -> jax.Array:
    """Depthwise convolution as shifted multiply-adds: [B,H,W,C], [kh,kw,C] -> [B,H',W',C]."""
    # Rows and columns of the kernel that only ever meet padding are left out (9×9 on a 3×3 map).
    crop, used = [], []
    for size, taps, (low, high) in zip(x.shape[1:3], kernel.shape, padding, strict=False):
        steps = (size + low + high - taps) // stride + 1
        first, last = max(0, low - (steps - 1) * stride), min(taps, low + size)
        crop.append(slice(first, last))
        used.append((low - first, high - (taps - last)))
    return _depthwise(x, kernel[tuple(crop)], stride, (used[0], used[1]))


@partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _depthwise(x: jax.Array, kernel: jax.Array, stride: int, padding: Pads) -> jax.Array:
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
    around = ((0, 0), *pads(padding), (0, 0))
    x = jnp.pad(x, around, constant_values=-jnp.inf)
    for axis in (1, 2):
        span = (x.shape[axis] - size) // stride * stride + 1
        shifts = [lax.slice_in_dim(x, i, i + span, stride, axis) for i in range(size)]
        x = reduce(jnp.maximum, shifts)
    return x


def average_pool(x: jax.Array, size: int, *, stride: int, padding: int = 0) -> jax.Array:
    """Mean over `size`² windows, padding counted as zeros: [B,H,W,C] -> [B,H',W',C]."""
    kernel = jnp.full((size, size, x.shape[-1]), 1 / size**2, x.dtype)
    return depthwise(x, kernel, stride, pads(padding))


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
