"""How much of a structure picture is kept: blurred and halved `level` times, then enlarged again (Gen-1's t_s)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import conv2d, interpolate, pad

LEVELS = 8
#: Sinusoids of the level that join the network's input.
LEVEL_CHANNELS = 4


def coarsened(structure: Tensor, level: int) -> Tensor:
    """Blur with a 5-tap binomial filter and halve, `level` times, then resize back bilinearly.

    The kernel and factor are ours; the paper publishes neither. Each picture alone; borders repeat, so that a constant
    stays.

    Args:
        structure: [N, C, H, W].
        level: 0 (as it is) to 7.
    """
    if not 0 <= level < LEVELS:
        raise ValueError(f"a structure level is 0..{LEVELS - 1}, got {level}")
    if level == 0:
        return structure
    size, x = structure.shape[-2:], structure
    taps = torch.tensor([1.0, 4.0, 6.0, 4.0, 1.0], device=x.device, dtype=x.dtype) / 16
    kernel = (taps[:, None] * taps).expand(x.shape[1], 1, 5, 5)
    for _ in range(level):
        if min(x.shape[-2:]) < 2:
            break
        blurred = conv2d(pad(x, (2, 2, 2, 2), mode="replicate"), kernel, groups=x.shape[1])
        x = interpolate(blurred, scale_factor=0.5, mode="bilinear", align_corners=False)
    return interpolate(x, size=size, mode="bilinear", align_corners=False)


def level_channels(level: Tensor, size: tuple[int, ...]) -> Tensor:
    """Constant channels that tell the network a level: [B] -> [B, 4, *size]."""
    angle = level.float()[:, None] * torch.tensor([torch.pi / LEVELS, torch.pi / 2], device=level.device)
    values = torch.cat([angle.sin(), angle.cos()], 1)
    return values.reshape(*values.shape, *[1] * len(size)).expand(-1, -1, *size)
