"""ResNet50 (He et al., 2016) with the head of the face robustness benchmark (RobFR), 112×112.

The ImageNet stem (7×7 stride 2, max pool) and bottlenecks, then BatchNorm, flatten, linear,
BatchNorm: `layerN.M.convK/bnK`, `bn_o1`, `fc`, `bn_o2`.
"""

from typing import Any, NamedTuple

import jax
from flax import nnx

from ports.convert import CONV, Rule, batch_norm, flattened_linear
from ports.convolutions import max_pool
from ports.layers import BatchNorm, Conv, Linear, Normed

EXPANSION = 4


class Config(NamedTuple):
    blocks: tuple[int, int, int, int] = (3, 4, 6, 3)
    size: tuple[int, int] = (112, 112)
    widths: tuple[int, int, int, int] = (64, 128, 256, 512)
    features: int = 512  # embedding size


class Bottleneck(nnx.Module):
    """1×1, strided 3×3 and 1×1 convolutions beside a shortcut."""

    def __init__(self, inputs: int, width: int, stride: int, *, project: bool, rngs: nnx.Rngs):
        outputs = width * EXPANSION
        self.conv1 = Normed(Conv(inputs, width, 1, rngs=rngs))
        self.conv2 = Normed(Conv(width, width, 3, stride=stride, padding=1, rngs=rngs))
        self.conv3 = Normed(Conv(width, outputs, 1, rngs=rngs))
        shortcut = Normed(Conv(inputs, outputs, 1, stride=stride, rngs=rngs)) if project else None
        self.shortcut = nnx.data(shortcut)

    def __call__(self, x: jax.Array) -> jax.Array:
        y = jax.nn.relu(self.conv1(x))
        y = jax.nn.relu(self.conv2(y))
        y = self.conv3(y)
        return jax.nn.relu(y + (x if self.shortcut is None else self.shortcut(x)))


class ResNetFace(nnx.Module):
    """[B,h,w,3] normalised pixels -> [B,features] embeddings, not normalised."""

    layer1: nnx.List[Any]
    layer2: nnx.List[Any]
    layer3: nnx.List[Any]
    layer4: nnx.List[Any]

    def __init__(self, config: Config = Config(), *, rngs: nnx.Rngs):
        inputs = config.widths[0]
        self.conv1 = Normed(Conv(3, inputs, 7, stride=2, padding=3, rngs=rngs))
        for stage, (width, repeats) in enumerate(zip(config.widths, config.blocks), start=1):
            units = []
            for i in range(repeats):
                stride = 2 if i == 0 and stage > 1 else 1
                units.append(Bottleneck(inputs, width, stride, project=i == 0, rngs=rngs))
                inputs = width * EXPANSION
            setattr(self, f"layer{stage}", nnx.List(units))
        self.bn_o1 = BatchNorm(inputs)
        height, width = _grid(config)
        self.fc = Normed(Linear(height * width * inputs, config.features, rngs=rngs))

    def __call__(self, x: jax.Array) -> jax.Array:
        x = max_pool(jax.nn.relu(self.conv1(x)), 3, stride=2, padding=1)
        for units in (self.layer1, self.layer2, self.layer3, self.layer4):
            for unit in units:
                x = unit(x)
        return self.fc(self.bn_o1(x).reshape(x.shape[0], -1))


def _grid(config: Config) -> tuple[int, int]:
    return -(-config.size[0] // 32), -(-config.size[1] // 32)


def table(config: Config = Config()) -> tuple[Rule, ...]:
    """The weight table of this variant."""
    head = flattened_linear(config.widths[-1] * EXPANSION, *_grid(config))
    return (
        Rule("conv1.weight", "conv1.layer.kernel", CONV),
        *batch_norm("bn1", "conv1.bn"),
        Rule("layer{s}.{n}.conv{k}.weight", "layer{s}.{n}.conv{k}.layer.kernel", CONV),
        *batch_norm("layer{s}.{n}.bn{k}", "layer{s}.{n}.conv{k}.bn"),
        Rule("layer{s}.{n}.downsample.0.weight", "layer{s}.{n}.shortcut.layer.kernel", CONV),
        *batch_norm("layer{s}.{n}.downsample.1", "layer{s}.{n}.shortcut.bn"),
        *batch_norm("bn_o1", "bn_o1"),
        Rule("fc.weight", "fc.layer.kernel", head),
        Rule("fc.bias", "fc.layer.bias"),
        *batch_norm("bn_o2", "fc.bn"),
    )
