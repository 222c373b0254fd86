"""dlib's face recognition ResNet-29 (King, 2017): 150×150, 128-d, compared by Euclidean distance.

Three conventions of dlib differ from PyTorch's: strided convolutions and poolings are not padded;
a sum takes the larger of the two shapes, the smaller tensor padded with zeros at the bottom, right
and last channels; and each convolution carries a bias before its affine layer.
"""

import jax
import jax.numpy as jnp
from flax import nnx

from ports.convert import CONV, Rule
from ports.convolutions import max_pool
from ports.layers import Affine, Conv, Linear, Normed

# (features, blocks, whether the first block halves the size), from input to output
LEVELS = ((32, 3, False), (64, 4, True), (128, 3, True), (256, 3, True), (256, 1, True))


def _conv(inputs: int, outputs: int, size: int, stride: int, rngs: nnx.Rngs) -> Normed:
    padding = size // 2 if stride == 1 else 0
    layer = Conv(inputs, outputs, size, stride=stride, padding=padding, bias=True, rngs=rngs)
    return Normed(layer, norm=Affine(outputs))


class Block(nnx.Module):
    """relu(shortcut + two 3×3 convolutions); the shortcut of a strided block is 2×2 averages."""

    def __init__(self, inputs: int, outputs: int, stride: int, *, rngs: nnx.Rngs):
        self.first = _conv(inputs, outputs, 3, stride, rngs)
        self.second = _conv(outputs, outputs, 3, 1, rngs)
        self.stride = stride

    def __call__(self, x: jax.Array) -> jax.Array:
        y = self.second(jax.nn.relu(self.first(x)))
        return jax.nn.relu(_padded_sum(x if self.stride == 1 else _average_2x2(x), y))


class DlibResNet(nnx.Module):
    """[B,150,150,3] normalised RGB pixels -> [B,128] descriptors (same person: distance < 0.6)."""

    def __init__(self, *, rngs: nnx.Rngs):
        self.stem = _conv(3, 32, 7, 2, rngs)
        blocks, inputs = [], 32
        for features, repeats, halves in LEVELS:
            for i in range(repeats):
                stride = 2 if halves and i == 0 else 1
                blocks.append(Block(inputs, features, stride, rngs=rngs))
                inputs = features
        self.blocks = nnx.List(blocks)
        self.head = Linear(inputs, 128, bias=False, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        x = jax.nn.relu(self.stem(x))
        x = max_pool(x, 3, stride=2)
        for block in self.blocks:
            x = block(x)
        return self.head(x.mean((1, 2)))


def _average_2x2(x: jax.Array) -> jax.Array:
    batch, height, width, channels = x.shape
    x = x[:, : height // 2 * 2, : width // 2 * 2]
    return x.reshape(batch, height // 2, 2, width // 2, 2, channels).mean((2, 4))


def _padded_sum(x: jax.Array, y: jax.Array) -> jax.Array:
    shape = tuple(max(sizes) for sizes in zip(x.shape, y.shape))

    def padded(a: jax.Array) -> jax.Array:
        return jnp.pad(a, [(0, wanted - size) for wanted, size in zip(shape, a.shape)])

    return padded(x) + padded(y)


def _rules(number: int, path: str) -> tuple[Rule, ...]:
    return (
        Rule(f"con.{number}.weight", f"{path}.layer.kernel", CONV),
        Rule(f"con.{number}.bias", f"{path}.layer.bias"),
        Rule(f"affine.{number}.gamma", f"{path}.bn.scale"),
        Rule(f"affine.{number}.beta", f"{path}.bn.bias"),
    )


TABLE = (
    *_rules(0, "stem"),
    *(
        rule
        for n in range(sum(repeats for _, repeats, _ in LEVELS))
        for rule in (
            *_rules(2 * n + 1, f"blocks.{n}.first"),
            *_rules(2 * n + 2, f"blocks.{n}.second"),
        )
    ),
    Rule("fc.0.weight", "head.kernel"),
)
