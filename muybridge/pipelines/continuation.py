"""Longer and smoother videos from any text-to-video checkpoint, by reconstruction guidance or replacement.

Source: 2204.03458 section 3.1: block-autoregressive extension and temporal interpolation.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from muybridge.diffusion.conditioning import Known, frame_mask
from muybridge.diffusion.noise import derive_seed
from muybridge.errors import UserError
from muybridge.nn.frames import from_uint8, to_uint8
from muybridge.pipelines.base import VideoPipeline
from muybridge.pipelines.methods import CONTINUATION_SAMPLER, METHODS
from muybridge.pipelines.running import OnStep

#: (known frames, their places, seed) -> the block, completed.
Fill = Callable[[Tensor, range, int], Tensor]


def enlargement_of(pipeline: VideoPipeline, frames: np.ndarray) -> int:
    """How many times as large as the model's frames a whole enlargement (`--upscale`) made these; 1 for others."""
    factor, rest = divmod(frames.shape[1], pipeline.working_settings().height)
    return 1 if rest or factor < 2 or frames.shape[2] % factor else factor


def reduced(frames: np.ndarray, factor: int, mean: bool = False) -> np.ndarray:
    """Undo an enlargement: of each square of pixels the middle one, or where pixels were not repeated their mean.

    Args:
        frames: uint8 [F, H, W, 3], sides multiples of `factor`.
    """
    if factor == 1:
        return frames
    if not mean:
        return frames[:, factor // 2 :: factor, factor // 2 :: factor]
    height, width = (side // factor for side in frames.shape[1:3])
    squares = (frame.reshape(height, factor, width, factor, 3) for frame in frames)
    return np.stack([(square.mean((1, 3)) + 0.5).astype(np.uint8) for square in squares])


def pixels_repeat(frames: np.ndarray, factor: int) -> bool:
    """Whether the first frame's neighbours differ at the borders of squares of `factor` pixels and hardly inside, where
    encoding alone makes differences; true of one colour."""
    first = frames[0].astype(np.float32)
    inside = across = 0.0
    for axis in (0, 1):
        steps = np.abs(np.diff(first, axis=axis)).mean((1 - axis, 2))
        border = np.arange(1, len(steps) + 1) % factor == 0
        inside += float(steps[~border].mean())
        across += float(steps[border].mean()) if border.any() else 0.0
    return 2 * inside <= across


def extend_video(
    pipeline: VideoPipeline,
    frames: np.ndarray,
    prompt: str | None,
    add_frames: int,
    seed: int = 0,
    context_frames: int | None = None,
    method: str = "reconstruction",
    weight: float = 4.0,
    on_step: OnStep | None = None,
    **overrides: Any,
) -> np.ndarray:
    """Append frames, one block after another, each knowing the last frames before it.

    Args:
        frames: uint8 [F, H, W, 3], the video so far; its frames are not rewritten.
        add_frames: how many to append.
        context_frames: how many of the last frames each block knows; half of the model's frames by default.
        method: "reconstruction" guidance or plain "replacement".
        weight: w_r of reconstruction guidance.
        overrides: fields of SamplingConfig.

    Returns:
        uint8 [F + add_frames, H, W, 3].

    Raises:
        UserError: a size the model does not take, or settings that leave nothing to add.
    """
    block = pipeline.settings(**overrides).num_frames
    if block < 2:
        raise UserError(f"going on needs a model of at least 2 frames, got {block}")
    context = min(context_frames or block // 2, len(frames))
    if add_frames < 1:
        raise UserError(f"add_frames must be at least 1, got {add_frames}")
    if not 1 <= context < block:
        raise UserError(f"context_frames must be in 1..{block - 1} for a model of {block} frames, got {context}")
    fill = _filler(pipeline, prompt, method, weight, on_step, overrides)
    video = from_uint8(frames)[None]
    for turn in range(-(-add_frames // (block - context))):
        known = torch.zeros(1, video.shape[1], block, *video.shape[3:])
        known[:, :, :context] = video[:, :, -context:]
        out = fill(known, range(context), derive_seed(seed, "extend", turn))
        video = torch.cat([video, out[:, :, context:].to(video)], 2)
    new = to_uint8(video)[0, len(frames) : len(frames) + add_frames]
    return np.concatenate([frames, new])


def interpolate_video(
    pipeline: VideoPipeline,
    frames: np.ndarray,
    prompt: str | None,
    factor: int = 2,
    seed: int = 0,
    method: str = "reconstruction",
    weight: float = 4.0,
    on_step: OnStep | None = None,
    **overrides: Any,
) -> np.ndarray:
    """Put frames between the given ones, doubling the rate as often as needed.

    Windows share one known frame, so that seams coincide with known frames.

    Args:
        factor: 2, 4, 8, ...: F frames become factor (F - 1) + 1.

    Raises:
        UserError: a factor that is no power of two, fewer than two frames, or a model of fewer than three.
    """
    if factor < 2 or factor & (factor - 1):
        raise UserError(f"factor must be 2, 4, 8, ..., got {factor}")
    if len(frames) < 2:
        raise UserError(f"interpolation needs at least 2 frames, got {len(frames)}")
    block = pipeline.settings(**overrides).num_frames
    if block < 3:
        raise UserError(f"interpolation needs a model of at least 3 frames, got {block}")
    fill = _filler(pipeline, prompt, method, weight, on_step, overrides)
    for level in range(factor.bit_length() - 1):
        frames = _double(fill, frames, block, derive_seed(seed, "level", level))
    return frames


def _double(fill: Fill, frames: np.ndarray, block: int, seed: int) -> np.ndarray:
    keys = (block + 1) // 2  # known frames of one window: 0, 2, 4, ...
    source = from_uint8(frames)
    out = torch.zeros(source.shape[0], 2 * len(frames) - 1, *source.shape[2:])
    out[:, ::2] = source
    start = 0
    while start < len(frames) - 1:
        first = max(0, min(start, len(frames) - keys))
        part = source[:, first : first + keys]
        known = torch.zeros(1, source.shape[0], block, *source.shape[2:])
        known[0, :, : 2 * part.shape[1] : 2] = part
        filled = fill(known, range(0, 2 * part.shape[1], 2), derive_seed(seed, "window", start))
        between = slice(2 * (start - first), 2 * part.shape[1] - 1)
        out[:, 2 * start : 2 * (first + part.shape[1]) - 1] = filled[0, :, between].to(out)
        start = first + part.shape[1] - 1
    out[:, ::2] = source
    return to_uint8(out[None])[0]


def _filler(
    pipeline: VideoPipeline,
    prompt: str | None,
    method: str,
    weight: float,
    on_step: OnStep | None,
    overrides: dict[str, Any],
) -> Fill:
    """What completes a block [1, 3, F, H, W] of which the frames at some places are known."""
    if method not in METHODS:
        raise UserError(f"unknown method {method!r}; Known: {', '.join(METHODS)}")

    def fill(known: Tensor, places: range, seed: int) -> Tensor:
        mask = frame_mask(places, known.shape[2])
        given = Known(pipeline.to_samples(known), mask, weight if method == "reconstruction" else 0.0)
        sampler = overrides.get("sampler") or CONTINUATION_SAMPLER
        settings = {**overrides, "sampler": sampler, "height": known.shape[-2], "width": known.shape[-1]}
        made: Tensor = pipeline(prompt, seed=seed, known=given, on_step=on_step, **settings).samples
        return made

    return fill
