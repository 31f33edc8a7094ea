"""A small monocular depth network: inverse depth of a picture, up to scale and shift."""

from __future__ import annotations

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import Tensor, nn
from torch.nn.functional import interpolate, pad, silu


class _Level(nn.Module):
    def __init__(self, inside: int, outside: int):
        super().__init__()
        self.conv1 = nn.Conv2d(inside, outside, 3, padding=1)
        self.norm1 = nn.GroupNorm(8, outside)
        self.conv2 = nn.Conv2d(outside, outside, 3, padding=1)
        self.norm2 = nn.GroupNorm(8, outside)

    def forward(self, x: Tensor) -> Tensor:
        h = silu(self.norm1(self.conv1(x)))
        return silu(self.norm2(self.conv2(h)))


class DepthNet(ModelMixin, ConfigMixin):
    """An encoder and a decoder with skips.

    Args:
        channels: of each level; the picture is halved between them.
    """

    @register_to_config
    def __init__(self, channels: tuple[int, ...] = (16, 32, 64, 96, 96)):
        super().__init__()
        widths = tuple(channels)
        self.down = nn.ModuleList(_Level(a, b) for a, b in zip((3, *widths[:-1]), widths, strict=True))
        pairs = list(zip(widths[:0:-1], widths[-2::-1], strict=True))
        self.up = nn.ModuleList(_Level(a + b, b) for a, b in pairs)
        self.out = nn.Conv2d(widths[0], 1, 3, padding=1)

    def forward(self, pictures: Tensor) -> Tensor:
        """[B, 3, H, W] in [-1, 1] -> inverse depth [B, 1, H, W], about 0 (far) to 1 (near)."""
        height, width = pictures.shape[-2:]
        multiple = 2 ** (len(self.down) - 1)
        x = pad(pictures, (0, -width % multiple, 0, -height % multiple), mode="replicate")
        skips = []
        for i, level in enumerate(self.down):
            x = level(x if i == 0 else nn.functional.avg_pool2d(x, 2))
            skips.append(x)
        for level, skip in zip(self.up, skips[-2::-1], strict=True):
            x = level(torch.cat([interpolate(x, scale_factor=2.0, mode="nearest"), skip], 1))
        out: Tensor = self.out(x)
        return out[..., :height, :width]
