"""The networks that `benchmark` times, in PyTorch, under the tensor names of their published checkpoints.

The tests of parity have PyTorch's form of every other port (`tests/parity/references`).
"""

from collections import OrderedDict
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F


class Reference(NamedTuple):
    """A module in eval mode; `released` turns a name of its state dict into the published one."""

    module: nn.Module
    released: Callable[[str], str]

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Published name -> shape, without the counters of BatchNorm."""
        return {
            self.released(name): tuple(value.shape)
            for name, value in self.module.state_dict().items()
            if not name.endswith("num_batches_tracked")
        }

    def load(self, tensors: dict[str, np.ndarray]) -> None:
        """Fills every tensor of the module and freezes it."""
        state = {
            name: torch.zeros((), dtype=torch.int64)
            if name.endswith("num_batches_tracked")
            else torch.from_numpy(tensors[self.released(name)].copy())  # what was read is frozen
            for name in self.module.state_dict()
        }
        self.module.load_state_dict(state, assign=True)
        self.module.eval().requires_grad_(False)


def _conv(inputs, outputs, size, stride=1, padding=0, groups=1):
    return nn.Conv2d(inputs, outputs, size, stride, padding, groups=groups, bias=False)


def _block(inputs, outputs, size, stride=1, padding=0, groups=1, prelu=True):
    parts = {
        "conv": _conv(inputs, outputs, size, stride, padding, groups),
        "bn": nn.BatchNorm2d(outputs),
    }
    return nn.Sequential(OrderedDict(parts | ({"prelu": nn.PReLU(outputs)} if prelu else {})))


class _Bottleneck(nn.Module):
    def __init__(self, inputs, outputs, stride, expansion):
        super().__init__()
        wide = inputs * expansion
        self.residual = stride == 1 and inputs == outputs
        self.conv = nn.Sequential(
            _conv(inputs, wide, 1),
            nn.BatchNorm2d(wide),
            nn.PReLU(wide),
            _conv(wide, wide, 3, stride, 1, wide),
            nn.BatchNorm2d(wide),
            nn.PReLU(wide),
            _conv(wide, outputs, 1),
            nn.BatchNorm2d(outputs),
        )

    def forward(self, x):
        return x + self.conv(x) if self.residual else self.conv(x)


class _MobileFaceNet(nn.Module):
    """Table 1 of Chen et al. (2018)."""

    def __init__(self, size: tuple[int, int], features: int):
        super().__init__()
        self.conv1 = _block(3, 64, 3, 2, 1)
        self.dw_conv1 = _block(64, 64, 3, 1, 1, groups=64)
        blocks, inputs = [], 64
        for t, c, n, s in ((2, 64, 5, 2), (4, 128, 1, 2), (2, 128, 6, 1), (4, 128, 1, 2),
                           (2, 128, 2, 1)):  # fmt: skip
            for i in range(n):
                blocks.append(_Bottleneck(inputs, c, s if i == 0 else 1, t))
                inputs = c
        self.blocks = nn.Sequential(*blocks)
        self.conv2 = _block(128, 512, 1)
        window = (size[0] // 16, size[1] // 16)
        self.linear7 = _block(512, 512, window, groups=512, prelu=False)
        self.linear1 = _block(512, features, 1, prelu=False)

    def forward(self, x):
        x = self.conv2(self.blocks(self.dw_conv1(self.conv1(x))))
        return self.linear1(self.linear7(x)).flatten(1)


def mobilefacenet(size: tuple[int, int], features: int) -> Reference:
    return Reference(_MobileFaceNet(size, features), str)


# (features, stride) of the separable blocks
MOBILENET_V1 = (
    ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2))
    + 5 * ((512, 1),)
    + ((1024, 2), (1024, 1))
)


class _ChannelPReLU(nn.Module):
    """PReLU whose slope has ONNX's shape [C,1,1]."""

    def __init__(self, features):
        super().__init__()
        self.gamma = nn.Parameter(torch.full((features, 1, 1), 0.25))

    def forward(self, x):
        return F.prelu(x, self.gamma.flatten())


class _SFace(nn.Module):
    """OpenCV Zoo's SFace: MobileNetV1 blocks with PReLU, under the names of its ONNX file."""

    def __init__(self):
        super().__init__()
        inputs, self.trunk = 32, nn.Sequential()
        self._add("conv_1", 3, 32, 3, 1, 1)
        for n, (outputs, stride) in enumerate(MOBILENET_V1, start=2):
            self._add(f"conv_{n}_dw", inputs, inputs, 3, stride, inputs)
            self._add(f"conv_{n}", inputs, outputs, 1, 1, 1)
            inputs = outputs
        self.bn1 = nn.BatchNorm2d(1024, eps=2e-5)
        self.pre_fc1 = nn.Linear(7 * 7 * 1024, 128)
        self.fc1 = nn.BatchNorm1d(128, eps=2e-5)

    def _add(self, name, inputs, outputs, size, stride, groups):
        conv = _conv(inputs, outputs, size, stride, size // 2, groups)
        self.trunk.add_module(f"{name}_conv2d", conv)
        self.trunk.add_module(f"{name}_batchnorm", nn.BatchNorm2d(outputs, eps=1e-3))
        self.trunk.add_module(f"{name}_relu", _ChannelPReLU(outputs))

    def forward(self, x):
        return self.fc1(self.pre_fc1(self.bn1(self.trunk(x)).flatten(1)))


_MXNET = {  # BatchNorm's tensors by the names of MXNet
    "weight": "gamma", "bias": "beta", "running_mean": "moving_mean", "running_var": "moving_var"
}  # fmt: skip


def sface() -> Reference:
    def released(name: str) -> str:
        layer, _, field = name.removeprefix("trunk.").rpartition(".")
        known = layer in ("bn1", "fc1") or layer.endswith("batchnorm")
        return f"{layer}_{_MXNET.get(field, field) if known else field}"

    return Reference(_SFace(), released)


class _SqueezeExcitation(nn.Module):
    def __init__(self, features):
        super().__init__()
        self.fc1 = _conv(features, features // 16, 1)
        self.fc2 = _conv(features // 16, features, 1)

    def forward(self, x):
        return x * self.fc2(F.relu(self.fc1(x.mean((2, 3), keepdim=True)))).sigmoid()


class _IRUnit(nn.Module):
    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.shortcut_layer: nn.Module = nn.MaxPool2d(1, stride)
        if inputs != outputs:
            conv = _conv(inputs, outputs, 1, stride)
            self.shortcut_layer = nn.Sequential(conv, nn.BatchNorm2d(outputs))
        self.res_layer = nn.Sequential(
            nn.BatchNorm2d(inputs),
            _conv(inputs, outputs, 3, 1, 1),
            nn.PReLU(outputs),
            _conv(outputs, outputs, 3, stride, 1),
            nn.BatchNorm2d(outputs),
            _SqueezeExcitation(outputs),
        )

    def forward(self, x):
        return self.res_layer(x) + self.shortcut_layer(x)


class _IRSE50(nn.Module):
    """IR-SE50 of Deng et al. (2019) under the names of face.evoLVe and TreB1eN."""

    def __init__(self):
        super().__init__()
        self.input_layer = nn.Sequential(_conv(3, 64, 3, 1, 1), nn.BatchNorm2d(64), nn.PReLU(64))
        units, inputs = [], 64
        for width, repeats in ((64, 3), (128, 4), (256, 14), (512, 3)):
            for i in range(repeats):
                units.append(_IRUnit(inputs, width, 2 if i == 0 else 1))
                inputs = width
        self.body = nn.Sequential(*units)
        self.output_layer = nn.Sequential(
            nn.BatchNorm2d(512),
            nn.Dropout(0.4),
            nn.Flatten(),
            nn.Linear(512 * 7 * 7, 512),
            nn.BatchNorm1d(512),
        )

    def forward(self, x):
        return self.output_layer(self.body(self.input_layer(x)))


def irse50() -> Reference:
    with torch.device("meta"):  # the weights come later
        return Reference(_IRSE50(), str)


class _DlibConv(nn.Module):
    """A convolution with bias and its affine layer."""

    def __init__(self, inputs, outputs, size, stride):
        super().__init__()
        self.con = nn.Conv2d(inputs, outputs, size, stride, size // 2 if stride == 1 else 0)
        self.gamma = nn.Parameter(torch.ones(outputs))
        self.beta = nn.Parameter(torch.zeros(outputs))

    def forward(self, x):
        return self.con(x) * self.gamma[:, None, None] + self.beta[:, None, None]


class _DlibResNet(nn.Module):
    """dlib's face recognition ResNet (dnn_face_recognition_ex.cpp)."""

    def __init__(self):
        super().__init__()
        self.layers, inputs = nn.ModuleList([_DlibConv(3, 32, 7, 2)]), 32
        self.strides = []
        for features, repeats in ((32, 3), (64, 4), (128, 3), (256, 3), (256, 1)):
            for i in range(repeats):
                stride = 2 if i == 0 and len(self.layers) > 1 else 1
                self.layers.append(_DlibConv(inputs, features, 3, stride))
                self.layers.append(_DlibConv(features, features, 3, 1))
                self.strides.append(stride)
                inputs = features
        self.fc = nn.Parameter(torch.zeros(inputs, 128))

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.layers[0](x)), 3, 2)
        for n, stride in enumerate(self.strides):
            y = self.layers[2 * n + 2](F.relu(self.layers[2 * n + 1](x)))
            x = x if stride == 1 else F.avg_pool2d(x, 2)
            shape = [max(a, b) for a, b in zip(x.shape, y.shape, strict=True)]
            x = F.relu(self._padded(x, shape) + self._padded(y, shape))
        return x.mean((2, 3)) @ self.fc

    @staticmethod
    def _padded(x, shape):
        _, channels, height, width = (a - b for a, b in zip(shape, x.shape, strict=True))
        return F.pad(x, (0, width, 0, height, 0, channels))


def dlib_resnet29() -> Reference:
    def released(name: str) -> str:
        if name == "fc":
            return "fc.0.weight"
        _, number, *field = name.split(".")
        return f"con.{number}.{field[1]}" if field[0] == "con" else f"affine.{number}.{field[0]}"

    return Reference(_DlibResNet(), released)


# Architecture -> how to build it.
REFERENCES: dict[str, Callable[[], Reference]] = {
    "mobilefacenet_112x96_128": lambda: mobilefacenet((112, 96), 128),
    "irse50": irse50,
    "sface": sface,
    "dlib_resnet29": dlib_resnet29,
}
