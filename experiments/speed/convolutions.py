"""The convolutions that face networks are made of, in the two layouts and as the ports compute them."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
from jax import lax

from ports.layers import convolution, depthwise


class Shape(NamedTuple):
    """A convolution with padding that keeps the size: `size` × `size` × `inputs` -> `outputs`."""

    kernel: int
    size: int
    inputs: int
    outputs: int
    groups: int = 1

    @property
    def name(self) -> str:
        kind = "depthwise " if self.groups > 1 else ""
        k, s = self.kernel, self.size
        return f"{kind}{k}×{k}, {s}×{s}, {self.inputs} → {self.outputs}"

    @property
    def flops(self) -> float:
        """Of one image, forward."""
        taps = self.kernel**2 * self.inputs // self.groups
        return 2.0 * self.size**2 * taps * self.outputs


SHAPES = (  # smallest last
    Shape(3, 112, 64, 64),
    Shape(3, 56, 64, 64),
    Shape(3, 28, 128, 128),
    Shape(3, 14, 256, 256),
    Shape(1, 56, 64, 128),
    Shape(1, 14, 256, 512),
    Shape(3, 56, 128, 128, groups=128),
    Shape(3, 7, 512, 512),
)


def variants(shape: Shape) -> dict[str, Callable[[jax.Array, jax.Array], jax.Array]]:
    """The same convolution in XLA's two layouts, and as the ports compute it: (images, kernel) -> images."""

    def plain(order: str, kernels: str, x: jax.Array, kernel: jax.Array) -> jax.Array:
        return lax.conv_general_dilated(
            *(x, kernel, (1, 1), "SAME", None, None, (order, kernels, order)),
            feature_group_count=shape.groups,
        )

    pads = ((shape.kernel // 2,) * 2,) * 2

    def ported(x: jax.Array, kernel: jax.Array) -> jax.Array:
        if shape.groups > 1:
            return depthwise(x, kernel[:, :, 0], 1, pads)
        return x @ kernel[0, 0] if shape.kernel == 1 else convolution(x, kernel, 1, pads)

    return {
        "NHWC": partial(plain, "NHWC", "HWIO"),
        "NCHW": partial(plain, "NCHW", "OIHW"),
        "ports": ported,
    }


def with_pull_back(function: Callable[..., jax.Array]) -> Callable[..., jax.Array]:
    """(x, …, cotangent) -> the pull-back to x, the forward pass included."""
    return lambda x, *rest: jax.vjp(lambda x: function(x, *rest[:-1]), x)[1](rest[-1])[0]
