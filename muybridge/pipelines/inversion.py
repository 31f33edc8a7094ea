"""Editing a given video from the very noise it came from: DDIM inversion, and sampling from it under other words."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from muybridge.diffusion.noise import Noise
from muybridge.diffusion.samplers import invert_ddim
from muybridge.pipelines.base import VideoPipeline
from muybridge.pipelines.running import OnStep, VideoOutput, without_gradients
from muybridge.pipelines.settings import only_with


@without_gradients
def invert(
    pipeline: VideoPipeline, samples: Tensor, iterations: int = 5, on_step: OnStep | None = None, **overrides: Any
) -> Tensor:
    """The noise that DDIM turns into these samples, without words and guidance. Source: 2010.02502, 2212.11565.

    Each step solves for the latent from which the sampler's own step leads here, so that eps-, v- and x-predicting
    models invert alike; the network is told the level it will be told when sampling.

    Args:
        samples: [1, C, F, h, w] in the model's own space.
        iterations: fixed-point iterations a step, at least 1, which is the usual approximate inversion.
    """
    settings = pipeline.settings(num_frames=samples.shape[2], **overrides)
    denoise = pipeline.closed(pipeline.condition([""], settings))
    lams = pipeline.levels(settings.num_inference_steps).flip(0)
    for state in invert_ddim(denoise, samples.to(pipeline.device), lams, iterations):
        if on_step:
            on_step(state)
    return state.z


@without_gradients
def sample_from(
    pipeline: VideoPipeline,
    start: Tensor,
    prompt: str,
    seed: int = 0,
    negative_prompt: str = "",
    on_step: OnStep | None = None,
    **overrides: Any,
) -> VideoOutput:
    """DDIM from given noise [1, C, F, h, w] under words; the seed is of the noise that `eta` adds on the way."""
    given = only_with("ddim", {**overrides, "num_frames": start.shape[2]}, "a video's own noise")
    settings = pipeline.settings(**given)
    condition = pipeline.condition([prompt], settings)
    denoise = pipeline.denoiser(condition, pipeline.null(condition, negative_prompt), settings, settings.guidance_scale)
    lams = pipeline.levels(settings.num_inference_steps)
    noise = Noise([seed], pipeline.device)
    return pipeline.finished(pipeline.run(denoise, start.to(pipeline.device), lams, settings, noise, on_step))
