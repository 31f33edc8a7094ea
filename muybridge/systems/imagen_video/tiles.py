"""A fully convolutional network on a large picture, a tile at a time: the same result, in memory of one tile."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from muybridge.errors import UserError


def receptive_radius(config: Any) -> int:
    """Pixels around one that the 3D U-Net's output there can depend on, without attention; rounded up to what the
    network halves evenly.

    A residual block is two 3 x 3 convolutions, each one pixel of its level, which is 2^level pixels of the input.
    """
    blocks, levels, patch = config.blocks_per_level, len(config.channel_multipliers), config.patch_size
    radius = 2  # the first and the last convolution
    for level in range(levels):
        radius += 2 * (2 * blocks + 1) * 2**level  # on the way down and up
        if level < levels - 1:
            radius += 2 * 2 ** (level + 1) + 2 * 2**level  # the blocks that halve and double
    radius += 2 * 2 * 2 ** (levels - 1)  # in the middle
    step = multiple(config)
    return -(-(radius * patch + step) // step) * step


def multiple(config: Any) -> int:
    """Sides of its videos are multiples of this."""
    return int(config.patch_size * 2 ** (len(config.channel_multipliers) - 1))


def is_convolutional(config: Any) -> bool:
    """Whether the network sees no more of a picture than its convolutions reach."""
    sizes = [int(config.sample_size // config.patch_size // 2**i) for i in range(len(config.channel_multipliers))]
    attends = config.spatial_attention or bool(set(config.joint_resolutions) & set(sizes))
    return config.norm == "channel" and not attends and not config.sloped_shift


def check_tiles(network: Any, tile: int) -> None:
    """Refuse tiles for a network that looks at the whole picture, or tiles that leave nothing between their rims.

    Raises:
        UserError: says which.
    """
    if not tile:
        return
    config = network.config
    if not is_convolutional(config):
        raise UserError(
            "tile: this network looks at the whole picture (attention, or statistics over it); only a fully "
            "convolutional one (norm: channel, spatial_attention: false) can be run in tiles"
        )
    rim, step = receptive_radius(config), multiple(config)
    if tile % step or tile <= 2 * rim:
        raise UserError(f"tile: a multiple of {step} above {2 * rim} (the rims that tiles share), got {tile}")


def in_tiles(network: Any, z: Tensor, lam: Tensor, given: Tensor, tile: int, told: dict[str, Any]) -> Tensor:
    """The network's output for z [B, 3, F, H, W] and its condition, from tiles that overlap by twice the receptive
    radius, of which the inner parts are kept."""
    rim = receptive_radius(network.config)
    out = torch.empty_like(z)
    for top, keep_rows in _spans(z.shape[3], tile, rim):
        for left, keep_columns in _spans(z.shape[4], tile, rim):
            area = (..., slice(top, top + tile), slice(left, left + tile))
            made = network(z[area], lam, condition=given[area], **told)
            inside = (..., slice(*keep_rows), slice(*keep_columns))
            out[inside] = made[..., slice(keep_rows[0] - top, keep_rows[1] - top),
                               slice(keep_columns[0] - left, keep_columns[1] - left)]  # fmt: skip
    return out


def _spans(side: int, tile: int, rim: int) -> list[tuple[int, tuple[int, int]]]:
    """(where a tile begins, (first, behind the last) pixel that is taken from it) along a side; the last one ends with
    the picture."""
    if side <= tile:
        return [(0, (0, side))]
    starts = [*range(0, side - tile, tile - 2 * rim), side - tile]
    out, taken = [], 0
    for start in starts:
        behind = side if start == starts[-1] else start + tile - rim
        out.append((start, (taken, behind)))
        taken = behind
    return out
