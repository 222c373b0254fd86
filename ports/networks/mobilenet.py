"""MobileNetV1 and V2 (Howard et al., 2017; Sandler et al., 2018) as face networks, after RobFR.

The ImageNet bodies with a stem of stride 1 or 2, a global depthwise convolution (`linear7`) and a
linear layer; 112×112, 512-d.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
from flax import nnx

from ports.convert import CONV, DEPTHWISE, LINEAR, Layout, Rule, batch_norm
from ports.layers import Conv, DepthwiseConv, Linear, Normed

# (features, stride) of the 13 separable blocks of Howard et al. (2017)
BLOCKS_V1 = (
    ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2))
    + 5 * ((512, 1),)
    + ((1024, 2), (1024, 1))
)


class ConfigV1(NamedTuple):
    stem_stride: int = 2
    # (features, stride) of the separable blocks
    blocks: tuple[tuple[int, int], ...] = BLOCKS_V1
    size: tuple[int, int] = (112, 112)
    features: int = 512  # embedding size


class ConfigV2(NamedTuple):
    stem_stride: int = 2
    # (expansion, features, repeats, first stride) of the inverted residuals
    stages: tuple[tuple[int, int, int, int], ...] = (
        (1, 16, 1, 1),
        (6, 24, 2, 2),
        (6, 32, 3, 2),
        (6, 64, 4, 2),
        (6, 96, 3, 1),
        (6, 160, 3, 2),
        (6, 320, 1, 1),
    )
    last: int = 1280
    size: tuple[int, int] = (112, 112)
    features: int = 512  # embedding size


class Activated(nnx.Module):
    """A normalised layer followed by an activation."""

    def __init__(self, layer: nnx.Module, activate: Callable[[jax.Array], jax.Array]):
        self.normed = Normed(layer)
        self.activate = activate

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.activate(self.normed(x))


class Separable(nnx.Module):
    """3×3 depthwise and 1×1 convolution, each with BatchNorm and ReLU."""

    def __init__(self, inputs: int, outputs: int, stride: int, *, rngs: nnx.Rngs):
        depthwise = DepthwiseConv(inputs, 3, stride=stride, padding=1, rngs=rngs)
        self.depthwise = Activated(depthwise, jax.nn.relu)
        self.pointwise = Activated(Conv(inputs, outputs, 1, rngs=rngs), jax.nn.relu)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.pointwise(self.depthwise(x))


class InvertedResidual(nnx.Module):
    """1×1 expansion (unless it is 1), 3×3 depthwise, linear 1×1; residual when the shape allows."""

    def __init__(self, inputs: int, outputs: int, stride: int, expansion: int, *, rngs: nnx.Rngs):
        wide = inputs * expansion
        expand = Activated(Conv(inputs, wide, 1, rngs=rngs), jax.nn.relu6)
        self.expand = nnx.data(expand if expansion != 1 else None)
        depthwise = DepthwiseConv(wide, 3, stride=stride, padding=1, rngs=rngs)
        self.depthwise = Activated(depthwise, jax.nn.relu6)
        self.project = Normed(Conv(wide, outputs, 1, rngs=rngs))
        self.residual = stride == 1 and inputs == outputs

    def __call__(self, x: jax.Array) -> jax.Array:
        y = x if self.expand is None else self.expand(x)
        y = self.project(self.depthwise(y))
        return x + y if self.residual else y


class _MobileNet(nnx.Module):
    """`layers`, then the global depthwise convolution and the linear layer."""

    layers: nnx.List[Any]
    linear7: DepthwiseConv
    fc: Linear

    def __call__(self, x: jax.Array) -> jax.Array:
        for layer in self.layers:
            x = layer(x)
        return self.fc(self.linear7(x)[:, 0, 0])


class MobileNetV1(_MobileNet):
    """[B,h,w,3] normalised pixels -> [B,features] embeddings, not normalised."""

    def __init__(self, config: ConfigV1 = ConfigV1(), *, rngs: nnx.Rngs):
        stem = Conv(3, 32, 3, stride=config.stem_stride, padding=1, rngs=rngs)
        layers: list[nnx.Module] = [Activated(stem, jax.nn.relu)]
        inputs = 32
        for outputs, stride in config.blocks:
            layers.append(Separable(inputs, outputs, stride, rngs=rngs))
            inputs = outputs
        self.layers = nnx.List(layers)
        self.linear7 = DepthwiseConv(inputs, _grid(config), rngs=rngs)
        self.fc = Linear(inputs, config.features, rngs=rngs)


class MobileNetV2(_MobileNet):
    """[B,h,w,3] normalised pixels -> [B,features] embeddings, not normalised."""

    def __init__(self, config: ConfigV2 = ConfigV2(), *, rngs: nnx.Rngs):
        stem = Conv(3, 32, 3, stride=config.stem_stride, padding=1, rngs=rngs)
        layers: list[nnx.Module] = [Activated(stem, jax.nn.relu6)]
        inputs = 32
        for expansion, outputs, repeats, stride in config.stages:
            for i in range(repeats):
                first = stride if i == 0 else 1
                layers.append(InvertedResidual(inputs, outputs, first, expansion, rngs=rngs))
                inputs = outputs
        layers.append(Activated(Conv(inputs, config.last, 1, rngs=rngs), jax.nn.relu6))
        self.layers = nnx.List(layers)
        self.linear7 = DepthwiseConv(config.last, _grid(config), rngs=rngs)
        self.fc = Linear(config.last, config.features, rngs=rngs)


def _grid(config: ConfigV1 | ConfigV2) -> tuple[int, int]:
    """The last feature map: four halvings after the stem, rounded up."""
    step = 16 * config.stem_stride
    return -(-config.size[0] // step), -(-config.size[1] // step)


def _activated(source: str, norm: str, path: str, layout: Layout = CONV) -> tuple[Rule, ...]:
    kernel = Rule(f"{source}.weight", f"{path}.normed.layer.kernel", layout)
    return (kernel, *batch_norm(norm, f"{path}.normed.bn"))


TABLE_V1 = (
    *_activated("model.0.0", "model.0.1", "layers.0"),
    *_activated("model.{n}.0", "model.{n}.1", "layers.{n}.depthwise", DEPTHWISE),
    *_activated("model.{n}.3", "model.{n}.4", "layers.{n}.pointwise"),
    Rule("linear7.weight", "linear7.kernel", DEPTHWISE),
    Rule("fc.weight", "fc.kernel", LINEAR),
    Rule("fc.bias", "fc.bias"),
)


def table_v2(config: ConfigV2 = ConfigV2()) -> tuple[Rule, ...]:
    """The weight table of this variant: blocks without expansion number their layers differently."""
    last = 1 + sum(repeats for _, _, repeats, _ in config.stages)
    plain, n = [], 1
    for expansion, _, repeats, _ in config.stages:
        plain += [i for i in range(n, n + repeats) if expansion == 1]
        n += repeats
    rules: list[Rule] = []
    for i in plain:
        source, path = f"features.{i}.conv", f"layers.{i}"
        rules += _activated(f"{source}.0", f"{source}.1", f"{path}.depthwise", DEPTHWISE)
        rules.append(Rule(f"{source}.3.weight", f"{path}.project.layer.kernel", CONV))
        rules += batch_norm(f"{source}.4", f"{path}.project.bn")
    source, path = "features.{n}.conv", "layers.{n}"
    return (
        *_activated("features.0.0", "features.0.1", "layers.0"),
        *_activated(f"features.{last}.0", f"features.{last}.1", f"layers.{last}"),
        *rules,
        *_activated(f"{source}.0", f"{source}.1", f"{path}.expand"),
        *_activated(f"{source}.3", f"{source}.4", f"{path}.depthwise", DEPTHWISE),
        Rule(f"{source}.6.weight", f"{path}.project.layer.kernel", CONV),
        *batch_norm(f"{source}.7", f"{path}.project.bn"),
        Rule("linear7.weight", "linear7.kernel", DEPTHWISE),
        Rule("classifier.1.weight", "fc.kernel", LINEAR),
        Rule("classifier.1.bias", "fc.bias"),
    )
