"""Editing a given video: by noise and new words (SDEdit), or from the very noise it came from (DDIM inversion)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from muybridge.diffusion.guidance import thresholded
from muybridge.diffusion.noise import Noise
from muybridge.diffusion.process import diffuse
from muybridge.diffusion.samplers import SamplerState, invert_ddim, sample_ddim, sampler_named
from muybridge.errors import UserError
from muybridge.systems.pipeline import VideoOutput, VideoPipeline, to_uint8

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
    lams = pipeline.levels(steps)[skipped:]
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


@torch.no_grad()
def invert(
    pipeline: VideoPipeline, samples: Tensor, iterations: int = 5, on_step: OnStep | None = None, **overrides: Any
) -> Tensor:
    """The noise that DDIM turns into these samples, without words and guidance. Source: 2010.02502, 2212.11565.

    Each step solves for the latent from which the sampler's own step leads here, so that eps-, v- and x-predicting models
    invert alike; the network is told the level it will be told when sampling.

    Args:
        samples: [1, C, F, h, w] in the model's own space.
        iterations: fixed-point iterations a step; 1 is the usual approximate inversion.
    """
    settings = pipeline.settings(num_frames=samples.shape[2], **overrides)
    denoise = pipeline.denoiser(pipeline.condition([""], settings), settings, 1.0)
    lams = pipeline.levels(settings.num_inference_steps).flip(0)
    for state in invert_ddim(denoise, samples, lams, iterations):
        if on_step:
            on_step(state)
    return state.z


@torch.no_grad()
def sample_from(
    pipeline: VideoPipeline, start: Tensor, prompt: str, on_step: OnStep | None = None, **overrides: Any
) -> VideoOutput:
    """DDIM from given noise [1, C, F, h, w] under words."""
    settings = pipeline.settings(num_frames=start.shape[2], **overrides)
    denoise = pipeline.denoiser(pipeline.condition([prompt], settings), settings, settings.guidance_scale)
    lams = pipeline.levels(settings.num_inference_steps)
    for state in sample_ddim(thresholded(denoise, settings.threshold), start, lams):
        if on_step:
            on_step(state)
    pixels = pipeline.to_pixels(state.z)
    return VideoOutput(frames=to_uint8(pixels), samples=pixels)
