"""Parts of pictures that are drawn anew while the rest stays, with any model: inpainting and outpainting.

Source: 2204.03458 section 3.1 (reconstruction guidance on any known entries), 2201.09865 (replacement).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import max_pool3d

from muybridge.diffusion.conditioning import Known
from muybridge.errors import UserError
from muybridge.nn.frames import from_uint8
from muybridge.pipelines.base import VideoPipeline
from muybridge.pipelines.methods import CONTINUATION_SAMPLER, METHODS
from muybridge.pipelines.running import OnStep, VideoOutput


def known_entries(unknown: Tensor, like: Tensor, step: int) -> Tensor:
    """Which of what is sampled is known: all of its pixels are.

    Args:
        unknown: bool [F, H, W].
        like: what is sampled, [1, C, F', h, w].
        step: T, frames that a latent frame stands for; the first stands for one.

    Returns:
        bool [1, 1, F', h, w].
    """
    holes = unknown.float()[None, None]
    if step > 1:
        rest = holes[:, :, 1:].unflatten(2, (-1, step)).amax(3) if holes.shape[2] > 1 else holes[:, :, 1:]
        holes = torch.cat([holes[:, :, :1], rest], 2)
    sides = (1, holes.shape[3] // like.shape[3], holes.shape[4] // like.shape[4])
    return max_pool3d(holes, sides, sides) == 0


def without_holes(frames: np.ndarray, unknown: np.ndarray) -> np.ndarray:
    """Frames whose unknown parts are closed from their borders, so that an autoencoder sees nothing of what is to go;
    wholly unknown frames are grey."""
    import cv2

    out = frames.copy()
    for frame, hole in zip(out, unknown, strict=True):
        if hole.all():
            frame[:] = 128
        elif hole.any():
            frame[:] = cv2.inpaint(frame, hole.astype(np.uint8), 3, cv2.INPAINT_TELEA)
    return out


def check_holes(unknown: np.ndarray) -> None:
    """Refuse a mask, bool [F, H, W], that asks for nothing.

    Raises:
        UserError: no pixel is to be drawn.
    """
    if not unknown.any():
        raise UserError("the mask is empty: nothing would be drawn; white (above half) is what is drawn anew")


def repaint(
    pipeline: VideoPipeline,
    frames: np.ndarray,
    unknown: np.ndarray,
    prompt: str | None,
    seed: int = 0,
    method: str = "reconstruction",
    weight: float = 4.0,
    on_step: OnStep | None = None,
    negative_prompt: str = "",
    **overrides: Any,
) -> VideoOutput:
    """Draw a part of each frame anew.

    Args:
        frames: uint8 [F, H, W, 3], of a size and length that the model takes.
        unknown: bool [F, H, W], True where it is drawn.
        method: of METHODS: no network here was trained with parts of frames.
        weight: w_r of reconstruction guidance.
        overrides: fields of SamplingConfig.

    Returns:
        Frames whose known pixels are the given ones.

    Raises:
        UserError: nothing to draw, nothing that stays, or an unknown method.
    """
    if method not in METHODS:
        raise UserError(f"unknown method {method!r}; Known: {', '.join(METHODS)}")
    check_holes(unknown)
    value = pipeline.to_samples(from_uint8(without_holes(frames, unknown))[None])
    mask = known_entries(torch.from_numpy(unknown), value, pipeline.frames_per_latent)
    if not bool(mask.any()):
        raise UserError("the mask leaves nothing that stays; make it smaller, or use `generate`")
    known = Known(value, mask, weight if method == "reconstruction" else 0.0)
    sampler = overrides.get("sampler") or CONTINUATION_SAMPLER
    size = {"num_frames": len(frames), "height": frames.shape[1], "width": frames.shape[2]}
    told: dict[str, Any] = {"negative_prompt": negative_prompt, "known": known, "on_step": on_step}
    made = pipeline(prompt, seed=seed, **told, **{**overrides, **size, "sampler": sampler})
    made.frames[0] = np.where(unknown[..., None], made.frames[0], frames)
    return made
