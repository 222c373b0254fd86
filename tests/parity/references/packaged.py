"""Networks that a PyTorch package has: frbench (IR-SE, iResNet, ResNet), facenet-pytorch and timm.

pip install --no-deps facenet-pytorch==2.6.0 frbench==1.1.3 timm==1.0.31
"""

import contextlib
import importlib
import importlib.util
import sys
import types
from collections.abc import Callable, Iterator

import torch
from torch import nn

from experiments.pytorch.networks import Reference


@contextlib.contextmanager
def _without_init(*packages: str) -> Iterator[None]:
    """Lets submodules be imported although their packages' own __init__ would not run here.

    frbench, facenet-pytorch and timm import torchvision at the top, whose PyPI wheel belongs to
    another build of torch; the networks themselves need none of it.
    """
    stubs = ("torchvision", "torchvision.ops", "torchvision.ops.misc")
    before = dict(sys.modules)
    try:
        for name in stubs:
            sys.modules[name] = types.ModuleType(name)
        vars(sys.modules["torchvision.ops.misc"])["FrozenBatchNorm2d"] = nn.BatchNorm2d
        for name in packages:
            parent, _, child = name.rpartition(".")
            module = types.ModuleType(name)
            if parent:
                module.__path__ = [f"{path}/{child}" for path in sys.modules[parent].__path__]
            else:
                spec = importlib.util.find_spec(name)
                if spec is None:
                    raise ModuleNotFoundError(f"No module named {name!r}", name=name)
                module.__path__ = list(spec.submodule_search_locations or ())
            sys.modules[name] = module
        yield
    finally:
        added = set(sys.modules) - set(before)
        for name in added:
            if name.split(".")[0] in {"torchvision", *(p.split(".")[0] for p in packages)}:
                del sys.modules[name]


def _frbench(module: str):
    with _without_init("frbench", "frbench.backbones"):
        return importlib.import_module(f"frbench.backbones.{module}")


def _timm(module: str):
    with _without_init("timm", "timm.data", "timm.models"):
        vars(sys.modules["timm"])["__version__"] = "1.0.31"
        constants = importlib.import_module("timm.data.constants")
        vars(sys.modules["timm.data"]).update(vars(constants))
        return importlib.import_module(f"timm.models.{module}")


def _renamer(*prefixes: tuple[str, str]) -> Callable[[str], str]:
    def released(name: str) -> str:
        for mine, theirs in prefixes:
            if name.startswith(mine):
                return theirs + name[len(mine) :]
        return name

    return released


_IR_HEAD = _renamer(("bn2.", "output_layer.0."), ("fc.", "output_layer.3."),
                    ("features.", "output_layer.4."))  # fmt: skip


def ir(depth: int, *, squeeze_excitation: bool = False, adaface: bool = False) -> Reference:
    """frbench's IR-SE; without its SE modules it is IR, with two changes more it is AdaFace's."""
    irse = _frbench("irse")
    with torch.device("meta"):  # the weights come later
        return _ir(irse.IR_SE(depth), squeeze_excitation, adaface)


def _ir(module: nn.Module, squeeze_excitation: bool, adaface: bool) -> Reference:
    for unit in module.body:
        layers = list(unit.res_layer)
        if not squeeze_excitation:
            layers = layers[:5]
        if adaface:
            layers.insert(2, nn.BatchNorm2d(layers[1].out_channels))
        unit.res_layer = nn.Sequential(*layers)
    if adaface:
        module.features = nn.BatchNorm1d(512, affine=False)
    return Reference(module, _IR_HEAD)


def iresnet(depth: int) -> Reference:
    """frbench's IR, which is iResNet under other names of the stem and the head."""
    released = _renamer(("input_layer.0.", "conv1."), ("input_layer.1.", "bn1."),
                        ("input_layer.2.", "prelu."), ("bn_o1.", "bn2."),
                        ("bn_o2.", "features."))  # fmt: skip
    build = getattr(_frbench("ir"), f"IR_{depth}")
    with torch.device("meta"):
        return Reference(build(), released)


def resnet50_face() -> Reference:
    build = _frbench("resnet").ResNet_50
    with torch.device("meta"):
        return Reference(build(), str)


def mobilefacenet_gdc() -> Reference:
    """frbench's plain MobileFaceNet, which is TreB1eN's under other names."""

    def released(name: str) -> str:
        for mine, theirs in (("conv_expand", "conv"), ("conv_project", "project"),
                             ("layers", "model")):  # fmt: skip
            name = name.replace(f".{mine}.", f".{theirs}.")
        head = (("output_layer.conv_dw.", "conv_6_dw."), ("output_layer.fc.", "linear."))
        return _renamer(*head, ("output_layer.bn.", "bn."))(name)

    return Reference(_frbench("mobilefacenet").MobileFaceNet_Plain(), released)


def inception_resnet_v1() -> Reference:
    with _without_init("facenet_pytorch", "facenet_pytorch.models"):
        module = importlib.import_module("facenet_pytorch.models.inception_resnet_v1")
    return Reference(module.InceptionResnetV1(), str)


def edgeface(dims, depths, heads: int, rank: float | None) -> Reference:
    """timm's EdgeNeXt; every linear layer split in two as the released code does for `gamma`."""
    edgenext = _timm("edgenext")
    module = edgenext.EdgeNeXt(num_classes=512, dims=dims, depths=depths, heads=(heads,) * 4)

    def split(parent: nn.Module) -> None:
        for name, child in parent.named_children():
            if isinstance(child, nn.Linear):
                middle = max(2, int(min(child.in_features, child.out_features) * rank))
                pair = nn.Sequential()
                pair.add_module("linear1", nn.Linear(child.in_features, middle, bias=False))
                pair.add_module("linear2", nn.Linear(middle, child.out_features))
                setattr(parent, name, pair)
            else:
                split(child)

    if rank is not None:
        split(module)
    return Reference(module, lambda name: f"model.{name}")


class _ViT(nn.Module):
    """insightface's VisionTransformer around timm's transformer blocks."""

    def __init__(self, block, width: int, depth: int, heads=8, patch=9, size=112):
        super().__init__()
        tokens = (size // patch) ** 2
        self.patch_embed = nn.ModuleDict({"proj": nn.Conv2d(3, width, patch, patch)})
        self.pos_embed = nn.Parameter(torch.zeros(1, tokens, width))
        self.mask_token = nn.Parameter(torch.zeros(1, 1, width))
        self.blocks = nn.Sequential(
            *(
                block(width, heads, norm_layer=nn.LayerNorm, act_layer=nn.ReLU6)
                for _ in range(depth)
            )
        )
        self.norm = nn.LayerNorm(width)
        self.feature = nn.Sequential(
            nn.Linear(tokens * width, width, bias=False),
            nn.BatchNorm1d(width, eps=2e-5),
            nn.Linear(width, 512, bias=False),
            nn.BatchNorm1d(512, eps=2e-5),
        )

    def forward(self, x):
        x = self.patch_embed["proj"](x).flatten(2).transpose(1, 2) + self.pos_embed
        return self.feature(self.norm(self.blocks(x)).flatten(1))


def vit(width: int, depth: int) -> Reference:
    block = _timm("vision_transformer").Block
    with torch.device("meta"):
        return Reference(_ViT(block, width, depth), str)
