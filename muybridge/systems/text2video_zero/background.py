"""Background smoothing: every frame's background mixed with the first one's, moved with the camera (2303.13439 section
3.3.3)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate, max_pool2d

from muybridge.diffusion.motion_field import move
from muybridge.nn.frames import to_uint8
from muybridge.pipelines.zero_shot import ZeroShotPipeline

#: frames uint8 [F, H, W, 3] -> foreground [F, H, W], above 0.5 on the object
Masks = Callable[[np.ndarray], np.ndarray]


def with_one_background(
    pipeline: ZeroShotPipeline, z: Tensor, samples: Tensor, masks: Masks, motion: tuple[float, float], share: float
) -> Tensor:
    """Blend each frame's latents with the first one's, moved, wherever both show background.

    Args:
        z: latents at the level where frames are joined, [1, C, F, h, w]; samples: what came of them.
        motion: of the camera, (x, y) a frame.
        share: alpha, of the first background.
    """
    found = torch.from_numpy(np.asarray(masks(to_uint8(pipeline.to_pixels(samples))[0]), np.float32))
    small = interpolate(found[:, None], size=z.shape[-2:], mode="nearest")
    objects = (max_pool2d(small, 5, 1, 2) > 0.5).to(z)[:, 0]  # [F, h, w], widened by two latents
    out = z.clone()
    for k in range(1, z.shape[2]):
        delta = (k * motion[0], k * motion[1])
        background = (1 - objects[k]) * move(1 - objects[0], delta)
        mixed = share * move(z[:, :, 0], delta) + (1 - share) * z[:, :, k]
        out[:, :, k] = background * mixed + (1 - background) * z[:, :, k]
    return out
