"""One video that gradually becomes another, frame by frame over its whole length."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from muybridge.diffusion.noise import Noise
from muybridge.diffusion.prediction import Denoise
from muybridge.diffusion.process import diffuse
from muybridge.errors import UserError
from muybridge.pipelines.base import VideoPipeline
from muybridge.pipelines.redraw import steps_of
from muybridge.pipelines.running import OnStep, VideoOutput, without_gradients


def freed_at(count: int, strength: float, lams: Tensor) -> Tensor:
    """The log-SNR from which each frame is drawn freely, [count]; infinite for frames that are kept to the end.

        share_f = strength (1 - |2 f / (count - 1) - 1|)

    of the steps are drawn, so that both ends stay what they are and the middle is freest.

    Args:
        lams: log-SNR levels of the whole run, ascending, [steps + 1].
    """
    steps = len(lams) - 1
    shares = strength * (1 - (torch.linspace(0, 2, count) - 1).abs())
    drawn = [steps_of(float(share), steps) for share in shares]
    return torch.tensor([float(lams[steps - n]) if n else torch.inf for n in drawn])


def held(denoise: Denoise, base: Tensor, freed: Tensor) -> Denoise:
    """A denoiser whose frames are those of `base` until they are freed: x̂_f := base_f while λ < freed_f.

    A sampler that started at q(z | base) then walks such a frame along q(z_t | base_f) by itself.

    Args:
        base: [B, C, F, H, W].
        freed: log-SNR a frame, [F].
    """

    def wrapped(z: Tensor, lam: Tensor) -> Tensor:
        free = lam.reshape(-1, 1) >= freed.to(lam) - 1e-4  # [B or 1, F]
        return torch.where(free[:, None, :, None, None], denoise(z, lam), base.to(z))

    return wrapped


@without_gradients
def blend(
    pipeline: VideoPipeline,
    first: Tensor,
    second: Tensor,
    prompt: str | None,
    strength: float = 0.8,
    seed: int = 0,
    negative_prompt: str = "",
    on_step: OnStep | None = None,
    **overrides: Any,
) -> VideoOutput:
    """Turn one video gradually into another: it begins as the first and ends as the second.

        base_f = (1 - r_f) A_f + r_f B_f,   r_f = f / (F - 1)

    noised and drawn anew, each frame by its own share of the steps (`freed_at`).

    Args:
        first, second: pixels [1, 3, F, H, W] in [-1, 1], both of one size and the model's.
        strength: share of the steps in which the middle frame is drawn; 0 is a cross-fade.

    Raises:
        UserError: a strength out of range, videos of two sizes, one frame, or settings that cannot be sampled.

    Source: what is described in "Video generation models as world simulators" (OpenAI 2024, gradual interpolation
    between two input videos); how it is done there is not told. Frames drawn from levels of their own: 2108.01073.
    """
    if first.shape != second.shape or first.shape[2] < 2:
        raise UserError(
            f"blend: expected two videos of the same size with two frames or more, got {tuple(first.shape[2:])} and "
            f"{tuple(second.shape[2:])}"
        )
    frames, height, width = first.shape[2:]
    settings = pipeline.settings(num_frames=frames, height=height, width=width, **overrides)
    a, b = pipeline.to_samples(first), pipeline.to_samples(second)
    share = torch.linspace(0, 1, a.shape[2], device=a.device).reshape(1, 1, -1, 1, 1).to(a)
    base = (1 - share) * a + share * b
    steps, lams = settings.num_inference_steps, pipeline.levels_for(settings)
    sampled = steps_of(strength, steps)
    if sampled == 0:
        return pipeline.finished(base)
    noise = Noise([seed], pipeline.device)
    start = lams[steps - sampled :]
    z = diffuse(base, noise(base.shape[1:], "start").to(base), start[0])
    condition = pipeline.condition_on_video(prompt, first, settings)
    null = pipeline.null(condition, negative_prompt)
    denoise = pipeline.denoiser(condition, null, settings, settings.guidance_scale)
    freed = freed_at(a.shape[2], strength, lams)
    out = pipeline.run(held(denoise, base, freed), z, start, settings, noise, on_step)
    kept = freed.isinf().to(out.device)[None, None, :, None, None]
    return pipeline.finished(torch.where(kept, base.to(out), out))
