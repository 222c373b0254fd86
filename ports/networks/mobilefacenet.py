"""MobileFaceNet (Chen et al., 2018): inverted residuals, PReLU, a global depthwise head.

Two layouts of the one network: that of the widely copied PyTorch code (`conv1`, `dw_conv1`,
`blocks.N.conv.M`, `linear7`, `linear1`; 112×112 or 112×96) and TreB1eN's with its GDC head
(`conv2_dw`, `conv_23`, `conv_3.model.N`, `conv_6_dw`, `linear`). Any embedding size.
"""

from typing import NamedTuple

import jax
from flax import nnx

from ports.convert import CONV, DEPTHWISE, LINEAR_AS_CONV, Rule, batch_norm
from ports.convolutions import Padding
from ports.layers import Conv, DepthwiseConv, Normed, PReLU

# (expansion, features, repeats, first stride), Table 1 of the paper
STAGES = ((2, 64, 5, 2), (4, 128, 1, 2), (2, 128, 6, 1), (4, 128, 1, 2), (2, 128, 2, 1))


class Config(NamedTuple):
    size: tuple[int, int] = (112, 112)
    features: int = 512  # embedding size


class Bottleneck(nnx.Module):
    """1×1 expansion, 3×3 depthwise, 1×1 projection; residual when the shape allows."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        stride: int,
        expansion: int,
        *,
        padding: Padding = 1,
        rngs: nnx.Rngs,
    ):
        wide = inputs * expansion
        self.expand = Normed(Conv(inputs, wide, 1, rngs=rngs))
        self.expand_prelu = PReLU(wide)
        self.depthwise = Normed(DepthwiseConv(wide, 3, stride=stride, padding=padding, rngs=rngs))
        self.depthwise_prelu = PReLU(wide)
        self.project = Normed(Conv(wide, outputs, 1, rngs=rngs))
        self.residual = stride == 1 and inputs == outputs

    def __call__(self, x: jax.Array) -> jax.Array:
        y = self.expand_prelu(self.expand(x))
        y = self.depthwise_prelu(self.depthwise(y))
        y = self.project(y)
        return x + y if self.residual else y


class MobileFaceNet(nnx.Module):
    """[B,h,w,3] normalised pixels -> [B,features] embeddings, not normalised."""

    def __init__(self, config: Config = Config(), *, rngs: nnx.Rngs):
        self.conv1 = Normed(Conv(3, 64, 3, stride=2, padding=1, rngs=rngs))
        self.prelu1 = PReLU(64)
        self.dw_conv1 = Normed(DepthwiseConv(64, 3, padding=1, rngs=rngs))
        self.dw_prelu1 = PReLU(64)
        blocks, inputs = [], 64
        for expansion, outputs, repeats, stride in STAGES:
            for i in range(repeats):
                blocks.append(
                    Bottleneck(inputs, outputs, stride if i == 0 else 1, expansion, rngs=rngs)
                )
                inputs = outputs
        self.blocks = nnx.List(blocks)
        self.conv2 = Normed(Conv(inputs, 512, 1, rngs=rngs))
        self.prelu2 = PReLU(512)
        window = (config.size[0] // 16, config.size[1] // 16)
        self.linear7 = Normed(DepthwiseConv(512, window, rngs=rngs))
        self.linear1 = Normed(Conv(512, config.features, 1, rngs=rngs))

    def __call__(self, x: jax.Array) -> jax.Array:
        x = self.prelu1(self.conv1(x))
        x = self.dw_prelu1(self.dw_conv1(x))
        for block in self.blocks:
            x = block(x)
        x = self.prelu2(self.conv2(x))
        x = self.linear1(self.linear7(x))
        return x[:, 0, 0]


TABLE = (
    Rule("conv1.conv.weight", "conv1.layer.kernel", CONV),
    *batch_norm("conv1.bn", "conv1.bn"),
    Rule("conv1.prelu.weight", "prelu1.slope"),
    Rule("dw_conv1.conv.weight", "dw_conv1.layer.kernel", DEPTHWISE),
    *batch_norm("dw_conv1.bn", "dw_conv1.bn"),
    Rule("dw_conv1.prelu.weight", "dw_prelu1.slope"),
    Rule("blocks.{n}.conv.0.weight", "blocks.{n}.expand.layer.kernel", CONV),
    *batch_norm("blocks.{n}.conv.1", "blocks.{n}.expand.bn"),
    Rule("blocks.{n}.conv.2.weight", "blocks.{n}.expand_prelu.slope"),
    Rule("blocks.{n}.conv.3.weight", "blocks.{n}.depthwise.layer.kernel", DEPTHWISE),
    *batch_norm("blocks.{n}.conv.4", "blocks.{n}.depthwise.bn"),
    Rule("blocks.{n}.conv.5.weight", "blocks.{n}.depthwise_prelu.slope"),
    Rule("blocks.{n}.conv.6.weight", "blocks.{n}.project.layer.kernel", CONV),
    *batch_norm("blocks.{n}.conv.7", "blocks.{n}.project.bn"),
    Rule("conv2.conv.weight", "conv2.layer.kernel", CONV),
    *batch_norm("conv2.bn", "conv2.bn"),
    Rule("conv2.prelu.weight", "prelu2.slope"),
    Rule("linear7.conv.weight", "linear7.layer.kernel", DEPTHWISE),
    *batch_norm("linear7.bn", "linear7.bn"),
    Rule("linear1.conv.weight", "linear1.layer.kernel", CONV),
    *batch_norm("linear1.bn", "linear1.bn"),
)


def _gdc_block(source: str, path: str) -> tuple[Rule, ...]:
    return (
        Rule(f"{source}.conv.conv.weight", f"{path}.expand.layer.kernel", CONV),
        *batch_norm(f"{source}.conv.bn", f"{path}.expand.bn"),
        Rule(f"{source}.conv.prelu.weight", f"{path}.expand_prelu.slope"),
        Rule(f"{source}.conv_dw.conv.weight", f"{path}.depthwise.layer.kernel", DEPTHWISE),
        *batch_norm(f"{source}.conv_dw.bn", f"{path}.depthwise.bn"),
        Rule(f"{source}.conv_dw.prelu.weight", f"{path}.depthwise_prelu.slope"),
        Rule(f"{source}.project.conv.weight", f"{path}.project.layer.kernel", CONV),
        *batch_norm(f"{source}.project.bn", f"{path}.project.bn"),
    )


# TreB1eN's blocks in order: the strided ones have their own names, the residual ones are lists
_GDC_BLOCKS = (
    "conv_23",
    *(f"conv_3.model.{n}" for n in range(4)),
    "conv_34",
    *(f"conv_4.model.{n}" for n in range(6)),
    "conv_45",
    *(f"conv_5.model.{n}" for n in range(2)),
)

GDC_TABLE = (
    Rule("conv1.conv.weight", "conv1.layer.kernel", CONV),
    *batch_norm("conv1.bn", "conv1.bn"),
    Rule("conv1.prelu.weight", "prelu1.slope"),
    Rule("conv2_dw.conv.weight", "dw_conv1.layer.kernel", DEPTHWISE),
    *batch_norm("conv2_dw.bn", "dw_conv1.bn"),
    Rule("conv2_dw.prelu.weight", "dw_prelu1.slope"),
    *(rule for n, name in enumerate(_GDC_BLOCKS) for rule in _gdc_block(name, f"blocks.{n}")),
    Rule("conv_6_sep.conv.weight", "conv2.layer.kernel", CONV),
    *batch_norm("conv_6_sep.bn", "conv2.bn"),
    Rule("conv_6_sep.prelu.weight", "prelu2.slope"),
    Rule("conv_6_dw.conv.weight", "linear7.layer.kernel", DEPTHWISE),
    *batch_norm("conv_6_dw.bn", "linear7.bn"),
    Rule("linear.weight", "linear1.layer.kernel", LINEAR_AS_CONV),
    *batch_norm("bn", "linear1.bn"),
)
