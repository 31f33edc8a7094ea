"""Frames of a video as rows of a batch, and as the 8-bit pictures that files hold."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate


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


def fit_frames(frames: np.ndarray, height: int, width: int) -> np.ndarray:
    """Resize so that the target is covered, then crop the centre. uint8 [F, H, W, C] -> [F, height, width, C]."""
    from PIL import Image

    old_height, old_width = frames.shape[1:3]
    scale = max(height / old_height, width / old_width)
    size = (max(width, round(old_width * scale)), max(height, round(old_height * scale)))
    left, top = (size[0] - width) // 2, (size[1] - height) // 2
    out = []
    for frame in frames:
        picture = Image.fromarray(frame).resize(size, Image.Resampling.BOX if scale < 1 else Image.Resampling.BICUBIC)
        out.append(np.asarray(picture.crop((left, top, left + width, top + height))))
    return np.stack(out)


def enlarge(frames: np.ndarray, factor: int) -> np.ndarray:
    """Repeat pixels, uint8 [F, H, W, 3] -> [F, factor H, factor W, 3]."""
    return frames if factor == 1 else frames.repeat(factor, 1).repeat(factor, 2)


def resized(video: Tensor, height: int, width: int) -> Tensor:
    """A video [B, C, F, H, W] at another size: bilinear, antialiased where it shrinks."""
    if tuple(video.shape[3:]) == (height, width):
        return video
    flat = interpolate(frames_to_batch(video), (height, width), mode="bilinear", align_corners=False, antialias=True)
    return batch_to_frames(flat, len(video))


def crops(video: Tensor, size: int, shares: Tensor, step: int = 1) -> Tensor:
    """A square of each clip, at places given by shares [B, 2] in [0, 1) of the room there is, multiples of `step`.

    Returns:
        [B, C, F, size, size].
    """
    rooms = [(side - size) // step + 1 for side in video.shape[3:]]
    out = []
    for clip, (down, right) in zip(video, shares.tolist(), strict=True):
        top, left = int(down * rooms[0]) * step, int(right * rooms[1]) * step
        out.append(clip[:, :, top : top + size, left : left + size])
    return torch.stack(out)
