"""Editing a given video from the very noise it came from: DDIM inversion, and sampling from it under other words."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from muybridge.diffusion.guidance import thresholded
from muybridge.diffusion.samplers import SamplerState, invert_ddim, sample_ddim
from muybridge.nn.frames import to_uint8
from muybridge.pipelines.base import VideoOutput, VideoPipeline

OnStep = Callable[[SamplerState], None]


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
