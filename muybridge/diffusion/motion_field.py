"""Latents moved by a constant flow, exactly as Text2Video-Zero's warp, without its grids.

Source: 2303.13439 section 3.3.1 and its code, which builds a 512 x 512 coordinate map, resizes it and samples the
nearest latent with reflection; for a constant flow that is a shift of indices, equal bit for bit. Differs from the code
where a shift falls exactly between two latents: the code then rounds every second index the other way and doubles
entries; here all go the same way.
"""

from __future__ import annotations

import torch
from torch import Tensor

REFERENCE_SIZE = 512


def source_indices(size: int, delta: float, reference_size: int = REFERENCE_SIZE) -> Tensor:
    """Which of `size` entries each one comes from: R(i + rint((delta - 1/2) size / reference)), R half-sample
    reflection.

    Args:
        delta: the flow in pixels of a frame of `reference_size`; positive takes from larger indices (content moves up
            or left).
    """
    if delta == 0:
        return torch.arange(size)
    shift = torch.tensor((delta - 0.5) * size / reference_size, dtype=torch.float64).round()
    index = (torch.arange(size) + int(shift)) % (2 * size)
    return torch.where(index < size, index, 2 * size - 1 - index)


def move(z: Tensor, delta: tuple[float, float], reference_size: int = REFERENCE_SIZE) -> Tensor:
    """Shift latents [..., h, w] by (x, y) reference pixels; values are moved, never made up."""
    x, y = (source_indices(n, d, reference_size) for n, d in ((z.shape[-1], delta[0]), (z.shape[-2], delta[1])))
    return z[..., y, :][..., x]
