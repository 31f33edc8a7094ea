"""Larger and smoother videos from any text-to-video or unconditional model, by reconstruction guidance.

The model draws a video of its own size of which a small view is known: fewer pixels, fewer frames, or both.

    x̃ = x̂ - (w_r α_t / 2) ∇_z ‖x^lr - Down(x̂(z_t))‖²

Source: 2204.03458 section 3.1, eq. 8 and what follows it (joint spatial and temporal super-resolution).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from muybridge.diffusion.conditioning import Known, Measurement, frame_mask
from muybridge.diffusion.noise import derive_seed
from muybridge.errors import UserError
from muybridge.nn.frames import from_uint8, resized, to_uint8
from muybridge.pipelines.base import VideoPipeline
from muybridge.pipelines.methods import CONTINUATION_SAMPLER
from muybridge.pipelines.running import OnStep

#: w_r for each pixel that is known through Down, and for each that is known itself. With world-vdm 1.5 keeps a video
#: best: what is drawn, made small again, is 32 dB from it (1.0: 30 dB, 0.5: 21 dB; from 4 on the steps overshoot).
WEIGHT, OF_CONTEXT = 1.5, 4.0


def super_resolve(
    pipeline: VideoPipeline,
    frames: np.ndarray,
    prompt: str | None,
    space: int = 1,
    time: int = 1,
    seed: int = 0,
    weight: float | None = None,
    on_step: OnStep | None = None,
    **overrides: Any,
) -> np.ndarray:
    """Raise the size or the rate of a video, in blocks of the model's length; each block after the first also knows the
    last frames before it.

    Down is the bilinear, antialiased reduction of every `time`'th frame. The given frames are not copied: what comes
    back is the model's, and agrees with them as far as `weight` holds it to them.

    Args:
        frames: uint8 [F, h, w, 3]; h and w times `space` are the model's size.
        space, time: how many times the pixels a side, and the frames.
        weight: w_r; by default WEIGHT times the pixels that each known one stands for, space², since Down spreads its
            gradient over them.
        overrides: fields of SamplingConfig.

    Returns:
        uint8 [F time, h space, w space, 3].

    Raises:
        UserError: a video of another size, or a factor that leaves no frame of a block known.
    """
    settings = pipeline.settings(**overrides)
    count, height, width = len(frames) * time, frames.shape[1] * space, frames.shape[2] * space
    if (height, width) != (settings.height, settings.width):
        raise UserError(
            f"super-resolution {space} times draws {width}x{height} pixels of a video of {frames.shape[2]}x"
            f"{frames.shape[1]}, but this model draws {settings.width}x{settings.height}: give a video of "
            f"{settings.width / space:g}x{settings.height / space:g}, or another factor"
        )
    block = min(count, settings.num_frames - settings.num_frames % time)
    if block < time:
        raise UserError(f"a model of {settings.num_frames} frames cannot draw {time} for each that is known")
    held = WEIGHT * space**2 if weight is None else weight
    small = from_uint8(frames)[None]
    made = torch.zeros(1, 3, count, height, width)
    for turn, (start, known) in enumerate(_blocks(count, block, time)):
        view = small[:, :, start // time : (start + block) // time]
        options: dict[str, Any] = {"measurements": [_measurement(pipeline, view, time, held)]}
        if known:
            given = made[:, :, start : start + block].clone()
            options["known"] = Known(pipeline.to_samples(given), frame_mask(range(known), block), OF_CONTEXT)
        asked = {"sampler": CONTINUATION_SAMPLER, **overrides, "num_frames": block}
        out = pipeline(prompt, seed=derive_seed(seed, "block", turn), on_step=on_step, **options, **asked).samples
        made[:, :, start + known : start + block] = out[:, :, known:].to(made)
    return to_uint8(made)[0]


def blocks_of(frames: int, time: int, block: int) -> int:
    """How many blocks are drawn for a video of so many frames."""
    count = frames * time
    return len(list(_blocks(count, min(count, max(time, block - block % time)), time)))


def _blocks(count: int, block: int, time: int) -> Iterator[tuple[int, int]]:
    """(first frame, how many of its frames were drawn before): overlapping by half; the last ends with the video."""
    step = max(time, (block // 2) // time * time)
    start, end = 0, 0
    while end < count:
        start = min(start, count - block)
        yield start, end - start
        end = start + block
        start += step if step < block else block


def _measurement(pipeline: VideoPipeline, view: Tensor, time: int, weight: float) -> Measurement:
    """That the video, made small, is the view [1, 3, f, h, w]."""
    height, width = view.shape[3:]

    def down(x: Tensor) -> Tensor:
        return resized(pipeline.seen(x)[:, :, ::time], height, width)

    return Measurement(down, view.to(pipeline.device), weight)
