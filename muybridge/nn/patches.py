"""Videos as rows of patches, and DiT's table of their places."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from einops import rearrange
from torch import Tensor


def patchify(z: Tensor, patch: Sequence[int]) -> Tensor:
    """[B, C, F, H, W] -> tokens [B, N, pt ph pw C], order (t, h, w), w fastest."""
    t, h, w = patch
    return rearrange(z, "b c (f t) (y h) (x w) -> b (f y x) (t h w c)", t=t, h=h, w=w)


def unpatchify(tokens: Tensor, patch: Sequence[int], grid: Sequence[int]) -> Tensor:
    """The inverse of `patchify` for a grid of (frames, rows, columns) of patches."""
    (t, h, w), (f, y, x) = patch, grid
    return rearrange(tokens, "b (f y x) (t h w c) -> b c (f t) (y h) (x w)", t=t, h=h, w=w, f=f, y=y, x=x)


def sincos_table(side: int, width: int) -> Tensor:
    """DiT's fixed table [side^2, width]: the first half of the channels encodes the column, the second the row."""
    axis = torch.arange(side, dtype=torch.float32)
    k = torch.arange(width // 4, dtype=torch.float64)
    angles = (axis.double()[:, None] * 10000.0 ** (-k / (width / 4))).float()
    one = torch.cat([angles.sin(), angles.cos()], 1)
    columns, rows = one[None].expand(side, -1, -1), one[:, None].expand(-1, side, -1)
    return torch.cat([columns, rows], -1).reshape(side * side, width)
