"""SFace (Zhong et al., 2021) as OpenCV Zoo publishes it: MobileNetV1 with PReLU, 112×112, 128-d.

The names are those of the ONNX file (`conv_N_dw_conv2d_weight`, `pre_fc1_weight`). Its graph starts
with its own normalisation, (x - 127.5) / 128, which is left to the caller here as in every port.
"""

import jax
from flax import nnx

from ports.convert import CONV, DEPTHWISE, PER_CHANNEL, Layout, Rule, flattened_linear
from ports.layers import BatchNorm, Conv, DepthwiseConv, Linear, Normed, PReLU
from ports.networks.mobilenet import BLOCKS_V1

CONV_EPSILON, HEAD_EPSILON = 1e-3, 2e-5


class Separable(nnx.Module):
    """3×3 depthwise and 1×1 convolution, each with BatchNorm and PReLU."""

    def __init__(self, inputs: int, outputs: int, stride: int, *, rngs: nnx.Rngs):
        depthwise = DepthwiseConv(inputs, 3, stride=stride, padding=1, rngs=rngs)
        self.depthwise = Normed(depthwise, epsilon=CONV_EPSILON)
        self.depthwise_prelu = PReLU(inputs)
        self.pointwise = Normed(Conv(inputs, outputs, 1, rngs=rngs), epsilon=CONV_EPSILON)
        self.pointwise_prelu = PReLU(outputs)

    def __call__(self, x: jax.Array) -> jax.Array:
        x = self.depthwise_prelu(self.depthwise(x))
        return self.pointwise_prelu(self.pointwise(x))


class SFace(nnx.Module):
    """[B,112,112,3] normalised RGB pixels -> [B,128] embeddings, not normalised."""

    def __init__(self, *, rngs: nnx.Rngs):
        self.stem = Normed(Conv(3, 32, 3, padding=1, rngs=rngs), epsilon=CONV_EPSILON)
        self.stem_prelu = PReLU(32)
        blocks, inputs = [], 32
        for outputs, stride in BLOCKS_V1:
            blocks.append(Separable(inputs, outputs, stride, rngs=rngs))
            inputs = outputs
        self.blocks = nnx.List(blocks)
        self.head_bn = BatchNorm(inputs, epsilon=HEAD_EPSILON)
        self.head = Normed(Linear(7 * 7 * inputs, 128, rngs=rngs), epsilon=HEAD_EPSILON)

    def __call__(self, x: jax.Array) -> jax.Array:
        x = self.stem_prelu(self.stem(x))
        for block in self.blocks:
            x = block(x)
        x = self.head_bn(x)
        return self.head(x.reshape(x.shape[0], -1))


def _batch_norm(source: str, path: str) -> tuple[Rule, ...]:
    names = (("gamma", "scale"), ("beta", "bias"), ("moving_mean", "mean"), ("moving_var", "var"))
    return tuple(Rule(f"{source}_{s}", f"{path}.{p}") for s, p in names)


def _conv(source: str, path: str, layout: Layout) -> tuple[Rule, ...]:
    return (
        Rule(f"{source}_conv2d_weight", f"{path}.layer.kernel", layout),
        *_batch_norm(f"{source}_batchnorm", f"{path}.bn"),
        Rule(f"{source}_relu_gamma", f"{path}_prelu.slope", PER_CHANNEL),
    )


TABLE = (
    *_conv("conv_1", "stem", CONV),
    *(
        rule
        for n in range(len(BLOCKS_V1))
        for rule in (
            *_conv(f"conv_{n + 2}_dw", f"blocks.{n}.depthwise", DEPTHWISE),
            *_conv(f"conv_{n + 2}", f"blocks.{n}.pointwise", CONV),
        )
    ),
    *_batch_norm("bn1", "head_bn"),
    Rule("pre_fc1_weight", "head.layer.kernel", flattened_linear(1024, 7, 7)),
    Rule("pre_fc1_bias", "head.layer.bias"),
    *_batch_norm("fc1", "head.bn"),
)
IGNORED = ("scalar_op[12]", "_v_265")  # the normalisation and a dropout flag
