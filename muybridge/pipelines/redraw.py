"""Editing a given video: by noise and new words (SDEdit), or from the very noise it came from (DDIM inversion)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from muybridge.diffusion.guidance import thresholded
from muybridge.diffusion.noise import Noise
from muybridge.diffusion.process import diffuse
from muybridge.diffusion.samplers import SamplerState, sampler_named
from muybridge.errors import UserError
from muybridge.nn.frames import to_uint8
from muybridge.pipelines.base import VideoOutput, VideoPipeline

OnStep = Callable[[SamplerState], None]


def redraw(
    pipeline: VideoPipeline,
    video: Tensor,
    prompt: str | None,
    strength: float = 0.6,
    seed: int = 0,
    on_step: OnStep | None = None,
    **overrides: Any,
) -> VideoOutput:
    """SDEdit: noise a video to part of the way and sample from there under new words. Source: 2108.01073.

    Args:
        video: pixels [1, 3, F, H, W] in [-1, 1], of the model's size.
        strength: share of the steps that are sampled; 1 forgets the video, 0 gives it back.

    Raises:
        UserError: a strength out of range, or settings that cannot be sampled.
    """
    if not 0 <= strength <= 1:
        raise UserError(f"strength must be in 0..1, got {strength}")
    frames, height, width = video.shape[2:]
    settings = pipeline.settings(num_frames=frames, height=height, width=width, **overrides)
    steps = settings.num_inference_steps
    skipped = steps - round(strength * steps)
    if skipped == steps:
        return VideoOutput(frames=to_uint8(video), samples=video)
    lams = pipeline.levels(steps, settings.sampler)[skipped:]
    noise = Noise([seed], pipeline.device)
    x = pipeline.to_samples(video)
    z = diffuse(x, noise(x.shape[1:], "start").to(x), lams[0])
    condition = pipeline.condition_on_video(prompt, video, settings)
    denoise = thresholded(pipeline.denoiser(condition, settings, settings.guidance_scale), settings.threshold)
    with torch.no_grad():
        for state in sampler_named(settings.sampler)(denoise, z, lams, noise):
            if on_step:
                on_step(state)
        pixels = pipeline.to_pixels(state.z)
    return VideoOutput(frames=to_uint8(pixels), samples=pixels)
