"""The one table of networks: a name -> how to build it, its weight table and its usual input."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
from flax import nnx

from ports import dlib_resnet, expo, faceres, frfeat, mobilefacenet, sface
from ports.convert import Rule


class Architecture(NamedTuple):
    """A network of a fixed variant, without weights.

    Attributes:
      build: `(*, rngs) -> module`, [B,h,w,3] normalised pixels -> [B,features].
      table: source names to parameters.
      size: crop (height, width).
      features: embedding size.
      mean, scale: the usual normalisation, `(pixel level - mean) * scale`.
      channels: "RGB" or "BGR".
      ignored: regular expressions of source tensors that are not needed.
    """

    build: Callable[..., nnx.Module]
    table: tuple[Rule, ...]
    size: tuple[int, int]
    features: int
    mean: tuple[float, float, float] = (127.5, 127.5, 127.5)
    scale: float = 1 / 128
    channels: str = "RGB"
    ignored: tuple[str, ...] = ()


def _mobilefacenet(height: int, width: int, features: int) -> Architecture:
    config = mobilefacenet.Config((height, width), features)
    build = partial(mobilefacenet.MobileFaceNet, config)
    return Architecture(build, mobilefacenet.TABLE, config.size, features)


ARCHITECTURES: dict[str, Architecture] = {
    "sface": Architecture(sface.SFace, sface.TABLE, (112, 112), 128, ignored=sface.IGNORED),
    "dlib_resnet29": Architecture(
        *(dlib_resnet.DlibResNet, dlib_resnet.TABLE, (150, 150), 128),
        mean=(122.782, 117.001, 104.298),
        scale=1 / 256,
    ),
    "mobilefacenet": _mobilefacenet(112, 112, 512),
    "mobilefacenet_112x112_128": _mobilefacenet(112, 112, 128),
    "mobilefacenet_112x96_128": _mobilefacenet(112, 96, 128),
    "frfeat": Architecture(
        *(frfeat.frfeat, frfeat.TABLE, (112, 112), 512),
        mean=(127.0, 127.0, 127.0),
        ignored=frfeat.IGNORED,
    ),
    "expo": Architecture(expo.Expo, expo.TABLE, (112, 112), 192, ignored=expo.IGNORED),
    "faceres": Architecture(
        *(faceres.FaceRes, faceres.TABLE, (224, 224), 1024),
        mean=(91.4953, 103.8827, 131.0912),
        scale=1.0,
        channels="BGR",
        ignored=faceres.IGNORED,
    ),
}


def abstract(name: str) -> nnx.Module:
    """The network with shapes only, for `convert` or a restore.

    Raises:
      ValueError: an unknown name; the message lists the known ones.
    """
    if name not in ARCHITECTURES:
        raise ValueError(f"there is no network {name!r}; known: {', '.join(ARCHITECTURES)}")
    return nnx.eval_shape(lambda: ARCHITECTURES[name].build(rngs=nnx.Rngs(jax.random.key(0))))
