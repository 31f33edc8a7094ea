"""What a super-resolution network is given: a small video enlarged, beside the noisy large one."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import conv2d, interpolate, pad

from muybridge.errors import UserError
from muybridge.nn.frames import batch_to_frames, frames_to_batch


def enlarged(video: Tensor, factor: int) -> Tensor:
    """[B, C, F, H, W] -> [B, C, F, factor H, factor W], bicubic, each frame alone."""
    flat = interpolate(frames_to_batch(video), scale_factor=factor, mode="bicubic", align_corners=False)
    return batch_to_frames(flat, len(video))


def grid_factor(factor: int, space: Any) -> int:
    """How many times as many points a side what the network draws has as the small video: fewer than pixels, in a
    latent space.

    Raises:
        UserError: no whole number of times.
    """
    if factor % space.shrink:
        raise UserError(
            f"diffusion.factor: a multiple of {space.shrink}, the pixels a side that a latent of this autoencoder "
            f"stands for, got {factor}"
        )
    return int(factor // space.shrink)


def on_grid(video: Tensor, factor: int, space: Any) -> Tensor:
    """A small video [B, 3, F, h, w] at the points that the network draws: pixels of `factor` times as many a side, or
    the latents that stand for them."""
    times = grid_factor(factor, space)
    return video if times == 1 else enlarged(video, times)


def channels_of(space: Any) -> dict[str, int]:
    """Channels of a super-resolution network: what it draws, with the small video beside it going in."""
    return {"in_channels": space.channels + 3, "out_channels": space.channels}


def reduced(video: Tensor, factor: int, blur: float = 0.0) -> Tensor:
    """The small video that a large one [B, C, F, H, W] is learned from: means of factor x factor pixels, blurred.

    Args:
        blur: standard deviation, in its pixels, of a Gaussian of 3 x 3; 0 for none. unCLIP: 0.6.

    Source: 2204.06125 appendix C (the blur).
    """
    flat = interpolate(frames_to_batch(video), scale_factor=1 / factor, mode="area")
    if blur:
        taps = torch.exp(-0.5 * (torch.arange(-1, 2, device=flat.device, dtype=flat.dtype) / blur) ** 2)
        kernel = torch.outer(taps, taps) / taps.sum() ** 2
        rows = flat.flatten(0, 1)[:, None]
        flat = conv2d(pad(rows, (1, 1, 1, 1), mode="replicate"), kernel[None, None])[:, 0].unflatten(0, flat.shape[:2])
    return batch_to_frames(flat, len(video))
