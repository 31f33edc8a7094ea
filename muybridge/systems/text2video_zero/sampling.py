"""Text2Video-Zero (2303.13439): video from an image model without training.

Frame 1 is the image model's own picture. The other frames start from its half-denoised latent, moved and noised again, and
all frames take keys and values from frame 1 in every self-attention layer. With control pictures all frames start from one
noise instead; with an InstructPix2Pix network the frames of a given video are edited.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate, max_pool2d

from muybridge.diffusion.guidance import classifier_free_two, thresholded
from muybridge.diffusion.motion_field import REFERENCE_SIZE, move
from muybridge.diffusion.noise import Noise
from muybridge.diffusion.prediction import Denoise, to_x
from muybridge.diffusion.process import renoise
from muybridge.diffusion.samplers import SamplerState, sample_ddim
from muybridge.errors import UserError
from muybridge.nn.frames import to_uint8
from muybridge.pipelines.base import VideoOutput
from muybridge.pipelines.settings import SamplingConfig
from muybridge.pipelines.zero_shot import ZeroShotPipeline

OnStep = Callable[[SamplerState], None]
#: frames uint8 [F, H, W, 3] -> foreground [F, H, W], above 0.5 on the object
Masks = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class ZeroConfig:
    """What makes frames move and keeps them together.

    Attributes:
        motion: (x, y) a frame, in pixels of a 512-pixel frame; positive moves the picture left and up. lambda delta.
        motion_field: False starts every frame from its own noise.
        moved_at, joined_at: shares of the run: frame 1 is denoised to `moved_at`, moved, and noised back to `joined_at`,
            where all frames start (T' and T: steps 5 and 2 of the paper's 50).
        attention: whose tokens frames attend to: "first" (the paper's), "own" (none), "first_previous", "full".
        chunk: frames of one network call beside the first; results do not depend on it beyond rounding.
        background: alpha, how much of the moved first background replaces each frame's; 0 is off, the paper has 0.6.
    """

    motion: tuple[float, float] = (12.0, 12.0)
    motion_field: bool = True
    moved_at: float = 0.1
    joined_at: float = 0.04
    attention: str = "first"
    chunk: int = 7
    background: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.joined_at <= self.moved_at < 1:
            raise UserError(
                f"joined_at and moved_at are shares of the run with joined_at first, got {self.joined_at}, {self.moved_at}"
            )
        if self.chunk < 1:
            raise UserError(f"chunk must be at least 1 frame, got {self.chunk}")
        if not 0 <= self.background <= 1:
            raise UserError(f"background must be in 0..1, got {self.background}")


def text_to_video_zero(
    pipeline: ZeroShotPipeline,
    prompt: str,
    seed: int = 0,
    config: ZeroConfig = ZeroConfig(),
    masks: Masks | None = None,
    noise: Noise | None = None,
    on_step: OnStep | None = None,
    **overrides: Any,
) -> VideoOutput:
    """Words to video; under the pipeline's controls, if it has any, words and control pictures to video.

    Args:
        masks: foreground detector, for background smoothing.
        noise: draws in place of the seed's own ("start" of one frame, "renoise" of frame k at step k).
        overrides: fields of SamplingConfig; the sampler is DDIM.

    Raises:
        UserError: settings that cannot be sampled, or background smoothing without masks.
    """
    settings = pipeline.settings(**overrides)
    if config.background and masks is None:
        raise UserError("background smoothing needs foreground masks")
    if config.attention == "first_previous" and config.chunk < settings.num_frames - 1:
        raise UserError("attention 'first_previous' looks at the frame before: give a chunk of all frames")
    text = pipeline.condition([prompt], settings)
    denoise = thresholded(pipeline.denoiser(text, settings, settings.guidance_scale), settings.threshold)
    lams = pipeline.levels(settings.num_inference_steps)
    noise = noise or Noise([seed], pipeline.device)
    z, start = _start(pipeline, denoise, lams, noise, config, settings, on_step)
    samples = _together(pipeline, denoise, z, lams[start:], config, on_step)
    if config.background and masks is not None:
        z = _with_one_background(pipeline, z, samples, masks, config)
        samples = _together(pipeline, denoise, z, lams[start:], config, on_step)
    pixels = pipeline.to_pixels(samples)
    return VideoOutput(frames=to_uint8(pixels), samples=pixels)


def network_steps(config: ZeroConfig, frames: int, steps: int, controlled: bool = False) -> int:
    """Steps that a run reports, for a progress bar."""
    chunks = -(-max(1, frames - 1) // config.chunk)
    if controlled or not config.motion_field:
        return chunks * steps
    joined, moved = _places(config, steps)
    return moved + chunks * (steps - joined) * (2 if config.background else 1)


def _places(config: ZeroConfig, steps: int) -> tuple[int, int]:
    """Step indices of T and T': shares of the run, never fixed times, so that any number of steps works."""
    return round(config.joined_at * steps), min(steps - 1, round(config.moved_at * steps))


def _start(
    pipeline: ZeroShotPipeline,
    denoise: Denoise,
    lams: Tensor,
    noise: Noise,
    config: ZeroConfig,
    settings: SamplingConfig,
    on_step: OnStep | None,
) -> tuple[Tensor, int]:
    """Latents of all frames at the level where they are joined, and its step."""
    channels, frames, height, width = pipeline.sample_shape(settings)
    first = noise((channels, 1, height, width), "start")
    if pipeline.controls:
        return first.repeat(1, 1, frames, 1, 1), 0
    if not config.motion_field:
        others = [noise((channels, 1, height, width), "start", k) for k in range(1, frames)]
        return torch.cat([first, *others], 2), 0
    joined, moved = _places(config, settings.num_inference_steps)
    states = {0: first}
    for state in sample_ddim(denoise, first, lams[: moved + 1]):
        states[state.step + 1] = state.z
        if on_step:
            on_step(state)
    rows = [states[joined]]
    for k in range(1, frames):
        shifted = move(states[moved], (k * config.motion[0], k * config.motion[1]), REFERENCE_SIZE)
        if moved > joined:
            shifted = renoise(shifted, lams[moved], lams[joined], noise(shifted.shape[1:], "renoise", k))
        rows.append(shifted)
    return torch.cat(rows, 2), joined


def _together(
    pipeline: ZeroShotPipeline,
    denoise: Denoise,
    z: Tensor,
    lams: Tensor,
    config: ZeroConfig,
    on_step: OnStep | None,
) -> Tensor:
    """All frames from z to clean, a chunk at a time, each chunk with the first frame, which sees only itself."""
    out = torch.empty_like(z)
    for rows in chunks_with_first(z.shape[2], config.chunk):
        keys = pipeline.keys(config.attention, len(rows))
        with pipeline.view(keys, rows, keys):
            for state in sample_ddim(denoise, z[:, :, rows], lams):
                if on_step:
                    on_step(state)
        fresh = slice(0, None) if rows[1:].numel() == 0 or rows[1] == 1 else slice(1, None)
        out[:, :, rows[fresh]] = state.z[:, :, fresh]
    return out


def chunks_with_first(frames: int, chunk: int) -> Iterator[Tensor]:
    """Frame indices of each network call: the first frame, then up to `chunk` others."""
    if frames == 1:
        yield torch.zeros(1, dtype=torch.long)
    for first in range(1, frames, chunk):
        yield torch.tensor([0, *range(first, min(first + chunk, frames))])


def _with_one_background(
    pipeline: ZeroShotPipeline, z: Tensor, samples: Tensor, masks: Masks, config: ZeroConfig
) -> Tensor:
    """Blend each frame's background with the first one's, moved with the camera. Source: 2303.13439 section 3.3.3."""
    found = torch.from_numpy(np.asarray(masks(to_uint8(pipeline.to_pixels(samples))[0]), np.float32))
    small = interpolate(found[:, None], size=z.shape[-2:], mode="nearest")
    objects = (max_pool2d(small, 5, 1, 2) > 0.5).to(z)[:, 0]
    out = z.clone()
    for k in range(1, z.shape[2]):
        delta = (k * config.motion[0], k * config.motion[1])
        seen = move((1 - objects[0]), delta)
        background = (1 - objects[k]) * seen
        moved = move(z[:, :, 0], delta)
        mixed = config.background * moved + (1 - config.background) * z[:, :, k]
        out[:, :, k] = background * mixed + (1 - background) * z[:, :, k]
    return out


def instruct_video(
    pipeline: ZeroShotPipeline,
    frames: Tensor,
    instruction: str,
    seed: int = 0,
    image_scale: float = 1.0,
    chunk: int = 7,
    on_step: OnStep | None = None,
    noise: Noise | None = None,
    **overrides: Any,
) -> VideoOutput:
    """Edit a video by an instruction with a user's InstructPix2Pix network (8 input channels), frames tied to the first.

    Args:
        frames: [1, 3, F, H, W] in [-1, 1].
        image_scale: guidance towards the given frames; `guidance_scale` is that towards the words. Source: 2211.09800 eq. 3.

    Raises:
        UserError: a network without the further input channels.
    """
    channels = pipeline.space.channels
    if pipeline.network.config.in_channels != 2 * channels:
        raise UserError(
            f"an InstructPix2Pix network takes {2 * channels} channels, this one {pipeline.network.config.in_channels}"
        )
    count, height, width = frames.shape[2:]
    settings = pipeline.settings(num_frames=count, height=height, width=width, **overrides)
    if not settings.guided_throughout:
        raise UserError("guidance by picture and words acts throughout the run; leave guidance_start and guidance_end")
    text = pipeline.condition([instruction], settings)
    assert text is not None
    text = text.to(pipeline.device)
    given = pipeline.to_samples(frames) / pipeline.space.scale
    null = pipeline.null_text(text)

    def branch(words: Any, picture: Tensor) -> Denoise:
        def denoise(z: Tensor, lam: Tensor) -> Tensor:
            with pipeline.beside(picture):
                return to_x(pipeline.predict(z, lam, words), z, lam, pipeline.prediction_type)

        return denoise

    denoise = classifier_free_two(
        branch(text, given),
        branch(null, given),
        branch(null, torch.zeros_like(given)),
        settings.guidance_scale,
        image_scale,
    )
    noise = noise or Noise([seed], pipeline.device)
    shape = (channels, 1, *given.shape[3:])
    z = torch.cat([noise(shape, "start", k) for k in range(count)], 2)
    lams = pipeline.levels(settings.num_inference_steps)
    samples = _together(pipeline, denoise, z, lams, ZeroConfig(chunk=chunk), on_step)
    pixels = pipeline.to_pixels(samples)
    return VideoOutput(frames=to_uint8(pixels), samples=pixels)


def frame_masks_of(masks: Sequence[np.ndarray]) -> Masks:
    """A detector that returns given masks, for a user's own."""
    stacked = np.stack(list(masks))

    def detector(frames: np.ndarray) -> np.ndarray:
        if len(stacked) != len(frames):
            raise UserError(f"{len(stacked)} masks for {len(frames)} frames")
        return stacked

    return detector
