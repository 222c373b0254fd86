"""Where the well-known checkpoints of the ported networks are published.

Nothing here is downloaded by this project: a reader fetches a file from its project, under its licence, and
converts it with `tipim models add`, which knows it again by its SHA-256.
"""

from typing import NamedTuple


class Published(NamedTuple):
    """A checkpoint somebody published.

    Attributes:
      architecture: its network in `architectures.ARCHITECTURES`.
      training: what it was trained on, as its project says.
      project: who publishes it.
      file: its usual name.
      size: as its project or its users give it; "" where nobody does.
      sha256: "" where no independent record of it was found.
      licence: as its project states it.
    """

    architecture: str
    training: str
    project: str
    file: str
    size: str = ""
    sha256: str = ""
    licence: str = "unstated"


_TREB1EN = "github.com/TreB1eN/InsightFace_Pytorch"
_EVOLVE = "github.com/ZhaoJ9014/face.evoLVe"
_ADAFACE = "github.com/mk-minchul/AdaFace"
_ARCFACE_TORCH = "github.com/deepinsight/insightface (recognition/arcface_torch)"
_FACENET = "github.com/timesler/facenet-pytorch, release v2.2.9"
_EDGEFACE = "gitlab.idiap.ch/bob/bob.paper.tbiom2023_edgeface, github.com/otroshi/edgeface"
_ROBFR = "github.com/ShawnXYang/Face-Robustness-Benchmark"
_CODE_MIT = "code MIT, weights unstated"
_NON_COMMERCIAL = "non-commercial research"
_IDIAP = "code BSD-3-Clause; weights on Hugging Face CC BY-NC-SA 4.0"

CHECKPOINTS = (
    Published(
        "irse50",
        "MS1M",
        _TREB1EN,
        "model_ir_se50.pth",
        size="175 MB",
        sha256="a035c768259b98ab1ce0e646312f48b9e1e218197a0f80ac6765e88f8b6ddf28",
        licence=_CODE_MIT,
    ),
    Published("mobilefacenet_gdc", "MS1M", _TREB1EN, "model_mobilefacenet.pth", licence=_CODE_MIT),
    Published("ir50", "MS1M", _EVOLVE, "backbone_ir50_ms1m_epoch120.pth", licence=_CODE_MIT),
    Published(
        "ir152",
        "MS1M",
        _EVOLVE,
        "Backbone_IR_152_Epoch_112_Batch_2547328_Time_2019-07-13-02-59_checkpoint.pth",
        licence=_CODE_MIT,
    ),
    Published(
        "adaface_ir18", "WebFace4M", _ADAFACE, "adaface_ir18_webface4m.ckpt", licence=_CODE_MIT
    ),
    Published("adaface_ir50", "MS1MV2", _ADAFACE, "adaface_ir50_ms1mv2.ckpt", licence=_CODE_MIT),
    Published(
        "adaface_ir101",
        "WebFace12M",
        _ADAFACE,
        "adaface_ir101_webface12m.ckpt",
        size="1.5 GB",
        sha256="0e7a3238d2a50f3fe3860782534928ac7cb2598977cf897f6869fd5ac2493fd0",
        licence=_CODE_MIT,
    ),
    *(
        Published(
            f"iresnet{depth}",
            "MS1MV3",
            _ARCFACE_TORCH,
            f"ms1mv3_arcface_r{depth}_fp16/backbone.pth",
            licence=_NON_COMMERCIAL,
        )
        for depth in (18, 34, 50, 100)
    ),
    *(
        Published(
            f"vit_{size}",
            "WebFace42M",
            _ARCFACE_TORCH,
            f"wf42m_pfc03_40epoch_8gpu_vit_{size}",
            licence=_NON_COMMERCIAL,
        )
        for size in ("t", "b")
    ),
    Published(
        "inception_resnet_v1",
        "VGGFace2",
        _FACENET,
        "20180402-114759-vggface2.pt",
        size="107 MB",
        sha256="281cebca8662831adb987a874bdcb36e73f5b1c6dc5ee5878f305e985625d99b",
        licence="MIT",
    ),
    Published(
        "inception_resnet_v1",
        "CASIA-WebFace",
        _FACENET,
        "20180408-102900-casia-webface.pt",
        size="111 MB",
        licence="MIT",
    ),
    *(
        Published(
            f"edgeface_{variant}",
            "WebFace260M",
            _EDGEFACE,
            f"edgeface_{variant}.pt",
            licence=_IDIAP,
        )
        for variant in ("xxs", "xs_gamma_06", "s_gamma_05", "base")
    ),
    Published(
        "sphere20",
        "CASIA-WebFace",
        "github.com/clcarwin/sphereface_pytorch",
        "sphere20a_20171020.pth",
        licence=_CODE_MIT,
    ),
    Published(
        "sphere20_cosface", "CASIA-WebFace", "github.com/MuggleWang/CosFace_pytorch", "ACC99.28.pth"
    ),
    *(
        Published(architecture, "MS1M", _ROBFR, f"model {model} of its model zoo")
        for architecture, model in (
            ("mobilefacenet", "MobileFace"),
            ("resnet50_face", "ResNet50"),
            ("mobilenet_v1", "Mobilenet"),
            ("mobilenet_v1_stride1", "Mobilenet-stride1"),
            ("mobilenet_v2", "MobilenetV2"),
            ("mobilenet_v2_stride1", "MobilenetV2-stride1"),
            ("shufflenet_v1", "ShuffleNet_V1_GDConv"),
            ("shufflenet_v2_stride1", "ShuffleNet_V2_GDConv-stride1"),
        )
    ),
)


def known(sha256: str) -> Published | None:
    """The published checkpoint with this SHA-256, if it is listed with one."""
    return next((c for c in CHECKPOINTS if c.sha256 and c.sha256 == sha256), None)


def rows() -> list[tuple[str, ...]]:
    """The list as a table, its header first; an unknown field is a dash."""
    header = ("network", "trained on", "project", "file", "size", "SHA-256", "licence")
    return [header, *(tuple(field or "–" for field in c) for c in CHECKPOINTS)]
