"""FaceRes (Savchenko, HSE_FaceRec_tf): MobileNetV1 with ReLU6, 224×224 BGR, 1024-d (TensorFlow.js).

The embedding is the pooled last layer; the age and gender heads of the file are left out.
TensorFlow pads strided convolutions at the bottom and right alone.
"""

import jax
import jax.numpy as jnp
from flax import nnx

from ports.convert import Layout, Rule
from ports.layers import Affine, Conv, DepthwiseConv, Normed
from ports.networks.mobilenet import BLOCKS_V1

SAME_STRIDED = ((0, 1), (0, 1))  # 3×3 with stride 2 on an even size


def _relu6(x: jax.Array) -> jax.Array:
    return jnp.clip(x, 0, 6)


class Separable(nnx.Module):
    """3×3 depthwise and 1×1 convolution, each with ReLU6."""

    def __init__(self, inputs: int, outputs: int, stride: int, *, rngs: nnx.Rngs):
        padding = 1 if stride == 1 else SAME_STRIDED
        layer = DepthwiseConv(inputs, 3, stride=stride, padding=padding, rngs=rngs)
        self.depthwise = Normed(layer, norm=Affine(inputs))
        self.pointwise = Conv(inputs, outputs, 1, bias=True, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        return _relu6(self.pointwise(_relu6(self.depthwise(x))))


class FaceRes(nnx.Module):
    """[B,224,224,3] BGR pixel levels less their mean -> [B,1024] embeddings, not normalised."""

    def __init__(self, *, rngs: nnx.Rngs):
        self.stem = Conv(3, 32, 3, stride=2, padding=SAME_STRIDED, bias=True, rngs=rngs)
        blocks, inputs = [], 32
        for outputs, stride in BLOCKS_V1:
            blocks.append(Separable(inputs, outputs, stride, rngs=rngs))
            inputs = outputs
        self.blocks = nnx.List(blocks)

    def __call__(self, x: jax.Array) -> jax.Array:
        x = _relu6(self.stem(x))
        for block in self.blocks:
            x = block(x)
        return x.mean((1, 2))


DEPTHWISE = Layout(lambda a: a.squeeze(-1), lambda a: a[..., None])


def _block(n: int) -> tuple[Rule, ...]:
    path = f"blocks.{n - 1}"
    return (
        Rule(f"conv_dw_{n}/depthwise_kernel", f"{path}.depthwise.layer.kernel", DEPTHWISE),
        Rule(f"conv_dw_{n}_bn/batchnorm_1/mul", f"{path}.depthwise.bn.scale"),
        Rule(f"conv_dw_{n}_bn/batchnorm_1/sub", f"{path}.depthwise.bn.bias"),
        Rule(f"conv_pw_{n}/convolution/merged_input", f"{path}.pointwise.kernel"),
        Rule(f"conv_pw_{n}_bn/batchnorm_1/sub", f"{path}.pointwise.bias"),
    )


TABLE = (
    Rule("conv1/convolution/merged_input", "stem.kernel"),
    Rule("conv1_bn/batchnorm_1/sub", "stem.bias"),
    *(rule for n in range(1, len(BLOCKS_V1) + 1) for rule in _block(n)),
)
IGNORED = (
    "(age_pred|gender_pred|feats)/(kernel|bias)",
    r"\w+_relu/(Cast|Const_1)",  # the 6 and the 0 of ReLU6
    "global_pooling/Mean/reduction_indices",
)
