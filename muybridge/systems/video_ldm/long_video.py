"""Longer videos in a latent space: prediction block by block, and frames put between key frames (2304.08818 section
3.2).

Memory does not grow with the length: blocks and windows are sampled a few at a time, and decoding runs in pieces.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from muybridge.diffusion.noise import derive_seed
from muybridge.errors import UserError
from muybridge.pipelines.inflated import InflatedPipeline
from muybridge.pipelines.running import OnStep

#: Frames of an interpolation window: both ends known, three between.
WINDOW = 5
FACTOR = WINDOW - 1


def predict_latents(
    pipeline: InflatedPipeline,
    prompt: str,
    num_frames: int,
    seed: int = 0,
    context: int = 2,
    start: Tensor | None = None,
    on_step: OnStep | None = None,
    **overrides: Any,
) -> Tensor:
    """Key frames, one block after another, each knowing the last frames before it.

    Two context frames tell the direction of a motion; one would not.

    Args:
        num_frames: of the result.
        context: known frames of every block after the first.
        start: latents to go on from, [1, C, F, h, w]; without them the first block is made from nothing.

    Returns:
        Latents [1, C, num_frames, h, w]; `start` comes back unchanged at its beginning.

    Raises:
        UserError: a model that takes no context frames, or settings that leave nothing to add.
    """
    _takes_context(pipeline)
    block = pipeline.settings(**overrides).num_frames
    if not 1 <= context < block:
        raise UserError(f"context must be in 1..{block - 1} for a model of {block} frames, got {context}")
    parts = [] if start is None else [start]
    made = 0 if start is None else start.shape[2]
    turn = 0
    while made < num_frames:
        given: dict[str, Tensor] = {}
        known = 0
        if parts:
            last = torch.cat([p.cpu() for p in parts[-2:]], 2)[:, :, -context:]
            known = last.shape[2]
            given = _known(last, range(known), block)
        new = pipeline(
            prompt,
            seed=derive_seed(seed, "block", turn),
            given=given,
            on_step=on_step,
            output="latents",
            **overrides,
        ).samples
        parts.append(new[:, :, known:])
        made, turn = made + block - known, turn + 1
    return torch.cat(parts, 2)[:, :, :num_frames]


def interpolate_latents(
    pipeline: InflatedPipeline,
    latents: Tensor,
    prompt: str,
    seed: int = 0,
    regime: int = 0,
    batch_size: int = 4,
    on_step: OnStep | None = None,
    **overrides: Any,
) -> Tensor:
    """Three frames between each two: T -> 4T - 3. Given frames come back unchanged, so that windows join on them.

    Args:
        latents: [1, C, T, h, w], T at least 2.
        regime: which of the two frame rates the model was trained on.
        batch_size: windows of one network call.

    Raises:
        UserError: fewer than two frames, or a model of another kind.
    """
    _takes_context(pipeline)
    count = latents.shape[2]
    if count < 2:
        raise UserError(f"interpolation needs at least 2 frames, got {count}")
    ends = torch.stack([latents[0, :, i : i + 2] for i in range(count - 1)])
    known = torch.zeros(count - 1, latents.shape[1], WINDOW, *latents.shape[3:])
    known[:, :, [0, -1]] = ends.to(known)
    mask = torch.zeros(count - 1, 1, WINDOW, 1, 1)
    mask[:, :, [0, -1]] = 1
    given = {"known": known, "known_mask": mask, "regime": torch.full((count - 1,), float(regime))}
    made = pipeline(
        [prompt] * (count - 1),
        seed=[derive_seed(seed, "gap", regime, i) for i in range(count - 1)],
        given=given,
        batch_size=batch_size,
        on_step=on_step,
        output="latents",
        **{**overrides, "num_frames": WINDOW},
    ).samples
    out = torch.zeros(1, latents.shape[1], FACTOR * (count - 1) + 1, *latents.shape[3:])
    out[:, :, ::FACTOR] = latents.to(out)
    for i in range(1, FACTOR):
        out[0, :, i::FACTOR] = made[:, :, i].transpose(0, 1).to(out)
    return out


def _known(frames: Tensor, places: range, block: int) -> dict[str, Tensor]:
    known = torch.zeros(1, frames.shape[1], block, *frames.shape[3:])
    known[:, :, list(places)] = frames.to(known)
    mask = torch.zeros(1, 1, block, 1, 1)
    mask[:, :, list(places)] = 1
    return {"known": known, "known_mask": mask}


def _takes_context(pipeline: InflatedPipeline) -> None:
    if not isinstance(pipeline, InflatedPipeline) or not pipeline.takes_known_frames:
        raise UserError("this model takes no known frames: it was not trained for prediction or interpolation")
