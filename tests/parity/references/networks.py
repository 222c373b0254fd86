"""Every network of `ports.architectures` that PyTorch has too: architecture -> how to build it."""

from collections.abc import Callable

from experiments.pytorch.networks import REFERENCES as TIMED
from experiments.pytorch.networks import Reference, mobilefacenet
from tests.parity.references.packaged import (
    edgeface,
    inception_resnet_v1,
    ir,
    iresnet,
    mobilefacenet_gdc,
    resnet50_face,
    vit,
)
from tests.parity.references.written import (
    mobilenet,
    shufflenet_v1,
    shufflenet_v2,
    sphere20,
)

REFERENCES: dict[str, Callable[[], Reference]] = {
    **TIMED,
    "ir50": lambda: ir(50),
    "ir100": lambda: ir(100),
    "ir152": lambda: ir(152),
    "irse100": lambda: ir(100, squeeze_excitation=True),
    "irse152": lambda: ir(152, squeeze_excitation=True),
    "adaface_ir18": lambda: ir(18, adaface=True),
    "adaface_ir50": lambda: ir(50, adaface=True),
    "adaface_ir101": lambda: ir(100, adaface=True),
    "iresnet18": lambda: iresnet(18),
    "iresnet34": lambda: iresnet(34),
    "iresnet50": lambda: iresnet(50),
    "iresnet100": lambda: iresnet(100),
    "iresnet200": lambda: iresnet(200),
    "mobilefacenet": lambda: mobilefacenet((112, 112), 512),
    "mobilefacenet_112x112_128": lambda: mobilefacenet((112, 112), 128),
    "mobilefacenet_gdc": mobilefacenet_gdc,
    "sphere20": lambda: sphere20(False),
    "sphere20_cosface": lambda: sphere20(True),
    "resnet50_face": resnet50_face,
    "inception_resnet_v1": inception_resnet_v1,
    "mobilenet_v1": lambda: mobilenet(1, 2),
    "mobilenet_v1_stride1": lambda: mobilenet(1, 1),
    "mobilenet_v2": lambda: mobilenet(2, 2),
    "mobilenet_v2_stride1": lambda: mobilenet(2, 1),
    "shufflenet_v1": shufflenet_v1,
    "shufflenet_v2": lambda: shufflenet_v2(2),
    "shufflenet_v2_stride1": lambda: shufflenet_v2(1),
    "vit_t": lambda: vit(256, 12),
    "vit_s": lambda: vit(512, 12),
    "vit_b": lambda: vit(512, 24),
    "edgeface_xxs": lambda: edgeface((24, 48, 88, 168), (2, 2, 6, 2), 4, None),
    "edgeface_xs_gamma_06": lambda: edgeface((32, 64, 100, 192), (3, 3, 9, 3), 4, 0.6),
    "edgeface_s_gamma_05": lambda: edgeface((48, 96, 160, 304), (3, 3, 9, 3), 8, 0.5),
    "edgeface_base": lambda: edgeface((80, 160, 288, 584), (3, 3, 9, 3), 8, None),
}
