"""SDEdit: a given video, noised to part of the way and drawn anew under other words."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from muybridge.diffusion.noise import Noise
from muybridge.diffusion.process import diffuse
from muybridge.errors import UserError
from muybridge.nn.frames import to_uint8
from muybridge.pipelines.base import VideoPipeline
from muybridge.pipelines.running import OnStep, VideoOutput, without_gradients


def steps_of(strength: float, steps: int) -> int:
    """How many of a run's steps are sampled.

    Raises:
        UserError: a strength out of range.
    """
    if not 0 <= strength <= 1:
        raise UserError(f"strength must be in 0..1, got {strength}")
    return round(strength * steps)


@without_gradients
def redraw(
    pipeline: VideoPipeline,
    video: Tensor,
    prompt: str | None,
    strength: float = 0.6,
    seed: int = 0,
    negative_prompt: str = "",
    on_step: OnStep | None = None,
    **overrides: Any,
) -> VideoOutput:
    """SDEdit. Source: 2108.01073.

    Args:
        video: pixels [1, 3, F, H, W] in [-1, 1], of the model's size.
        strength: share of the steps that are sampled; 1 forgets the video, 0 gives it back.

    Raises:
        UserError: a strength out of range, settings that cannot be sampled, or a model that cannot be told a video so.
    """
    frames, height, width = video.shape[2:]
    settings = pipeline.settings(num_frames=frames, height=height, width=width, **overrides)
    steps = settings.num_inference_steps
    sampled = steps_of(strength, steps)
    if sampled == 0:
        return VideoOutput(frames=to_uint8(video), samples=video)
    lams = pipeline.levels_for(settings)[steps - sampled :]
    noise = Noise([seed], pipeline.device)
    x = pipeline.to_samples(video)
    z = diffuse(x, noise(x.shape[1:], "start").to(x), lams[0])
    condition = pipeline.condition_on_video(prompt, video, settings)
    denoise = pipeline.denoiser(condition, pipeline.null(condition, negative_prompt), settings, settings.guidance_scale)
    return pipeline.finished(pipeline.run(denoise, z, lams, settings, noise, on_step))
