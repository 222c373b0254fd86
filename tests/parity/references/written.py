"""Networks that no package has, written from their published descriptions: Sphere20, RobFR's MobileNets and
ShuffleNets."""

import torch
from torch import nn
from torch.nn import functional as F

from experiments.pytorch.networks import MOBILENET_V1, Reference


class _Sphere20a(nn.Module):
    """Table 2 of Liu et al. (2017), 20 layers, under SphereFace's names."""

    def __init__(self):
        super().__init__()
        inputs = 3
        for stage, (width, units) in enumerate(((64, 1), (128, 2), (256, 4), (512, 1)), start=1):
            for layer in range(1, 2 + 2 * units):
                stride = 2 if layer == 1 else 1
                conv = nn.Conv2d(inputs if layer == 1 else width, width, 3, stride, 1)
                setattr(self, f"conv{stage}_{layer}", conv)
                setattr(self, f"relu{stage}_{layer}", nn.PReLU(width))
            inputs = width
        self.fc5 = nn.Linear(512 * 7 * 6, 512)

    def forward(self, x):
        def layer(at: str, x):
            return getattr(self, f"relu{at}")(getattr(self, f"conv{at}")(x))

        for stage, units in enumerate((1, 2, 4, 1), start=1):
            x = layer(f"{stage}_1", x)
            for n in range(units):
                y = layer(f"{stage}_{2 * n + 2}", x)
                x = x + layer(f"{stage}_{2 * n + 3}", y)
        return self.fc5(x.flatten(1))


class _SphereBlock(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.conv1, self.prelu1 = nn.Conv2d(width, width, 3, 1, 1, bias=False), nn.PReLU(width)
        self.conv2, self.prelu2 = nn.Conv2d(width, width, 3, 1, 1, bias=False), nn.PReLU(width)

    def forward(self, x):
        return x + self.prelu2(self.conv2(self.prelu1(self.conv1(x))))


class _SphereCosFace(nn.Module):
    """The same network under CosFace's names, without bias in the residual convolutions."""

    def __init__(self):
        super().__init__()
        inputs = 3
        for stage, (width, units) in enumerate(((64, 1), (128, 2), (256, 4), (512, 1)), start=1):
            first = (nn.Conv2d(inputs, width, 3, 2, 1), nn.PReLU(width))
            blocks = (_SphereBlock(width) for _ in range(units))
            setattr(self, f"layer{stage}", nn.Sequential(*first, *blocks))
            inputs = width
        self.fc = nn.Linear(512 * 7 * 6, 512)

    def forward(self, x):
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(x.flatten(1))


def sphere20(cosface: bool) -> Reference:
    return Reference(_SphereCosFace() if cosface else _Sphere20a(), str)


def _conv_bn(inputs, outputs, size, stride=1, *, groups=1, activation=None):
    conv = nn.Conv2d(inputs, outputs, size, stride, size // 2, groups=groups, bias=False)
    return (conv, nn.BatchNorm2d(outputs), *([] if activation is None else [activation()]))


class _MobileNetV1(nn.Module):
    """Table 1 of Howard et al. (2017) with RobFR's head."""

    def __init__(self, stem_stride: int):
        super().__init__()
        layers, inputs = [nn.Sequential(*_conv_bn(3, 32, 3, stem_stride, activation=nn.ReLU))], 32
        for outputs, stride in MOBILENET_V1:
            depthwise = _conv_bn(inputs, inputs, 3, stride, groups=inputs, activation=nn.ReLU)
            pointwise = _conv_bn(inputs, outputs, 1, activation=nn.ReLU)
            layers.append(nn.Sequential(*depthwise, *pointwise))
            inputs = outputs
        self.model = nn.Sequential(*layers)
        window = 7 if stem_stride == 1 else 4
        self.linear7 = nn.Conv2d(1024, 1024, window, groups=1024, bias=False)
        self.fc = nn.Linear(1024, 512)

    def forward(self, x):
        return self.fc(self.linear7(self.model(x)).flatten(1))


class _InvertedResidual(nn.Module):
    def __init__(self, inputs, outputs, stride, expansion):
        super().__init__()
        wide = inputs * expansion
        expand = _conv_bn(inputs, wide, 1, activation=nn.ReLU6) if expansion != 1 else ()
        depthwise = _conv_bn(wide, wide, 3, stride, groups=wide, activation=nn.ReLU6)
        self.conv = nn.Sequential(*expand, *depthwise, *_conv_bn(wide, outputs, 1))
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x):
        return x + self.conv(x) if self.residual else self.conv(x)


class _MobileNetV2(nn.Module):
    """Table 2 of Sandler et al. (2018) with RobFR's head."""

    def __init__(self, stem_stride: int):
        super().__init__()
        layers, inputs = [nn.Sequential(*_conv_bn(3, 32, 3, stem_stride, activation=nn.ReLU6))], 32
        for t, c, n, s in ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2),
                           (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)):  # fmt: skip
            for i in range(n):
                layers.append(_InvertedResidual(inputs, c, s if i == 0 else 1, t))
                inputs = c
        layers.append(nn.Sequential(*_conv_bn(inputs, 1280, 1, activation=nn.ReLU6)))
        self.features = nn.Sequential(*layers)
        window = 7 if stem_stride == 1 else 4
        self.linear7 = nn.Conv2d(1280, 1280, window, groups=1280, bias=False)
        self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(1280, 512))

    def forward(self, x):
        return self.classifier(self.linear7(self.features(x)).flatten(1))


def mobilenet(version: int, stem_stride: int) -> Reference:
    return Reference((_MobileNetV1 if version == 1 else _MobileNetV2)(stem_stride), str)


def _shuffle(x, groups):
    b, c, h, w = x.shape
    return x.view(b, groups, c // groups, h, w).transpose(1, 2).reshape(b, c, h, w)


class _UnitV1(nn.Module):
    """Figure 2b and c of Zhang et al. (2018)."""

    def __init__(self, inputs, outputs, groups, grouped, stride):
        super().__init__()
        narrow, g = outputs // 4, groups if grouped else 1
        grown = outputs if stride == 1 else outputs - inputs
        self.g_conv_1x1_compress = nn.Sequential()
        self.g_conv_1x1_compress.add_module("conv1x1", nn.Conv2d(inputs, narrow, 1, groups=g))
        self.g_conv_1x1_compress.add_module("batch_norm", nn.BatchNorm2d(narrow))
        self.depthwise_conv3x3 = nn.Conv2d(narrow, narrow, 3, stride, 1, groups=narrow)
        self.bn_after_depthwise = nn.BatchNorm2d(narrow)
        self.g_conv_1x1_expand = nn.Sequential()
        self.g_conv_1x1_expand.add_module("conv1x1", nn.Conv2d(narrow, grown, 1, groups=g))
        self.g_conv_1x1_expand.add_module("batch_norm", nn.BatchNorm2d(grown))
        self.groups, self.stride = groups, stride

    def forward(self, x):
        y = _shuffle(F.relu(self.g_conv_1x1_compress(x)), self.groups)
        y = self.g_conv_1x1_expand(self.bn_after_depthwise(self.depthwise_conv3x3(y)))
        if self.stride == 1:
            return F.relu(x + y)
        return F.relu(torch.cat([F.avg_pool2d(x, 3, 2, 1), y], 1))


class _ShuffleNetV1(nn.Module):
    """Table 1 of Zhang et al. (2018), 3 groups, with RobFR's stem and GDConv head."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 24, 3, 1, 1)
        inputs = 24
        for stage, (width, repeats) in enumerate(((240, 4), (480, 8), (960, 4)), start=2):
            units = nn.Sequential()
            for i in range(repeats):
                unit = _UnitV1(inputs, width, 3, stage > 2 or i > 0, 2 if i == 0 else 1)
                units.add_module(f"ShuffleUnit_Stage{stage}_{i}", unit)
                inputs = width
            setattr(self, f"stage{stage}", units)
        self.linear7 = nn.Conv2d(960, 960, 7, groups=960, bias=False)
        self.fc = nn.Linear(960, 512)

    def forward(self, x):
        x = F.max_pool2d(self.conv1(x), 3, 2, 1)
        x = self.stage4(self.stage3(self.stage2(x)))
        return self.fc(self.linear7(x).flatten(1))


class _UnitV2(nn.Module):
    """Figure 3c and d of Ma et al. (2018); `banch` is the released code's spelling."""

    def __init__(self, inputs, outputs, stride):
        super().__init__()
        half = outputs // 2
        self.stride = stride
        if stride == 2:
            depthwise = _conv_bn(inputs, inputs, 3, 2, groups=inputs)
            self.banch1 = nn.Sequential(*depthwise, *_conv_bn(inputs, half, 1, activation=nn.ReLU))
        self.banch2 = nn.Sequential(
            *_conv_bn(inputs if stride == 2 else half, half, 1, activation=nn.ReLU),
            *_conv_bn(half, half, 3, stride, groups=half),
            *_conv_bn(half, half, 1, activation=nn.ReLU),
        )

    def forward(self, x):
        if self.stride == 2:
            return _shuffle(torch.cat([self.banch1(x), self.banch2(x)], 1), 2)
        left, right = x.chunk(2, 1)
        return _shuffle(torch.cat([left, self.banch2(right)], 1), 2)


class _ShuffleNetV2(nn.Module):
    """Table 5 of Ma et al. (2018), width 1, with RobFR's stem and GDConv head."""

    def __init__(self, stem_stride: int):
        super().__init__()
        self.conv1 = nn.Sequential(*_conv_bn(3, 24, 3, stem_stride, activation=nn.ReLU))
        units, inputs = [], 24
        for width, repeats in ((116, 4), (232, 8), (464, 4)):
            for i in range(repeats):
                units.append(_UnitV2(inputs, width, 2 if i == 0 else 1))
                inputs = width
        self.features = nn.Sequential(*units)
        self.conv_last = nn.Sequential(*_conv_bn(464, 1024, 1, activation=nn.ReLU))
        window = 7 if stem_stride == 1 else 4
        self.linear7 = nn.Conv2d(1024, 1024, window, groups=1024, bias=False)
        self.classifier = nn.Sequential(nn.Linear(1024, 512))

    def forward(self, x):
        x = F.max_pool2d(self.conv1(x), 3, 2, 1)
        x = self.conv_last(self.features(x))
        return self.classifier(self.linear7(x).flatten(1))


def shufflenet_v1() -> Reference:
    return Reference(_ShuffleNetV1(), str)


def shufflenet_v2(stem_stride: int) -> Reference:
    return Reference(_ShuffleNetV2(stem_stride), str)
