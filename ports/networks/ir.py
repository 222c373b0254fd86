"""IR and IR-SE networks (Deng et al., ArcFace, 2019) in the face.evoLVe / TreB1eN layout.

`input_layer`, `body.N.res_layer`, `output_layer`. AdaFace (Kim et al., 2022) shares it with one more
BatchNorm per unit and no learned scale in the last one.
"""

from typing import NamedTuple

import jax
from flax import nnx

from ports.convert import CONV, POINTWISE, Rule, batch_norm, flattened_linear
from ports.layers import BatchNorm, Conv, Linear, Normed, PReLU

BLOCKS = {
    18: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
    50: (3, 4, 14, 3),
    100: (3, 13, 30, 3),
    152: (3, 8, 36, 3),
    200: (6, 26, 60, 6),
}


class Config(NamedTuple):
    blocks: tuple[int, int, int, int] = BLOCKS[50]
    squeeze_excitation: bool = False
    adaface: bool = False
    size: tuple[int, int] = (112, 112)
    widths: tuple[int, int, int, int] = (64, 128, 256, 512)
    features: int = 512  # embedding size


class SqueezeExcitation(nnx.Module):
    """Channels weighted by a two-layer function of their means (Hu et al., 2018)."""

    def __init__(self, features: int, *, reduction: int = 16, rngs: nnx.Rngs):
        self.squeeze = Linear(features, features // reduction, bias=False, rngs=rngs)
        self.excite = Linear(features // reduction, features, bias=False, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        weights = self.excite(jax.nn.relu(self.squeeze(x.mean((1, 2)))))
        return x * jax.nn.sigmoid(weights)[:, None, None]


class Unit(nnx.Module):
    """BatchNorm, 3×3 convolution, PReLU, strided 3×3 convolution; a projected shortcut if asked.

    `inner_norm` puts a BatchNorm after the first convolution too.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        stride: int,
        *,
        project: bool,
        inner_norm: bool,
        squeeze_excitation: bool = False,
        rngs: nnx.Rngs,
    ):
        self.bn = BatchNorm(inputs)
        conv = Conv(inputs, outputs, 3, padding=1, rngs=rngs)
        self.conv1 = Normed(conv) if inner_norm else conv
        self.prelu = PReLU(outputs)
        self.conv2 = Normed(Conv(outputs, outputs, 3, stride=stride, padding=1, rngs=rngs))
        self.se = nnx.data(SqueezeExcitation(outputs, rngs=rngs) if squeeze_excitation else None)
        shortcut = Normed(Conv(inputs, outputs, 1, stride=stride, rngs=rngs)) if project else None
        self.shortcut = nnx.data(shortcut)
        self.stride = stride

    def __call__(self, x: jax.Array) -> jax.Array:
        y = self.conv2(self.prelu(self.conv1(self.bn(x))))
        if self.se is not None:
            y = self.se(y)
        if self.shortcut is not None:
            return y + self.shortcut(x)
        return y + x[:, :: self.stride, :: self.stride]


class IR(nnx.Module):
    """[B,h,w,3] normalised pixels -> [B,features] embeddings, not normalised."""

    def __init__(self, config: Config = Config(), *, rngs: nnx.Rngs):
        inputs = config.widths[0]
        self.stem = Normed(Conv(3, inputs, 3, padding=1, rngs=rngs))
        self.stem_prelu = PReLU(inputs)
        body = []
        for outputs, repeats in zip(config.widths, config.blocks):
            for i in range(repeats):
                unit = Unit(
                    inputs,
                    outputs,
                    2 if i == 0 else 1,
                    project=inputs != outputs,
                    inner_norm=config.adaface,
                    squeeze_excitation=config.squeeze_excitation,
                    rngs=rngs,
                )
                body.append(unit)
                inputs = outputs
        self.body = nnx.List(body)
        self.head_bn = BatchNorm(inputs)
        height, width = _grid(config)
        linear = Linear(height * width * inputs, config.features, rngs=rngs)
        self.head = Normed(linear, norm=BatchNorm(config.features, learned=not config.adaface))

    def __call__(self, x: jax.Array) -> jax.Array:
        x = self.stem_prelu(self.stem(x))
        for unit in self.body:
            x = unit(x)
        return self.head(self.head_bn(x).reshape(x.shape[0], -1))


def _grid(config: Config) -> tuple[int, int]:
    return config.size[0] // 16, config.size[1] // 16


def table(config: Config = Config()) -> tuple[Rule, ...]:
    """The weight table of this variant."""
    unit, source = "body.{n}", "body.{n}.res_layer"
    if config.adaface:
        convolutions = (
            Rule(f"{source}.1.weight", f"{unit}.conv1.layer.kernel", CONV),
            *batch_norm(f"{source}.2", f"{unit}.conv1.bn"),
            Rule(f"{source}.3.weight", f"{unit}.prelu.slope"),
            Rule(f"{source}.4.weight", f"{unit}.conv2.layer.kernel", CONV),
            *batch_norm(f"{source}.5", f"{unit}.conv2.bn"),
        )
    else:
        convolutions = (
            Rule(f"{source}.1.weight", f"{unit}.conv1.kernel", CONV),
            Rule(f"{source}.2.weight", f"{unit}.prelu.slope"),
            Rule(f"{source}.3.weight", f"{unit}.conv2.layer.kernel", CONV),
            *batch_norm(f"{source}.4", f"{unit}.conv2.bn"),
        )
    return (
        Rule("input_layer.0.weight", "stem.layer.kernel", CONV),
        *batch_norm("input_layer.1", "stem.bn"),
        Rule("input_layer.2.weight", "stem_prelu.slope"),
        *batch_norm(f"{source}.0", f"{unit}.bn"),
        *convolutions,
        Rule(f"{source}.5.fc1.weight", f"{unit}.se.squeeze.kernel", POINTWISE),
        Rule(f"{source}.5.fc2.weight", f"{unit}.se.excite.kernel", POINTWISE),
        Rule(f"{unit}.shortcut_layer.0.weight", f"{unit}.shortcut.layer.kernel", CONV),
        *batch_norm(f"{unit}.shortcut_layer.1", f"{unit}.shortcut.bn"),
        *batch_norm("output_layer.0", "head_bn"),
        Rule(
            "output_layer.3.weight",
            "head.layer.kernel",
            flattened_linear(config.widths[-1], *_grid(config)),
        ),
        Rule("output_layer.3.bias", "head.layer.bias"),
        *batch_norm("output_layer.4", "head.bn"),
    )
