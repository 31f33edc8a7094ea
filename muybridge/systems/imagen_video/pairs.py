"""What a stage is given, and what it makes of it: pairs for training, and a video on its way up in sampling.

Sizes here are [B, 3, F, H, W].
"""

from __future__ import annotations

import torch
from torch import Tensor

from muybridge.errors import UserError
from muybridge.nn.frames import resized
from muybridge.systems.imagen_video.cascade import SPATIAL, TEMPORAL, StageConfig


def lowered(video: Tensor, stage: StageConfig) -> Tensor:
    """What the stage before makes, of a clip of this stage's size: fewer pixels, or every k-th frame."""
    if stage.kind == SPATIAL:
        return resized(video, video.shape[3] // stage.factor, video.shape[4] // stage.factor)
    if stage.kind == TEMPORAL:
        return video[:, :, :: stage.factor]
    raise UserError("the base of a cascade is given no video")


def raised(video: Tensor, stage: StageConfig) -> Tensor:
    """A given video at a stage's output size, [B, condition_channels, F, H, W]: bilinear in space; over time known
    frames repeated, or at every k-th place with blank frames between and a mask (1 where a frame is known).

    Source: 2210.02303 section 2.3; that blank frames are grey and have a mask is a choice.
    """
    if stage.kind == SPATIAL:
        return resized(video, video.shape[3] * stage.factor, video.shape[4] * stage.factor)
    if stage.kind != TEMPORAL:
        raise UserError("the base of a cascade is given no video")
    if stage.fill == "repeat":
        return video.repeat_interleave(stage.factor, 2)
    frames = video.shape[2] * stage.factor
    out = video.new_zeros(len(video), video.shape[1] + 1, frames, *video.shape[3:])
    out[:, :-1, :: stage.factor] = video
    out[:, -1, :: stage.factor] = 1
    return out


def raised_still(stills: Tensor, stage: StageConfig) -> Tensor:
    """What independent images [B, 3, M, H, W] of a stage's output size are told: themselves made small and large again,
    or, where a rate is raised, themselves."""
    if stage.kind == SPATIAL:
        return raised(lowered(stills, stage), stage)
    known = torch.ones_like(stills[:, :1])
    return torch.cat([stills, known], 1) if stage.condition_channels == 4 else stills
