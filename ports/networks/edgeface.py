"""EdgeFace (George et al., 2024): EdgeNeXt (Maaz et al., 2022) with low-rank linear layers, 112×112.

The names are those of the released checkpoints (timm's EdgeNeXt under `model.`). In the variants
named `gamma` every linear layer, the head's too, is the product of two of lower rank.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from ports.convert import CONV, DEPTHWISE, LINEAR, Layout, Rule
from ports.layers import Conv, DepthwiseConv, LayerNorm, Linear, ones

EPSILON = 1e-6


class Config(NamedTuple):
    widths: tuple[int, int, int, int] = (32, 64, 100, 192)
    depths: tuple[int, int, int, int] = (3, 3, 9, 3)
    heads: int = 4
    rank: float | None = 0.6  # gamma; None: full-rank linear layers
    kernels: tuple[int, int, int, int] = (3, 5, 7, 9)
    transposed: tuple[int, int, int, int] = (0, 1, 1, 1)  # last blocks of a stage with attention
    scales: tuple[int, int, int, int] = (2, 2, 3, 4)
    positions: tuple[bool, bool, bool, bool] = (False, True, False, False)
    size: tuple[int, int] = (112, 112)
    features: int = 512  # embedding size


XXS = Config((24, 48, 88, 168), (2, 2, 6, 2), rank=None)
XS_GAMMA_06 = Config()
S_GAMMA_05 = Config((48, 96, 160, 304), heads=8, rank=0.5)
BASE = Config((80, 160, 288, 584), heads=8, rank=None)


class LowRank(nnx.Module):
    """`linear2(linear1(x))`, the first without bias."""

    def __init__(self, features_in: int, features_out: int, ratio: float, *, rngs: nnx.Rngs):
        rank = max(2, int(min(features_in, features_out) * ratio))
        self.linear1 = Linear(features_in, rank, bias=False, rngs=rngs)
        self.linear2 = Linear(rank, features_out, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.linear2(self.linear1(x))


def linear(
    features_in: int, features_out: int, rank: float | None, *, rngs: nnx.Rngs
) -> Linear | LowRank:
    """A linear layer, of lower rank if `rank` is given."""
    if rank is None:
        return Linear(features_in, features_out, rngs=rngs)
    return LowRank(features_in, features_out, rank, rngs=rngs)


class MLP(nnx.Module):
    """Fourfold expansion with GELU."""

    def __init__(self, width: int, rank: float | None, *, rngs: nnx.Rngs):
        self.fc1 = linear(width, 4 * width, rank, rngs=rngs)
        self.fc2 = linear(4 * width, width, rank, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.fc2(jax.nn.gelu(self.fc1(x), approximate=False))


class ConvBlock(nnx.Module):
    """Depthwise convolution, LayerNorm, MLP, scaled by `gamma` and added."""

    def __init__(self, width: int, kernel: int, rank: float | None, *, rngs: nnx.Rngs):
        self.conv_dw = DepthwiseConv(width, kernel, padding=kernel // 2, bias=True, rngs=rngs)
        self.norm = LayerNorm(width, epsilon=EPSILON)
        self.mlp = MLP(width, rank, rngs=rngs)
        self.gamma = nnx.Param(ones(width))

    def __call__(self, x: jax.Array) -> jax.Array:
        return x + self.gamma[...].astype(x.dtype) * self.mlp(self.norm(self.conv_dw(x)))


class FourierPositions(nnx.Module):
    """Sines and cosines of the row and the column, projected: (height, width) -> [h,w,D]."""

    hidden = 32

    def __init__(self, width: int, *, rngs: nnx.Rngs):
        self.token_projection = Conv(2 * self.hidden, width, 1, bias=True, rngs=rngs)

    def __call__(self, height: int, width: int, dtype: jnp.dtype) -> jax.Array:
        wide = jnp.promote_types(dtype, jnp.float32)
        periods = 10000.0 ** (2 * (jnp.arange(self.hidden, dtype=wide) // 2) / self.hidden)

        def waves(count: int) -> jax.Array:
            at = jnp.arange(1, count + 1, dtype=wide)
            angles = (at / (at[-1] + 1e-6) * (2 * math.pi))[:, None] / periods
            pairs = [jnp.sin(angles[:, 0::2]), jnp.cos(angles[:, 1::2])]
            return jnp.stack(pairs, -1).reshape(count, self.hidden)

        rows = jnp.broadcast_to(waves(height)[:, None], (height, width, self.hidden))
        columns = jnp.broadcast_to(waves(width)[None], (height, width, self.hidden))
        code = jnp.concatenate([rows, columns], -1).astype(dtype)
        return self.token_projection(code[None])[0]


class CrossCovariance(nnx.Module):
    """Attention between channels, not tokens: [B,N,D] -> [B,N,D]."""

    def __init__(self, width: int, heads: int, rank: float | None, *, rngs: nnx.Rngs):
        self.temperature = nnx.Param(ones(heads, 1, 1))
        self.qkv = linear(width, 3 * width, rank, rngs=rngs)
        self.proj = linear(width, width, rank, rngs=rngs)
        self.heads = heads

    def __call__(self, x: jax.Array) -> jax.Array:
        batch, tokens, width = x.shape
        qkv = self.qkv(x).reshape(batch, tokens, 3, self.heads, width // self.heads)
        q, k, v = (qkv[:, :, i] for i in range(3))
        logits = jnp.einsum("bnhc,bnhd->bhcd", _unit(q), _unit(k))
        weights = jax.nn.softmax(logits * self.temperature[...].astype(x.dtype))
        y = jnp.einsum("bhcd,bnhd->bnhc", weights, v)
        return self.proj(y.reshape(batch, tokens, width))


def _unit(x: jax.Array) -> jax.Array:
    """Unit length along the tokens [B,N,H,C]; the floor is PyTorch's `normalize`."""
    return x / jnp.maximum(jnp.sqrt(jnp.sum(x * x, 1, keepdims=True)), 1e-12)


class TransposedBlock(nnx.Module):
    """Split depthwise convolutions, then cross-covariance attention and MLP."""

    def __init__(
        self,
        width: int,
        scales: int,
        heads: int,
        rank: float | None,
        *,
        positions: bool,
        rngs: nnx.Rngs,
    ):
        self.split = math.ceil(width / scales)
        self.convs = nnx.List(
            [
                DepthwiseConv(self.split, 3, padding=1, bias=True, rngs=rngs)
                for _ in range(max(1, scales - 1))
            ]
        )
        self.pos_embd = nnx.data(FourierPositions(width, rngs=rngs) if positions else None)
        self.norm_xca = LayerNorm(width, epsilon=EPSILON)
        self.gamma_xca = nnx.Param(ones(width))
        self.xca = CrossCovariance(width, heads, rank, rngs=rngs)
        self.norm = LayerNorm(width, epsilon=EPSILON)
        self.mlp = MLP(width, rank, rngs=rngs)
        self.gamma = nnx.Param(ones(width))

    def __call__(self, x: jax.Array) -> jax.Array:
        shortcut, dtype = x, x.dtype
        batch, height, width, features = x.shape
        pieces = [
            x[..., i : i + self.split] for i in range(0, features, self.split)
        ]  # the last piece may be narrower and passes by
        done, piece = [], pieces[0]
        for i, conv in enumerate(self.convs):
            piece = conv(piece if i == 0 else piece + pieces[i])
            done.append(piece)
        x = jnp.concatenate([*done, pieces[-1]], -1)
        if self.pos_embd is not None:
            x = x + self.pos_embd(height, width, dtype)
        x = x.reshape(batch, height * width, features)
        x = x + self.gamma_xca[...].astype(dtype) * self.xca(self.norm_xca(x))
        x = self.gamma[...].astype(dtype) * self.mlp(self.norm(x))
        return shortcut + x.reshape(shortcut.shape)


class Stage(nnx.Module):
    """A LayerNorm and 2×2 stride-2 convolution (but in the first stage), then blocks."""

    def __init__(self, inputs: int, index: int, config: Config, *, rngs: nnx.Rngs):
        width = config.widths[index]
        self.norm = nnx.data(LayerNorm(inputs, epsilon=EPSILON) if index else None)
        self.downsample = nnx.data(
            Conv(inputs, width, 2, stride=2, bias=True, rngs=rngs) if index else None
        )
        blocks: list[nnx.Module] = []
        for i in range(config.depths[index]):
            if i < config.depths[index] - config.transposed[index]:
                blocks.append(ConvBlock(width, config.kernels[index], config.rank, rngs=rngs))
            else:
                block = TransposedBlock(
                    width,
                    config.scales[index],
                    config.heads,
                    config.rank,
                    positions=config.positions[index],
                    rngs=rngs,
                )
                blocks.append(block)
        self.blocks = nnx.List(blocks)

    def __call__(self, x: jax.Array) -> jax.Array:
        if self.norm is not None and self.downsample is not None:
            x = self.downsample(self.norm(x))
        for block in self.blocks:
            x = block(x)
        return x


class EdgeFace(nnx.Module):
    """[B,h,w,3] normalised pixels -> [B,features] embeddings, not normalised."""

    def __init__(self, config: Config = Config(), *, rngs: nnx.Rngs):
        inputs = config.widths[0]
        self.stem = Conv(3, inputs, 4, stride=4, bias=True, rngs=rngs)
        self.stem_norm = LayerNorm(inputs, epsilon=EPSILON)
        stages = []
        for index, width in enumerate(config.widths):
            stages.append(Stage(inputs, index, config, rngs=rngs))
            inputs = width
        self.stages = nnx.List(stages)
        self.head_norm = LayerNorm(inputs, epsilon=EPSILON)
        self.head = linear(inputs, config.features, config.rank, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        x = self.stem_norm(self.stem(x))
        for stage in self.stages:
            x = stage(x)
        return self.head(self.head_norm(x.mean((1, 2))))


def _norm(source: str, path: str) -> tuple[Rule, ...]:
    return Rule(f"{source}.weight", f"{path}.scale"), Rule(f"{source}.bias", f"{path}.bias")


def _conv(source: str, path: str, layout: Layout = CONV) -> tuple[Rule, ...]:
    return Rule(f"{source}.weight", f"{path}.kernel", layout), Rule(
        f"{source}.bias", f"{path}.bias"
    )


def _linear(source: str, path: str) -> tuple[Rule, ...]:
    """A full-rank layer or the two of a low-rank one; the names tell them apart."""
    return (
        *_conv(source, path, LINEAR),
        *_conv(f"{source}.linear{{r}}", f"{path}.linear{{r}}", LINEAR),
    )


_BLOCK, _FROM = "stages.{s}.blocks.{n}", "model.stages.{s}.blocks.{n}"

TABLE = (
    *_conv("model.stem.0", "stem"),
    *_norm("model.stem.1", "stem_norm"),
    *_norm("model.stages.{s}.downsample.0", "stages.{s}.norm"),
    *_conv("model.stages.{s}.downsample.1", "stages.{s}.downsample"),
    *_conv(f"{_FROM}.conv_dw", f"{_BLOCK}.conv_dw", DEPTHWISE),
    *_conv(f"{_FROM}.convs.{{c}}", f"{_BLOCK}.convs.{{c}}", DEPTHWISE),
    *_norm(f"{_FROM}.norm", f"{_BLOCK}.norm"),
    *_norm(f"{_FROM}.norm_xca", f"{_BLOCK}.norm_xca"),
    *_linear(f"{_FROM}.mlp.fc{{k}}", f"{_BLOCK}.mlp.fc{{k}}"),
    *_linear(f"{_FROM}.xca.qkv", f"{_BLOCK}.xca.qkv"),
    *_linear(f"{_FROM}.xca.proj", f"{_BLOCK}.xca.proj"),
    Rule(f"{_FROM}.xca.temperature", f"{_BLOCK}.xca.temperature"),
    Rule(f"{_FROM}.gamma", f"{_BLOCK}.gamma"),
    Rule(f"{_FROM}.gamma_xca", f"{_BLOCK}.gamma_xca"),
    *_conv(f"{_FROM}.pos_embd.token_projection", f"{_BLOCK}.pos_embd.token_projection"),
    *_norm("model.head.norm", "head_norm"),
    *_linear("model.head.fc", "head"),
)
