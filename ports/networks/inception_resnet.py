"""Inception-ResNet-v1 (Szegedy et al., 2017), the network of FaceNet, in facenet-pytorch's layout.

160×160, 512-d; the names of the modules are those of the checkpoint.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from ports.convert import CONV, LINEAR, Rule, batch_norm
from ports.convolutions import max_pool
from ports.layers import Conv, Linear, Normed

EPSILON = 1e-3


class Config(NamedTuple):
    repeats: tuple[int, int, int] = (5, 10, 5)  # of the three residual blocks
    size: tuple[int, int] = (160, 160)
    features: int = 512  # embedding size


class BasicConv(nnx.Module):
    """Convolution, BatchNorm, ReLU."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        size: int | tuple[int, int],
        *,
        stride: int = 1,
        padding: int | tuple[int, int] = 0,
        rngs: nnx.Rngs,
    ):
        rows, columns = (padding, padding) if isinstance(padding, int) else padding
        pads = ((rows, rows), (columns, columns))
        conv = Conv(inputs, outputs, size, stride=stride, padding=pads, rngs=rngs)
        self.conv = Normed(conv, epsilon=EPSILON)

    def __call__(self, x: jax.Array) -> jax.Array:
        return jax.nn.relu(self.conv(x))


def _chain(layers: nnx.List[Any], x: jax.Array) -> jax.Array:
    for layer in layers:
        x = layer(x)
    return x


class Block35(nnx.Module):
    """Inception-ResNet-A, 256 channels."""

    def __init__(self, *, rngs: nnx.Rngs):
        self.branch0 = BasicConv(256, 32, 1, rngs=rngs)
        self.branch1 = nnx.List(
            [BasicConv(256, 32, 1, rngs=rngs), BasicConv(32, 32, 3, padding=1, rngs=rngs)]
        )
        self.branch2 = nnx.List(
            [
                BasicConv(256, 32, 1, rngs=rngs),
                BasicConv(32, 32, 3, padding=1, rngs=rngs),
                BasicConv(32, 32, 3, padding=1, rngs=rngs),
            ]
        )
        self.conv2d = Conv(96, 256, 1, bias=True, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        branches = [self.branch0(x), _chain(self.branch1, x), _chain(self.branch2, x)]
        return jax.nn.relu(self.conv2d(jnp.concatenate(branches, -1)) * 0.17 + x)


class Separated(nnx.Module):
    """Inception-ResNet-B and -C: a 1×1 branch beside a 1×k then k×1 branch."""

    def __init__(
        self,
        features: int,
        width: int,
        kernel: int,
        scale: float,
        *,
        activate: Callable[[jax.Array], jax.Array] | None = jax.nn.relu,
        rngs: nnx.Rngs,
    ):
        half = kernel // 2
        self.branch0 = BasicConv(features, width, 1, rngs=rngs)
        self.branch1 = nnx.List(
            [
                BasicConv(features, width, 1, rngs=rngs),
                BasicConv(width, width, (1, kernel), padding=(0, half), rngs=rngs),
                BasicConv(width, width, (kernel, 1), padding=(half, 0), rngs=rngs),
            ]
        )
        self.conv2d = Conv(2 * width, features, 1, bias=True, rngs=rngs)
        self.scale, self.activate = scale, activate

    def __call__(self, x: jax.Array) -> jax.Array:
        branches = [self.branch0(x), _chain(self.branch1, x)]
        y = self.conv2d(jnp.concatenate(branches, -1)) * self.scale + x
        return y if self.activate is None else self.activate(y)


class Mixed6a(nnx.Module):
    """Reduction-A: 256 -> 896 channels."""

    def __init__(self, *, rngs: nnx.Rngs):
        self.branch0 = BasicConv(256, 384, 3, stride=2, rngs=rngs)
        self.branch1 = nnx.List(
            [
                BasicConv(256, 192, 1, rngs=rngs),
                BasicConv(192, 192, 3, padding=1, rngs=rngs),
                BasicConv(192, 256, 3, stride=2, rngs=rngs),
            ]
        )

    def __call__(self, x: jax.Array) -> jax.Array:
        branches = [self.branch0(x), _chain(self.branch1, x), max_pool(x, 3, stride=2)]
        return jnp.concatenate(branches, -1)


class Mixed7a(nnx.Module):
    """Reduction-B: 896 -> 1792 channels."""

    def __init__(self, *, rngs: nnx.Rngs):
        self.branch0 = nnx.List(
            [BasicConv(896, 256, 1, rngs=rngs), BasicConv(256, 384, 3, stride=2, rngs=rngs)]
        )
        self.branch1 = nnx.List(
            [BasicConv(896, 256, 1, rngs=rngs), BasicConv(256, 256, 3, stride=2, rngs=rngs)]
        )
        self.branch2 = nnx.List(
            [
                BasicConv(896, 256, 1, rngs=rngs),
                BasicConv(256, 256, 3, padding=1, rngs=rngs),
                BasicConv(256, 256, 3, stride=2, rngs=rngs),
            ]
        )

    def __call__(self, x: jax.Array) -> jax.Array:
        branches = [_chain(branch, x) for branch in (self.branch0, self.branch1, self.branch2)]
        return jnp.concatenate([*branches, max_pool(x, 3, stride=2)], -1)


class InceptionResnetV1(nnx.Module):
    """[B,h,w,3] normalised pixels -> [B,features] embeddings, not normalised."""

    def __init__(self, config: Config = Config(), *, rngs: nnx.Rngs):
        self.conv2d_1a = BasicConv(3, 32, 3, stride=2, rngs=rngs)
        self.conv2d_2a = BasicConv(32, 32, 3, rngs=rngs)
        self.conv2d_2b = BasicConv(32, 64, 3, padding=1, rngs=rngs)
        self.conv2d_3b = BasicConv(64, 80, 1, rngs=rngs)
        self.conv2d_4a = BasicConv(80, 192, 3, rngs=rngs)
        self.conv2d_4b = BasicConv(192, 256, 3, stride=2, rngs=rngs)
        first, second, third = config.repeats
        self.repeat_1 = nnx.List([Block35(rngs=rngs) for _ in range(first)])
        self.mixed_6a = Mixed6a(rngs=rngs)
        self.repeat_2 = nnx.List([Separated(896, 128, 7, 0.1, rngs=rngs) for _ in range(second)])
        self.mixed_7a = Mixed7a(rngs=rngs)
        self.repeat_3 = nnx.List([Separated(1792, 192, 3, 0.2, rngs=rngs) for _ in range(third)])
        self.block8 = Separated(1792, 192, 3, 1.0, activate=None, rngs=rngs)
        last = Linear(1792, config.features, bias=False, rngs=rngs)
        self.last = Normed(last, epsilon=EPSILON)

    def __call__(self, x: jax.Array) -> jax.Array:
        x = self.conv2d_2b(self.conv2d_2a(self.conv2d_1a(x)))
        x = max_pool(x, 3, stride=2)
        x = self.conv2d_4b(self.conv2d_4a(self.conv2d_3b(x)))
        x = self.mixed_6a(_chain(self.repeat_1, x))
        x = self.mixed_7a(_chain(self.repeat_2, x))
        x = self.block8(_chain(self.repeat_3, x))
        return self.last(x.mean((1, 2)))


# Convolutions lie one to four names deep (`conv2d_1a` to `repeat_1.0.branch1.0`).
_DEEP = ("{a}", "{a}.{b}", "{a}.{b}.{c}", "{a}.{b}.{c}.{d}")

TABLE = (
    *(Rule(f"{at}.conv.weight", f"{at}.conv.layer.kernel", CONV) for at in _DEEP),
    *(rule for at in _DEEP for rule in batch_norm(f"{at}.bn", f"{at}.conv.bn")),
    *(Rule(f"{at}.conv2d.weight", f"{at}.conv2d.kernel", CONV) for at in _DEEP[:2]),
    *(Rule(f"{at}.conv2d.bias", f"{at}.conv2d.bias") for at in _DEEP[:2]),
    Rule("last_linear.weight", "last.layer.kernel", LINEAR),
    *batch_norm("last_bn", "last.bn"),
)
