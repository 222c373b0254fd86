"""The one table of networks: a name -> how to build it, its weight table and its usual input."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

from flax import nnx

from ports.convert import Rule, Tensors, mismatches, prefixed, unknown_names
from ports.layers import UNFILLED
from ports.networks import (
    dlib_resnet,
    edgeface,
    expo,
    faceres,
    frfeat,
    inception_resnet,
    ir,
    iresnet,
    mobilefacenet,
    mobilenet,
    resnet50_face,
    sface,
    shufflenet,
    sphere,
    vit,
)
from tipim_jax.errors import UserError


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


def _family(
    module: Callable[..., nnx.Module], config: Any, table: tuple[Rule, ...], **changes: Any
) -> Architecture:
    """A variant of a module built from a config that knows its `size` and `features`."""
    return Architecture(partial(module, config), table, config.size, config.features, **changes)


def _ir(depth: int, squeeze_excitation: bool) -> Architecture:
    config = ir.Config(ir.BLOCKS[depth], squeeze_excitation)
    return _family(ir.IR, config, ir.table(config), scale=1 / 127.5)


def _adaface(depth: int) -> Architecture:
    # released as Lightning checkpoints: `model.` before the names, the loss's `head` beside
    config = ir.Config(ir.BLOCKS[depth], adaface=True)
    table = prefixed(ir.table(config), "model.")
    ignored = (r"head\..*",)
    return _family(ir.IR, config, table, scale=1 / 127.5, channels="BGR", ignored=ignored)


def _iresnet(depth: int) -> Architecture:
    config = iresnet.Config(ir.BLOCKS[depth])
    return _family(iresnet.IResNet, config, iresnet.table(config), scale=1 / 127.5)


def _mobilefacenet(
    height: int,
    width: int,
    features: int,
    table: tuple[Rule, ...] = mobilefacenet.TABLE,
    **changes: Any,
) -> Architecture:
    config = mobilefacenet.Config((height, width), features)
    return _family(mobilefacenet.MobileFaceNet, config, table, **changes)


def _sphere(config: sphere.Config, **changes: Any) -> Architecture:
    return _family(sphere.Sphere, config, sphere.table(config), **changes)


def _mobilenet_v1(stem_stride: int) -> Architecture:
    config = mobilenet.ConfigV1(stem_stride)
    return _family(mobilenet.MobileNetV1, config, mobilenet.TABLE_V1, channels="BGR")


def _mobilenet_v2(stem_stride: int) -> Architecture:
    config = mobilenet.ConfigV2(stem_stride)
    return _family(mobilenet.MobileNetV2, config, mobilenet.table_v2(config), channels="BGR")


def _shufflenet_v2(stem_stride: int) -> Architecture:
    config = shufflenet.ConfigV2(stem_stride)
    return _family(shufflenet.ShuffleNetV2, config, shufflenet.TABLE_V2, channels="BGR")


def _vit(width: int, depth: int) -> Architecture:
    ignored = ("mask_token",)
    return _family(vit.ViT, vit.Config(width, depth), vit.TABLE, scale=1 / 127.5, ignored=ignored)


def _edgeface(config: edgeface.Config) -> Architecture:
    return _family(edgeface.EdgeFace, config, edgeface.TABLE, scale=1 / 127.5)


ARCHITECTURES: dict[str, Architecture] = {
    "ir50": _ir(50, False),
    "ir100": _ir(100, False),
    "ir152": _ir(152, False),
    "irse50": _ir(50, True),
    "irse100": _ir(100, True),
    "irse152": _ir(152, True),
    "adaface_ir18": _adaface(18),
    "adaface_ir50": _adaface(50),
    "adaface_ir101": _adaface(100),  # its authors' name
    "iresnet18": _iresnet(18),
    "iresnet34": _iresnet(34),
    "iresnet50": _iresnet(50),
    "iresnet100": _iresnet(100),
    "iresnet200": _iresnet(200),
    "mobilefacenet": _mobilefacenet(112, 112, 512, channels="BGR"),
    "mobilefacenet_112x112_128": _mobilefacenet(112, 112, 128),
    "mobilefacenet_112x96_128": _mobilefacenet(112, 96, 128),
    "mobilefacenet_gdc": _mobilefacenet(112, 112, 512, mobilefacenet.GDC_TABLE, scale=1 / 127.5),
    "sphere20": _sphere(sphere.Config(), channels="BGR", ignored=(r"fc6\.weight",)),
    "sphere20_cosface": _sphere(sphere.Config(cosface=True)),
    "resnet50_face": _family(
        resnet50_face.ResNetFace,
        resnet50_face.Config(),
        resnet50_face.table(),
        channels="BGR",
    ),
    "inception_resnet_v1": _family(
        inception_resnet.InceptionResnetV1,
        inception_resnet.Config(),
        inception_resnet.TABLE,
        ignored=(r"logits\..*",),
    ),
    "mobilenet_v1": _mobilenet_v1(2),
    "mobilenet_v1_stride1": _mobilenet_v1(1),
    "mobilenet_v2": _mobilenet_v2(2),
    "mobilenet_v2_stride1": _mobilenet_v2(1),
    "shufflenet_v1": _family(
        shufflenet.ShuffleNetV1, shufflenet.ConfigV1(), shufflenet.TABLE_V1, channels="BGR"
    ),
    "shufflenet_v2": _shufflenet_v2(2),
    "shufflenet_v2_stride1": _shufflenet_v2(1),
    "vit_t": _vit(256, 12),
    "vit_s": _vit(512, 12),
    "vit_b": _vit(512, 24),
    "edgeface_xxs": _edgeface(edgeface.XXS),
    "edgeface_xs_gamma_06": _edgeface(edgeface.XS_GAMMA_06),
    "edgeface_s_gamma_05": _edgeface(edgeface.S_GAMMA_05),
    "edgeface_base": _edgeface(edgeface.BASE),
    "sface": Architecture(sface.SFace, sface.TABLE, (112, 112), 128, ignored=sface.IGNORED),
    "dlib_resnet29": Architecture(
        dlib_resnet.DlibResNet,
        dlib_resnet.TABLE,
        (150, 150),
        128,
        mean=(122.782, 117.001, 104.298),
        scale=1 / 256,
    ),
    "frfeat": Architecture(
        frfeat.frfeat,
        frfeat.TABLE,
        (112, 112),
        512,
        mean=(127.0, 127.0, 127.0),
        ignored=frfeat.IGNORED,
    ),
    "expo": Architecture(expo.Expo, expo.TABLE, (112, 112), 192, ignored=expo.IGNORED),
    "faceres": Architecture(
        faceres.FaceRes,
        faceres.TABLE,
        (224, 224),
        1024,
        mean=(91.4953, 103.8827, 131.0912),
        scale=1.0,
        channels="BGR",
        ignored=faceres.IGNORED,
    ),
}


def abstract(name: str) -> nnx.Module:
    """The network before it is filled, for `convert` or a restore: only shapes mean something.

    Raises:
      UserError: an unknown name; the message lists the known ones.
    """
    if name not in ARCHITECTURES:
        raise UserError(f"there is no network {name!r}; known: {', '.join(ARCHITECTURES)}")
    return abstract_of(ARCHITECTURES[name])


def abstract_of(architecture: Architecture) -> nnx.Module:
    """The network of an architecture that need not be in the table, before it is filled."""
    return architecture.build(rngs=UNFILLED)


class Recognised(NamedTuple):
    """The network that some tensors are of, and how that is known."""

    name: str
    reason: str


def recognise(tensors: Tensors) -> Recognised:
    """The one network whose weight table takes all of `tensors` by name and shape.

    Raises:
      UserError: no network fits (the message says how the nearest differs), or several do.
    """
    strangers = {
        name: unknown_names(tensors, known.table, ignore=known.ignored)
        for name, known in ARCHITECTURES.items()
    }
    fewest = min(len(names) for names in strangers.values())
    # Only networks that know the most names are built; of these the shapes decide.
    problems = {
        name: mismatches(tensors, known.table, abstract(name), ignore=known.ignored)
        for name, known in ARCHITECTURES.items()
        if len(strangers[name]) == fewest < len(tensors)
    }
    fitting = [name for name, found in problems.items() if not found]
    if len(fitting) > 1:
        raise UserError(
            f"these weights fit several networks, {', '.join(fitting)}; say which one with --arch"
        )
    if fitting:
        name = fitting[0]
        reason = f"all {len(tensors)} tensors fit the weight table of {name} by name and shape"
        return Recognised(name, reason)
    if not problems:
        raise UserError(
            f"these weights are of no known network: none of their {len(tensors)} names is known "
            f"(the first is {next(iter(tensors), 'absent')}); known: {', '.join(ARCHITECTURES)}"
        )
    nearest = min(problems, key=lambda name: len(problems[name]))
    raise UserError(
        f"these weights are of no known network; the nearest is {nearest}, "
        f"with {len(problems[nearest])} mismatches, such as: {'; '.join(problems[nearest][:3])}"
    )
