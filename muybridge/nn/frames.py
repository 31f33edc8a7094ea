"""Frames of a video as rows of a batch, and as the 8-bit pictures that files hold."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def frames_to_batch(video: Tensor) -> Tensor:
    """[B, C, F, H, W] -> [B F, C, H, W]."""
    return video.transpose(1, 2).flatten(0, 1)


def batch_to_frames(pictures: Tensor, batch: int) -> Tensor:
    """[B F, C, H, W] -> [B, C, F, H, W]."""
    return pictures.unflatten(0, (batch, -1)).transpose(1, 2)


def to_uint8(samples: Tensor) -> np.ndarray:
    """[B, C, F, H, W] in [-1, 1] -> uint8 [B, F, H, W, C]."""
    levels = ((samples.float().clamp(-1, 1) + 1) * 127.5).round().byte()
    return levels.permute(0, 2, 3, 4, 1).cpu().numpy()


def from_uint8(frames: np.ndarray) -> Tensor:
    """uint8 [..., F, H, W, C] -> float [..., C, F, H, W] in [-1, 1]."""
    return torch.from_numpy(np.ascontiguousarray(np.moveaxis(frames, -1, -4))).float() / 127.5 - 1
