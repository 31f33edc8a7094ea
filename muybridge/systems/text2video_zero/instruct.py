"""Video Instruct-Pix2Pix: a given video edited by an instruction, its frames tied to the first (2303.13439 section
4.3)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from muybridge.diffusion.guidance import classifier_free_two
from muybridge.diffusion.noise import Noise
from muybridge.diffusion.prediction import Denoise
from muybridge.errors import UserError
from muybridge.pipelines.running import OnStep, VideoOutput, without_gradients
from muybridge.pipelines.settings import only_with
from muybridge.pipelines.zero_shot import View, ZeroShotPipeline
from muybridge.systems.text2video_zero.sampling import ZeroConfig, sample_in_chunks


@without_gradients
def instruct_video(
    pipeline: ZeroShotPipeline,
    frames: Tensor,
    instruction: str,
    seed: int = 0,
    image_scale: float = 1.0,
    chunk: int = 7,
    on_step: OnStep | None = None,
    noise: Noise | None = None,
    negative_prompt: str = "",
    **overrides: Any,
) -> VideoOutput:
    """Edit a video by an instruction with a user's InstructPix2Pix network (8 input channels).

    Args:
        frames: [1, 3, F, H, W] in [-1, 1].
        image_scale: guidance towards the given frames; `guidance_scale` is that towards the words. Source: 2211.09800
            eq. 3.

    Raises:
        UserError: a network without the further input channels.
    """
    channels = pipeline.space.channels
    if pipeline.network.config.in_channels != 2 * channels:
        raise UserError(
            f"not an InstructPix2Pix model: its network takes {pipeline.network.config.in_channels} channels, not "
            f"{2 * channels} (the noisy latents and the given picture's)"
        )
    if not 0 <= image_scale <= 100:
        raise UserError(f"image_scale must be in 0..100, got {image_scale}")
    count, height, width = frames.shape[2:]
    given = {**overrides, "num_frames": count, "height": height, "width": width}
    settings = pipeline.settings(**only_with("ddim", given, "Video Instruct-Pix2Pix"))
    if not settings.guided_throughout:
        raise UserError("guidance by picture and words acts throughout the run; leave guidance_start and guidance_end")
    words = pipeline.condition([instruction], settings)
    null = pipeline.null(words, negative_prompt)
    picture = pipeline.to_samples(frames) / pipeline.space.scale
    nothing = torch.zeros_like(picture)

    def seeing(view: View) -> Denoise:
        seen = {"keys": view.keys, "frames": view.frames}
        branches = (words, picture), (null, picture), (null, nothing)
        both, only_image, neither = (pipeline.closed(c.seen(**seen, beside=b)) for c, b in branches)
        return classifier_free_two(both, only_image, neither, settings.guidance_scale, image_scale)

    noise = noise or Noise([seed], pipeline.device)
    shape = (channels, 1, *picture.shape[3:])
    z = torch.cat([noise(shape, "start", k) for k in range(count)], 2)
    lams = pipeline.levels(settings.num_inference_steps)
    return pipeline.finished(
        sample_in_chunks(pipeline, seeing, z, lams, ZeroConfig(chunk=chunk), settings, on_step, noise)
    )
