"""Sphere20 (Liu et al., SphereFace, 2017): residual 3×3 convolutions with PReLU, no normalisation.

112×96, 512-d, in two layouts: SphereFace's (`conv2_4`, `relu2_4`, `fc5`) and CosFace's
(`layer2.3.conv1`, `fc`), whose residual convolutions have no bias.
"""

from typing import NamedTuple

import jax
from flax import nnx

from ports.convert import CONV, Rule, flattened_linear
from ports.layers import Conv, Linear, PReLU


class Config(NamedTuple):
    blocks: tuple[int, int, int, int] = (1, 2, 4, 1)  # residual units per stage
    cosface: bool = False  # CosFace's layout
    size: tuple[int, int] = (112, 96)
    widths: tuple[int, int, int, int] = (64, 128, 256, 512)
    features: int = 512  # embedding size


class Unit(nnx.Module):
    """Two 3×3 convolutions with PReLU around which the input is added."""

    def __init__(self, features: int, *, bias: bool, rngs: nnx.Rngs):
        self.conv1 = Conv(features, features, 3, padding=1, bias=bias, rngs=rngs)
        self.prelu1 = PReLU(features)
        self.conv2 = Conv(features, features, 3, padding=1, bias=bias, rngs=rngs)
        self.prelu2 = PReLU(features)

    def __call__(self, x: jax.Array) -> jax.Array:
        return x + self.prelu2(self.conv2(self.prelu1(self.conv1(x))))


class Stage(nnx.Module):
    """A stride-2 3×3 convolution with PReLU, then residual units."""

    def __init__(self, inputs: int, outputs: int, repeats: int, *, bias: bool, rngs: nnx.Rngs):
        self.conv = Conv(inputs, outputs, 3, stride=2, padding=1, bias=True, rngs=rngs)
        self.prelu = PReLU(outputs)
        self.units = nnx.List([Unit(outputs, bias=bias, rngs=rngs) for _ in range(repeats)])

    def __call__(self, x: jax.Array) -> jax.Array:
        x = self.prelu(self.conv(x))
        for unit in self.units:
            x = unit(x)
        return x


class Sphere(nnx.Module):
    """[B,h,w,3] normalised pixels -> [B,features] embeddings, not normalised."""

    def __init__(self, config: Config = Config(), *, rngs: nnx.Rngs):
        stages, inputs = [], 3
        for outputs, repeats in zip(config.widths, config.blocks):
            stages.append(Stage(inputs, outputs, repeats, bias=not config.cosface, rngs=rngs))
            inputs = outputs
        self.stages = nnx.List(stages)
        height, width = _grid(config)
        self.fc = Linear(height * width * inputs, config.features, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        for stage in self.stages:
            x = stage(x)
        return self.fc(x.reshape(x.shape[0], -1))


def _grid(config: Config) -> tuple[int, int]:
    return config.size[0] // 16, config.size[1] // 16


def table(config: Config = Config()) -> tuple[Rule, ...]:
    """The weight table of this variant."""
    rules = []
    for stage, repeats in enumerate(config.blocks):
        path, first = f"stages.{stage}", stage + 1
        layers = [("conv", "prelu", f"conv{first}_1", f"relu{first}_1")]
        if config.cosface:
            layers = [("conv", "prelu", f"layer{first}.0", f"layer{first}.1")]
        for n in range(repeats):
            for k in (1, 2):
                conv, prelu = f"conv{first}_{2 * n + k + 1}", f"relu{first}_{2 * n + k + 1}"
                if config.cosface:
                    conv, prelu = (f"layer{first}.{n + 2}.{kind}{k}" for kind in ("conv", "prelu"))
                layers.append((f"units.{n}.conv{k}", f"units.{n}.prelu{k}", conv, prelu))
        for conv_path, prelu_path, conv, prelu in layers:
            rules += [
                Rule(f"{conv}.weight", f"{path}.{conv_path}.kernel", CONV),
                Rule(f"{conv}.bias", f"{path}.{conv_path}.bias"),
                Rule(f"{prelu}.weight", f"{path}.{prelu_path}.slope"),
            ]
    head, layout = (
        "fc" if config.cosface else "fc5",
        flattened_linear(config.widths[-1], *_grid(config)),
    )
    return (*rules, Rule(f"{head}.weight", "fc.kernel", layout), Rule(f"{head}.bias", "fc.bias"))
