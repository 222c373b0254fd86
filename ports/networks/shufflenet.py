"""ShuffleNetV1 and V2 (Zhang et al., 2018; Ma et al., 2018) as face networks, after RobFR.

The ImageNet bodies (V1 with 3 groups, V2 at width 1) with a stem of stride 1, a global depthwise
convolution (`linear7`, RobFR's `GDConv`) and a linear layer; 112×112, 512-d.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from ports.convert import CONV, DEPTHWISE, LINEAR, Layout, Rule, batch_norm
from ports.convolutions import average_pool, max_pool
from ports.layers import Conv, DepthwiseConv, Linear, Normed


class ConfigV1(NamedTuple):
    groups: int = 3
    widths: tuple[int, int, int] = (240, 480, 960)  # of the three stages
    repeats: tuple[int, int, int] = (4, 8, 4)
    size: tuple[int, int] = (112, 112)
    features: int = 512  # embedding size


class ConfigV2(NamedTuple):
    stem_stride: int = 1
    widths: tuple[int, int, int] = (116, 232, 464)
    repeats: tuple[int, int, int] = (4, 8, 4)
    last: int = 1024
    size: tuple[int, int] = (112, 112)
    features: int = 512  # embedding size


def shuffle(x: jax.Array, groups: int) -> jax.Array:
    """Interleaves the channels of `groups` equal groups: [..., C] -> [..., C]."""
    grouped = x.reshape(*x.shape[:-1], groups, x.shape[-1] // groups)
    return grouped.swapaxes(-1, -2).reshape(x.shape)


class UnitV1(nnx.Module):
    """Figure 2b and c: grouped 1×1, shuffle, 3×3 depthwise, grouped 1×1; added or concatenated."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        *,
        groups: int,
        grouped: bool,
        stride: int,
        rngs: nnx.Rngs,
    ):
        narrow, g = outputs // 4, groups if grouped else 1
        grown = outputs if stride == 1 else outputs - inputs
        self.compress = Normed(Conv(inputs, narrow, 1, groups=g, bias=True, rngs=rngs))
        self.depthwise = Normed(
            DepthwiseConv(narrow, 3, stride=stride, padding=1, bias=True, rngs=rngs)
        )
        self.expand = Normed(Conv(narrow, grown, 1, groups=g, bias=True, rngs=rngs))
        self.groups, self.stride = groups, stride

    def __call__(self, x: jax.Array) -> jax.Array:
        y = shuffle(jax.nn.relu(self.compress(x)), self.groups)
        y = self.expand(self.depthwise(y))
        if self.stride == 1:
            return jax.nn.relu(x + y)
        pooled = average_pool(x, 3, stride=self.stride, padding=1)
        return jax.nn.relu(jnp.concatenate([pooled, y], -1))


class ShuffleNetV1(nnx.Module):
    """[B,h,w,3] normalised pixels -> [B,features] embeddings, not normalised."""

    stage2: nnx.List[Any]
    stage3: nnx.List[Any]
    stage4: nnx.List[Any]

    def __init__(self, config: ConfigV1 = ConfigV1(), *, rngs: nnx.Rngs):
        inputs = 24
        self.conv1 = Conv(3, inputs, 3, padding=1, bias=True, rngs=rngs)
        for stage, (outputs, repeats) in enumerate(zip(config.widths, config.repeats), start=2):
            units = []
            for i in range(repeats):
                unit = UnitV1(
                    inputs,
                    outputs,
                    groups=config.groups,
                    grouped=stage > 2 or i > 0,
                    stride=2 if i == 0 else 1,
                    rngs=rngs,
                )
                units.append(unit)
                inputs = outputs
            setattr(self, f"stage{stage}", nnx.List(units))
        grid = (config.size[0] // 16, config.size[1] // 16)
        self.linear7 = DepthwiseConv(inputs, grid, rngs=rngs)
        self.fc = Linear(inputs, config.features, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        x = max_pool(self.conv1(x), 3, stride=2, padding=1)
        for units in (self.stage2, self.stage3, self.stage4):
            for unit in units:
                x = unit(x)
        return self.fc(self.linear7(x)[:, 0, 0])


class BranchV2(nnx.Module):
    """1×1 (if `inputs` come whole), 3×3 depthwise without activation, 1×1."""

    def __init__(self, inputs: int, outputs: int, stride: int, *, first: bool, rngs: nnx.Rngs):
        pointwise = Normed(Conv(inputs, outputs, 1, rngs=rngs)) if first else None
        wide = outputs if first else inputs
        self.first = nnx.data(pointwise)
        self.depthwise = Normed(DepthwiseConv(wide, 3, stride=stride, padding=1, rngs=rngs))
        self.last = Normed(Conv(wide, outputs, 1, rngs=rngs))

    def __call__(self, x: jax.Array) -> jax.Array:
        if self.first is not None:
            x = jax.nn.relu(self.first(x))
        return jax.nn.relu(self.last(self.depthwise(x)))


class UnitV2(nnx.Module):
    """Figure 3c and d: half of the channels pass by (or a second branch), then a shuffle."""

    def __init__(self, inputs: int, outputs: int, stride: int, *, rngs: nnx.Rngs):
        half = outputs // 2
        beside = BranchV2(inputs, half, stride, first=False, rngs=rngs) if stride == 2 else None
        self.branch1 = nnx.data(beside)
        self.branch2 = BranchV2(
            inputs if stride == 2 else half, half, stride, first=True, rngs=rngs
        )

    def __call__(self, x: jax.Array) -> jax.Array:
        if self.branch1 is None:
            left, right = jnp.split(x, 2, -1)
        else:
            left, right = self.branch1(x), x
        return shuffle(jnp.concatenate([left, self.branch2(right)], -1), 2)


class ShuffleNetV2(nnx.Module):
    """[B,h,w,3] normalised pixels -> [B,features] embeddings, not normalised."""

    def __init__(self, config: ConfigV2 = ConfigV2(), *, rngs: nnx.Rngs):
        inputs = 24
        self.conv1 = Normed(Conv(3, inputs, 3, stride=config.stem_stride, padding=1, rngs=rngs))
        units = []
        for outputs, repeats in zip(config.widths, config.repeats):
            for i in range(repeats):
                units.append(UnitV2(inputs, outputs, 2 if i == 0 else 1, rngs=rngs))
                inputs = outputs
        self.units = nnx.List(units)
        self.conv_last = Normed(Conv(inputs, config.last, 1, rngs=rngs))
        step = 16 * config.stem_stride
        grid = (-(-config.size[0] // step), -(-config.size[1] // step))
        self.linear7 = DepthwiseConv(config.last, grid, rngs=rngs)
        self.fc = Linear(config.last, config.features, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        x = max_pool(jax.nn.relu(self.conv1(x)), 3, stride=2, padding=1)
        for unit in self.units:
            x = unit(x)
        x = jax.nn.relu(self.conv_last(x))
        return self.fc(self.linear7(x)[:, 0, 0])


_UNIT_V1, _PATH_V1 = "stage{s}.ShuffleUnit_Stage{s}_{n}", "stage{s}.{n}"


def _biased(source: str, norm: str, path: str, layout: Layout = CONV) -> tuple[Rule, ...]:
    return (
        Rule(f"{source}.weight", f"{path}.layer.kernel", layout),
        Rule(f"{source}.bias", f"{path}.layer.bias"),
        *batch_norm(norm, f"{path}.bn"),
    )


def _grouped(name: str) -> tuple[Rule, ...]:
    source = f"{_UNIT_V1}.g_conv_1x1_{name}"
    return _biased(f"{source}.conv1x1", f"{source}.batch_norm", f"{_PATH_V1}.{name}")


TABLE_V1 = (
    Rule("conv1.weight", "conv1.kernel", CONV),
    Rule("conv1.bias", "conv1.bias"),
    *_grouped("compress"),
    *_biased(
        f"{_UNIT_V1}.depthwise_conv3x3",
        f"{_UNIT_V1}.bn_after_depthwise",
        f"{_PATH_V1}.depthwise",
        DEPTHWISE,
    ),
    *_grouped("expand"),
    Rule("linear7.weight", "linear7.kernel", DEPTHWISE),
    Rule("fc.weight", "fc.kernel", LINEAR),
    Rule("fc.bias", "fc.bias"),
)


def _normed(source: str, index: int, path: str, layout: Layout = CONV) -> tuple[Rule, ...]:
    kernel = Rule(f"{source}.{index}.weight", f"{path}.layer.kernel", layout)
    return (kernel, *batch_norm(f"{source}.{index + 1}", f"{path}.bn"))


# "banch" is how the released code spells it
TABLE_V2 = (
    *_normed("conv1", 0, "conv1"),
    *_normed("features.{n}.banch1", 0, "units.{n}.branch1.depthwise", DEPTHWISE),
    *_normed("features.{n}.banch1", 2, "units.{n}.branch1.last"),
    *_normed("features.{n}.banch2", 0, "units.{n}.branch2.first"),
    *_normed("features.{n}.banch2", 3, "units.{n}.branch2.depthwise", DEPTHWISE),
    *_normed("features.{n}.banch2", 5, "units.{n}.branch2.last"),
    *_normed("conv_last", 0, "conv_last"),
    Rule("linear7.weight", "linear7.kernel", DEPTHWISE),
    Rule("classifier.0.weight", "fc.kernel", LINEAR),
    Rule("classifier.0.bias", "fc.bias"),
)
