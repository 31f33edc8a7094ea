"""Longer and smoother videos from any text-to-video checkpoint: by given frames where it was trained with them, by
reconstruction guidance or replacement elsewhere.

Source: 2204.03458 section 3.1: block-autoregressive extension and temporal interpolation; Sora's report names extension
both ways, loops and videos between two.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from muybridge.diffusion.conditioning import Known
from muybridge.diffusion.noise import derive_seed
from muybridge.errors import UserError
from muybridge.nn.frames import from_uint8, to_uint8
from muybridge.pipelines.base import VideoPipeline
from muybridge.pipelines.methods import CONTINUATION_SAMPLER, EVERY_METHOD, TRAINED, method_of
from muybridge.pipelines.running import OnStep

#: (known frames, their places, seed) -> the block, completed.
Fill = Callable[[Tensor, Sequence[int], int], Tensor]


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
    negative_prompt: str = "",
    backward: bool = False,
    anchor_frames: int = 0,
    **overrides: Any,
) -> np.ndarray:
    """Append frames, or put them in front, one block after another, each knowing the frames beside it.

    Args:
        frames: uint8 [F, H, W, 3], the video so far; its frames are not rewritten.
        add_frames: how many to append.
        context_frames: how many of the last frames each block knows, at most all; half of the model's by default. A
            model that compresses time takes the next lower 1 + k T.
        method: of EVERY_METHOD.
        weight: w_r of reconstruction guidance.
        backward: go on before the first frame in place of behind the last.
        anchor_frames: of the video's first ones each block also knows, behind which the context lies: against drift.
        overrides: fields of SamplingConfig.

    Returns:
        uint8 [F + add_frames, H, W, 3].

    Raises:
        UserError: a size the model does not take, or settings that leave nothing to add.
    """
    block = pipeline.settings(**overrides).num_frames
    if block < 2:
        raise UserError(f"going on needs a model of at least 2 frames, got {block}")
    if anchor_frames and backward:
        raise UserError("anchor_frames: going on before the first frame, there is no earlier one to keep")
    if add_frames < 1:
        raise UserError(f"add_frames must be at least 1, got {add_frames}")
    context, turns = plan_extension(pipeline, block, len(frames), add_frames, context_frames, backward, anchor_frames)
    fill = filler(pipeline, (prompt, negative_prompt), method, weight, on_step, overrides)
    video, given = from_uint8(frames)[None], anchor_frames + context
    for turn in range(turns):
        known = torch.zeros(1, video.shape[1], block, *video.shape[3:])
        key = derive_seed(seed, "extend", turn)
        if backward:
            known[:, :, -context:] = video[:, :, :context]
            new = fill(known, range(block - context, block), key)[:, :, :-context]
            video = torch.cat([new.to(video), video], 2)
        else:
            known[:, :, :given] = torch.cat([video[:, :, :anchor_frames], video[:, :, -context:]], 2)
            video = torch.cat([video, fill(known, range(given), key)[:, :, given:].to(video)], 2)
    made = to_uint8(video)[0]
    if backward:
        before = len(made) - len(frames)
        return np.concatenate([made[before - add_frames : before], frames])
    return np.concatenate([frames, made[len(frames) : len(frames) + add_frames]])


def plan_extension(
    pipeline: VideoPipeline, block: int, have: int, add: int, context: int | None, backward: bool, anchor: int
) -> tuple[int, int]:
    """How many frames at its end each block of `extend_video` knows, and how many blocks it takes, of a video of `have`
    frames; the others as there.

    Raises:
        UserError: none would be known, or none new.
    """
    known = _context(pipeline, context or _half(pipeline, block, backward), block, backward, have, anchor)
    return known, -(-add // (block - anchor - known))


def _least(pipeline: VideoPipeline, at_end: bool) -> int:
    """How few frames can be given: where T frames are one latent frame, the end of a block takes 1 + T."""
    step = pipeline.frames_per_latent
    return 1 + step * (step > 1 and at_end)


def _half(pipeline: VideoPipeline, block: int, at_end: bool) -> int:
    """Half a block, of 1 + T k frames 1 + T k / 2."""
    half = (block + (pipeline.frames_per_latent > 1)) // 2
    return max(half, _least(pipeline, at_end))


def _context(pipeline: VideoPipeline, wanted: int, block: int, at_end: bool, have: int, anchor: int = 0) -> int:
    """How many frames of a block are given at one of its ends, of a video of so many.

    Raises:
        UserError: none, or none that would be new, or a video that is too short.
    """
    step, least = pipeline.frames_per_latent, _least(pipeline, at_end)
    beside = f" beside {anchor} anchor_frames" if anchor else ""
    if have - anchor < least:
        raise UserError(f"a video of {have} frames: at least {least}{beside} must be known; take a longer one")
    taken = min(wanted, have - anchor)
    context = taken - (anchor + taken - 1) % step
    if not least <= context < block - anchor:
        raise UserError(
            f"context_frames must be in {least}..{block - anchor - 1} for a model of {block} frames{beside}, got "
            f"{wanted}; num_frames is how many are drawn at once"
        )
    return context


def bridge(
    pipeline: VideoPipeline,
    before: np.ndarray,
    after: np.ndarray,
    prompt: str | None,
    seed: int = 0,
    context_frames: int | None = None,
    method: str = "auto",
    weight: float = 4.0,
    on_step: OnStep | None = None,
    negative_prompt: str = "",
    **overrides: Any,
) -> np.ndarray:
    """Frames that lead from one video's end to another's start: one block that knows both. A video's own start makes a
    loop of it.

    Args:
        before, after: uint8 [F, H, W, 3] of one size.
        context_frames: how many of the frames at each end the block knows; a quarter of it by default.
        others: as of `extend_video`.

    Returns:
        uint8 [block - known frames, H, W, 3], the new frames alone.

    Raises:
        UserError: settings that leave nothing new.
    """
    block = pipeline.settings(**overrides).num_frames
    wanted = context_frames or max(_least(pipeline, True), block // 4)
    head = _context(pipeline, wanted, block, False, len(before))
    tail = _context(pipeline, wanted, block, True, len(after))
    if head + tail >= block:
        raise UserError(
            f"context_frames {wanted} at each end leave nothing new in a block of {block} frames; take a larger "
            "num_frames, or fewer context_frames"
        )
    known = torch.zeros(1, 3, block, *before.shape[1:3])
    known[:, :, :head] = from_uint8(before[len(before) - head :])[None]
    known[:, :, block - tail :] = from_uint8(after[:tail])[None]
    fill = filler(pipeline, (prompt, negative_prompt), method, weight, on_step, overrides)
    out = fill(known, [*range(head), *range(block - tail, block)], derive_seed(seed, "bridge"))
    return to_uint8(out[:, :, head : block - tail])[0]


def bring_to_life(
    pipeline: VideoPipeline,
    picture: np.ndarray,
    prompt: str | None,
    seed: int = 0,
    method: str = "auto",
    weight: float = 4.0,
    on_step: OnStep | None = None,
    negative_prompt: str = "",
    **overrides: Any,
) -> np.ndarray:
    """A video whose first frame is given.

    Args:
        picture: uint8 [1, H, W, 3].
        others: as of `extend_video`.

    Returns:
        uint8 [F, H, W, 3]; the first frame is the picture.
    """
    new = pipeline.settings(**overrides).num_frames - 1
    return extend_video(pipeline, picture, prompt, new, seed, 1, method, weight, on_step, negative_prompt, **overrides)


def interpolate_video(
    pipeline: VideoPipeline,
    frames: np.ndarray,
    prompt: str | None,
    factor: int = 2,
    seed: int = 0,
    method: str = "reconstruction",
    weight: float = 4.0,
    on_step: OnStep | None = None,
    negative_prompt: str = "",
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
    if pipeline.frames_per_latent > 1:
        raise UserError(
            f"this model draws {pipeline.frames_per_latent} frames at once, so it cannot put frames between single "
            "ones; take one that draws frames, such as world-vdm"
        )
    if len(frames) < 2:
        raise UserError(f"interpolation needs at least 2 frames, got {len(frames)}")
    block = pipeline.settings(**overrides).num_frames
    if block < 3:
        raise UserError(f"interpolation needs a model of at least 3 frames, got {block}")
    fill = filler(pipeline, (prompt, negative_prompt), method, weight, on_step, overrides)
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


def filler(
    pipeline: VideoPipeline,
    words: tuple[str | None, str],
    method: str,
    weight: float,
    on_step: OnStep | None,
    overrides: dict[str, Any],
) -> Fill:
    """What completes a block [1, 3, F, H, W] of which the frames at some places are known.

    Args:
        words: prompt and negative prompt.
    """
    if method not in EVERY_METHOD:
        raise UserError(f"unknown method {method!r}; Known: {', '.join(EVERY_METHOD)}")
    way = method_of(method, pipeline.trained_with_given_frames)
    guided, replace = way == "reconstruction", "clean" if way == TRAINED else "fresh"

    def fill(known: Tensor, places: Sequence[int], seed: int) -> Tensor:
        height, width = known.shape[-2:]
        known = _filled(known, pipeline.multiple)
        value, mask = pipeline.known_samples(known, places)
        given = Known(value, mask, weight if guided else 0.0, replace)
        sampler = overrides.get("sampler") or (None if way == TRAINED else CONTINUATION_SAMPLER)
        settings = {**overrides, "sampler": sampler, "height": known.shape[-2], "width": known.shape[-1]}
        told = {"negative_prompt": words[1], "known": given, "on_step": on_step, **settings}
        made: Tensor = pipeline(words[0], seed=seed, **told).samples
        return made[..., :height, :width]

    return fill


def _filled(video: Tensor, multiple: int) -> Tensor:
    """The last row and column of [1, 3, F, H, W] repeated until both sides are multiples."""
    height, width = (torch.arange(n + -n % multiple).clamp(max=n - 1) for n in video.shape[-2:])
    return video[..., height, :][..., width]
