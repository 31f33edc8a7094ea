"""Text2Video-Zero (2303.13439): video from an image model without training.

Frame 1 is the image model's own picture. The other frames start from its half-denoised latent, moved and noised again,
and all frames take keys and values from frame 1 in every self-attention layer. With control pictures all frames start
from one noise instead. `instruct.py` edits a given video by an InstructPix2Pix network in the same way.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from muybridge.diffusion.motion_field import REFERENCE_SIZE, move
from muybridge.diffusion.noise import Noise
from muybridge.diffusion.prediction import Denoise
from muybridge.diffusion.process import renoise
from muybridge.errors import UserError
from muybridge.models.vision.control import Control
from muybridge.pipelines.running import OnStep, VideoOutput, without_gradients
from muybridge.pipelines.settings import SamplingConfig, only_with
from muybridge.pipelines.zero_shot import View, ZeroShotPipeline
from muybridge.systems.text2video_zero.background import Masks, with_one_background
from muybridge.systems.text2video_zero.settings import ZeroConfig

#: A view of the network -> its guided denoiser.
Seeing = Callable[[View], Denoise]


@without_gradients
def text_to_video_zero(
    pipeline: ZeroShotPipeline,
    prompt: str,
    seed: int = 0,
    config: ZeroConfig = ZeroConfig(),
    controls: Sequence[Control] = (),
    masks: Masks | None = None,
    negative_prompt: str = "",
    noise: Noise | None = None,
    on_step: OnStep | None = None,
    **overrides: Any,
) -> VideoOutput:
    """Words to video, or under controls, words and control pictures to video.

    Args:
        controls: ControlNets, with a picture a frame each.
        masks: foreground detector, for background smoothing.
        noise: draws in place of the seed's own ("start" of one frame, "renoise" of frame k at step k).
        overrides: fields of SamplingConfig; the sampler is DDIM.

    Raises:
        UserError: settings that cannot be sampled, or background smoothing without masks.
    """
    settings = pipeline.settings(**only_with("ddim", overrides, "Text2Video-Zero"))
    if config.background and masks is None:
        raise UserError("background smoothing needs foreground masks")
    config.check_chunk(settings.num_frames)
    words = pipeline.condition([prompt], settings, View(controls=controls))
    null = pipeline.null(words, negative_prompt)

    def seeing(view: View) -> Denoise:
        seen = {"keys": view.keys, "control_keys": view.control_keys, "frames": view.frames}
        return pipeline.denoiser(words.seen(**seen), null.seen(**seen), settings, settings.guidance_scale)

    noise = noise or Noise([seed], pipeline.device)
    lams = pipeline.levels(settings.num_inference_steps)
    if controls or not config.motion_field:
        z, start = _plain_start(pipeline, noise, settings, bool(controls)), 0
    else:
        z, start = _moved_start(pipeline, seeing(View()), lams, noise, config, settings, on_step)
    samples = sample_in_chunks(pipeline, seeing, z, lams[start:], config, settings, on_step, noise)
    if config.background and masks is not None:
        z = with_one_background(pipeline, z, samples, masks, config.delta, config.background)
        samples = sample_in_chunks(pipeline, seeing, z, lams[start:], config, settings, on_step, noise)
    return pipeline.finished(samples)


def network_steps(config: ZeroConfig, frames: int, steps: int, controlled: bool = False) -> int:
    """Steps that a run reports, for a progress bar."""
    chunks = -(-max(1, frames - 1) // config.chunk)
    if controlled or not config.motion_field:
        return chunks * steps
    joined, moved = _steps_of(config, steps)
    return moved + chunks * (steps - joined) * (2 if config.background else 1)


def _steps_of(config: ZeroConfig, steps: int) -> tuple[int, int]:
    """Step indices of T and T': shares of the run, never fixed times, so that any number of steps works."""
    return round(config.joined_at * steps), min(steps - 1, round(config.moved_at * steps))


def _plain_start(pipeline: ZeroShotPipeline, noise: Noise, settings: SamplingConfig, one_noise: bool) -> Tensor:
    """Noise of all frames: one for all, or each its own."""
    channels, frames, height, width = pipeline.sample_shape(settings)
    first = noise((channels, 1, height, width), "start")
    if one_noise:
        return first.repeat(1, 1, frames, 1, 1)
    return torch.cat([first, *(noise((channels, 1, height, width), "start", k) for k in range(1, frames))], 2)


def _moved_start(
    pipeline: ZeroShotPipeline,
    denoise: Denoise,
    lams: Tensor,
    noise: Noise,
    config: ZeroConfig,
    settings: SamplingConfig,
    on_step: OnStep | None,
) -> tuple[Tensor, int]:
    """Latents of all frames at the level where they are joined, and its step: frame 1's, moved and noised back."""
    channels, frames, height, width = pipeline.sample_shape(settings)
    first = noise((channels, 1, height, width), "start")
    joined, moved = _steps_of(config, settings.num_inference_steps)
    states = {0: first}

    def keep(state: Any) -> None:
        states[state.step + 1] = state.z
        if on_step:
            on_step(state)

    if moved:
        pipeline.run(denoise, first, lams[: moved + 1], settings, noise, keep)
    rows = [states[joined]]
    for k in range(1, frames):
        shifted = move(states[moved], (k * config.delta[0], k * config.delta[1]), REFERENCE_SIZE)
        if moved > joined:
            shifted = renoise(shifted, lams[moved], lams[joined], noise(shifted.shape[1:], "renoise", k))
        rows.append(shifted)
    return torch.cat(rows, 2), joined


def sample_in_chunks(
    pipeline: ZeroShotPipeline,
    seeing: Seeing,
    z: Tensor,
    lams: Tensor,
    config: ZeroConfig,
    settings: SamplingConfig,
    on_step: OnStep | None,
    noise: Noise | None = None,
) -> Tensor:
    """All frames from z to clean, a chunk at a time, each chunk with the first frame, which sees only itself."""
    out = torch.empty_like(z)
    for rows in chunks_with_first(z.shape[2], config.chunk):
        keys = pipeline.keys(config.attention, len(rows))
        made = pipeline.run(seeing(View(keys, keys, rows)), z[:, :, rows], lams, settings, noise, on_step)
        fresh = slice(0, None) if rows[1:].numel() == 0 or rows[1] == 1 else slice(1, None)
        out[:, :, rows[fresh]] = made[:, :, fresh]
    return out


def chunks_with_first(frames: int, chunk: int) -> Iterator[Tensor]:
    """Frame indices of each network call: the first frame, then up to `chunk` others."""
    if frames == 1:
        yield torch.zeros(1, dtype=torch.long)
    for first in range(1, frames, chunk):
        yield torch.tensor([0, *range(first, min(first + chunk, frames))])


def frame_masks_of(masks: Sequence[np.ndarray]) -> Masks:
    """A detector that returns given masks, for a user's own."""
    stacked = np.stack(list(masks))

    def detector(frames: np.ndarray) -> np.ndarray:
        if len(stacked) != len(frames):
            raise UserError(f"{len(stacked)} masks for {len(frames)} frames")
        return stacked

    return detector
