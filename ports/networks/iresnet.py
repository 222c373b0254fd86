"""iResNet (Duta et al., 2020) as insightface's arcface_torch publishes it: r18 to r200.

`layerN.M.bn1/conv1/bn2/prelu/conv2/bn3`, `fc`, `features`; 112×112.
"""

from typing import Any, NamedTuple

import jax
from flax import nnx

from ports.convert import CONV, Rule, batch_norm, flattened_linear
from ports.layers import BatchNorm, Conv, Linear, Normed, PReLU
from ports.networks.ir import BLOCKS, Unit


class Config(NamedTuple):
    blocks: tuple[int, int, int, int] = BLOCKS[50]
    size: tuple[int, int] = (112, 112)
    widths: tuple[int, int, int, int] = (64, 128, 256, 512)
    features: int = 512  # embedding size


class IResNet(nnx.Module):
    """[B,h,w,3] normalised pixels -> [B,features] embeddings, not normalised."""

    layer1: nnx.List[Any]
    layer2: nnx.List[Any]
    layer3: nnx.List[Any]
    layer4: nnx.List[Any]

    def __init__(self, config: Config = Config(), *, rngs: nnx.Rngs):
        inputs = config.widths[0]
        self.conv1 = Normed(Conv(3, inputs, 3, padding=1, rngs=rngs))
        self.prelu = PReLU(inputs)
        for stage, (outputs, repeats) in enumerate(zip(config.widths, config.blocks), start=1):
            units = []
            for i in range(repeats):
                stride = 2 if i == 0 else 1
                units.append(
                    Unit(inputs, outputs, stride, project=i == 0, inner_norm=True, rngs=rngs)
                )
                inputs = outputs
            setattr(self, f"layer{stage}", nnx.List(units))
        self.bn2 = BatchNorm(inputs)
        height, width = _grid(config)
        self.head = Normed(Linear(height * width * inputs, config.features, rngs=rngs))

    def __call__(self, x: jax.Array) -> jax.Array:
        x = self.prelu(self.conv1(x))
        for units in (self.layer1, self.layer2, self.layer3, self.layer4):
            for unit in units:
                x = unit(x)
        return self.head(self.bn2(x).reshape(x.shape[0], -1))


def _grid(config: Config) -> tuple[int, int]:
    return config.size[0] // 16, config.size[1] // 16


def table(config: Config = Config()) -> tuple[Rule, ...]:
    """The weight table of this variant."""
    unit = "layer{s}.{n}"
    return (
        Rule("conv1.weight", "conv1.layer.kernel", CONV),
        *batch_norm("bn1", "conv1.bn"),
        Rule("prelu.weight", "prelu.slope"),
        *batch_norm(f"{unit}.bn1", f"{unit}.bn"),
        Rule(f"{unit}.conv1.weight", f"{unit}.conv1.layer.kernel", CONV),
        *batch_norm(f"{unit}.bn2", f"{unit}.conv1.bn"),
        Rule(f"{unit}.prelu.weight", f"{unit}.prelu.slope"),
        Rule(f"{unit}.conv2.weight", f"{unit}.conv2.layer.kernel", CONV),
        *batch_norm(f"{unit}.bn3", f"{unit}.conv2.bn"),
        Rule(f"{unit}.downsample.0.weight", f"{unit}.shortcut.layer.kernel", CONV),
        *batch_norm(f"{unit}.downsample.1", f"{unit}.shortcut.bn"),
        *batch_norm("bn2", "bn2"),
        Rule("fc.weight", "head.layer.kernel", flattened_linear(config.widths[-1], *_grid(config))),
        Rule("fc.bias", "head.layer.bias"),
        *batch_norm("features", "head.bn"),
    )
