"""Vision transformers for faces (An et al., 2022) in the layout of insightface's arcface_torch.

`vit_t/s/b`: 9×9 patches of 112×112 without a class token, ReLU6 in the MLP, and a head over all
tokens (`feature`). `mask_token` exists for training only.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from ports.convert import CONV, LINEAR, Rule, batch_norm
from ports.layers import Conv, LayerNorm, Linear, Normed, zeros

HEAD_EPSILON = 2e-5


class Config(NamedTuple):
    width: int = 512
    depth: int = 12
    heads: int = 8
    patch: int = 9
    size: tuple[int, int] = (112, 112)
    features: int = 512  # embedding size


class Attention(nnx.Module):
    """Multi-head self-attention over tokens: [B,N,D] -> [B,N,D]."""

    def __init__(self, width: int, heads: int, *, rngs: nnx.Rngs):
        self.qkv = Linear(width, 3 * width, bias=False, rngs=rngs)
        self.proj = Linear(width, width, rngs=rngs)
        self.heads = heads

    def __call__(self, x: jax.Array) -> jax.Array:
        batch, tokens, width = x.shape
        qkv = self.qkv(x).reshape(batch, tokens, 3, self.heads, width // self.heads)
        q, k, v = (qkv[:, :, i] for i in range(3))
        logits = jnp.einsum("bnhd,bmhd->bhnm", q, k) * (width // self.heads) ** -0.5
        y = jnp.einsum("bhnm,bmhd->bnhd", jax.nn.softmax(logits), v)
        return self.proj(y.reshape(batch, tokens, width))


class Block(nnx.Module):
    """Attention and a ReLU6 MLP, each after a LayerNorm and added to its input."""

    def __init__(self, width: int, heads: int, *, rngs: nnx.Rngs):
        self.norm1 = LayerNorm(width)
        self.attn = Attention(width, heads, rngs=rngs)
        self.norm2 = LayerNorm(width)
        self.fc1 = Linear(width, 4 * width, rngs=rngs)
        self.fc2 = Linear(4 * width, width, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        x = x + self.attn(self.norm1(x))
        return x + self.fc2(jax.nn.relu6(self.fc1(self.norm2(x))))


class ViT(nnx.Module):
    """[B,h,w,3] normalised pixels -> [B,features] embeddings, not normalised."""

    def __init__(self, config: Config = Config(), *, rngs: nnx.Rngs):
        width, patch = config.width, config.patch
        tokens = (config.size[0] // patch) * (config.size[1] // patch)
        self.patches = Conv(3, width, patch, stride=patch, bias=True, rngs=rngs)
        self.positions = nnx.Param(zeros(1, tokens, width))
        self.blocks = nnx.List([Block(width, config.heads, rngs=rngs) for _ in range(config.depth)])
        self.norm = LayerNorm(width)
        first = Linear(tokens * width, width, bias=False, rngs=rngs)
        last = Linear(width, config.features, bias=False, rngs=rngs)
        self.head1 = Normed(first, epsilon=HEAD_EPSILON)
        self.head2 = Normed(last, epsilon=HEAD_EPSILON)

    def __call__(self, x: jax.Array) -> jax.Array:
        x = self.patches(x)
        x = x.reshape(x.shape[0], -1, x.shape[-1]) + self.positions[...].astype(x.dtype)
        for block in self.blocks:
            x = block(x)
        return self.head2(self.head1(self.norm(x).reshape(x.shape[0], -1)))


def _norm(source: str, path: str) -> tuple[Rule, ...]:
    return Rule(f"{source}.weight", f"{path}.scale"), Rule(f"{source}.bias", f"{path}.bias")


def _linear(source: str, path: str) -> tuple[Rule, ...]:
    return Rule(f"{source}.weight", f"{path}.kernel", LINEAR), Rule(
        f"{source}.bias", f"{path}.bias"
    )


TABLE = (
    Rule("patch_embed.proj.weight", "patches.kernel", CONV),
    Rule("patch_embed.proj.bias", "patches.bias"),
    Rule("pos_embed", "positions"),
    *_norm("blocks.{n}.norm{k}", "blocks.{n}.norm{k}"),
    *_linear("blocks.{n}.attn.{l}", "blocks.{n}.attn.{l}"),
    *_linear("blocks.{n}.mlp.fc{k}", "blocks.{n}.fc{k}"),
    *_norm("norm", "norm"),
    Rule("feature.0.weight", "head1.layer.kernel", LINEAR),  # tokens are flattened before channels
    *batch_norm("feature.1", "head1.bn"),
    Rule("feature.2.weight", "head2.layer.kernel", LINEAR),
    *batch_norm("feature.3", "head2.bn"),
)
