"""ControlVideo (2305.13077): text and control pictures to video with a frozen image model and frozen ControlNets.

All frames attend to all frames; at two steps every other frame of the predicted clean video becomes the interpolation
of its neighbours; long videos are sampled as key frames and short clips between them, each clip seeing its two key
frames alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from muybridge.diffusion.guidance import with_threshold
from muybridge.diffusion.noise import Noise
from muybridge.diffusion.prediction import Denoise, to_eps
from muybridge.diffusion.samplers import SamplerState
from muybridge.diffusion.schedule import alpha_of, expand, per_sample, sigma_of
from muybridge.errors import UserError
from muybridge.models.vision.control import Control
from muybridge.models.vision.frame_interpolation import Interpolator, interpolator_named
from muybridge.nn.frame_norm import pooled_group_norms
from muybridge.pipelines.running import OnStep, VideoOutput, without_gradients
from muybridge.pipelines.settings import only_with
from muybridge.pipelines.zero_shot import View, ZeroShotPipeline
from muybridge.systems.control_video.settings import ControlVideoConfig
from muybridge.systems.control_video.smoother import smooth, smoothing_steps

#: A view of the network -> its guided denoiser.
Seeing = Callable[[View], Denoise]


@without_gradients
def control_video(
    pipeline: ZeroShotPipeline,
    prompt: str,
    controls: Sequence[Control],
    seed: int = 0,
    config: ControlVideoConfig = ControlVideoConfig(),
    negative_prompt: str = "",
    noise: Noise | None = None,
    interpolator: Interpolator | None = None,
    on_step: OnStep | None = None,
    **overrides: Any,
) -> VideoOutput:
    """One video under control pictures; every frame starts from the same noise.

    Args:
        controls: their pictures have one row a frame.
        noise: draws in place of the seed's own ("start", of one frame).
        interpolator: in place of the one named in `config`.
        overrides: fields of SamplingConfig; the sampler is DDIM with eta 0.

    Raises:
        UserError: settings that cannot be sampled, or control pictures of another number of frames.
    """
    settings = pipeline.settings(**only_with("ddim", overrides, "ControlVideo"))
    if settings.eta:
        raise UserError(f"eta {settings.eta:g}: ControlVideo smooths the deterministic sampler; leave eta at 0")
    frames = settings.num_frames
    for control in controls:
        if len(control.pictures) != frames:
            raise UserError(f"{len(control.pictures)} control pictures for a video of {frames} frames")
    in_clips = config.in_clips(frames)
    words = pipeline.condition([prompt], settings, View(controls=controls))
    null = pipeline.null(words, negative_prompt)

    def seeing(view: View) -> Denoise:
        seen = {"keys": view.keys, "frames": view.frames}
        guided = pipeline.denoiser(words.seen(**seen), null.seen(**seen), settings, settings.guidance_scale)
        return with_threshold(guided, settings.threshold)

    denoise = key_frames_first(pipeline, seeing, frames) if in_clips else _all_at_once(pipeline, seeing, config, frames)
    smooths = config.smooth_at is not None and config.interpolator != "none"
    between = interpolator or (interpolator_named(config.interpolator) if smooths else None)
    channels, _, height, width = pipeline.sample_shape(settings)
    noise = noise or Noise([seed], pipeline.device)
    z = noise((channels, 1, height, width), "start").repeat(1, 1, frames, 1, 1)
    lams = pipeline.levels(settings.num_inference_steps)
    smoothed = smoothing_steps(config.smooth_at, settings.num_inference_steps) if between and frames > 1 else ()
    pooled = config.group_norm == "pooled"
    with pooled_group_norms(pipeline.network, pooled, frames):
        for state in _smoothed_ddim(pipeline, denoise, z, lams, smoothed, between):
            if on_step:
                on_step(state)
    return pipeline.finished(state.z)


def _smoothed_ddim(
    pipeline: ZeroShotPipeline,
    denoise: Denoise,
    z: Tensor,
    lams: Tensor,
    smoothed: Sequence[int],
    between: Interpolator | None,
) -> Iterator[SamplerState]:
    """DDIM whose clean estimate is smoothed at some steps while its noise stays (2305.13077 algorithm 1)."""
    for i in range(len(lams) - 1):
        lam = per_sample(lams[i], z)
        x = denoise(z, lam)
        eps = to_eps(x, z, lam, "sample")
        if i in smoothed and between is not None:
            pixels = (pipeline.to_pixels(x) / 2 + 0.5).clamp(0, 1)
            x = pipeline.to_samples(smooth(pixels, i % 2, between) * 2 - 1)
        z = expand(alpha_of(lams[i + 1]), z) * x + expand(sigma_of(lams[i + 1]), z) * eps
        yield SamplerState(i, z, x, lams[i + 1])


def control_video_steps(steps: int) -> int:
    """Steps that a run reports, for a progress bar."""
    return steps


def _all_at_once(pipeline: ZeroShotPipeline, seeing: Seeing, config: ControlVideoConfig, frames: int) -> Denoise:
    return seeing(View(keys=pipeline.keys(config.attention, frames)))


def key_table(frames: int) -> tuple[list[int], list[tuple[int, int, list[int]]]]:
    """Key frames, and the clips between them as (left key, right key, inner frames).

    One key frame every int(sqrt(F)) - 1 frames, and the last. Source: the official code's rule.

    Raises:
        UserError: fewer than 9 frames, too few for a window of 3.
    """
    window = int(frames**0.5)
    if window < 3:
        raise UserError(f"the hierarchical sampler needs at least 9 frames, got {frames}")
    keys = list(range(0, frames, window - 1))
    if keys[-1] != frames - 1:
        keys.append(frames - 1)
    pairs = zip(keys[:-1], keys[1:], strict=True)
    return keys, [(a, b, list(range(a + 1, b))) for a, b in pairs if b - a > 1]


def key_frames_first(pipeline: ZeroShotPipeline, seeing: Seeing, frames: int) -> Denoise:
    """Denoise key frames with full attention among them, then each clip with keys and values from its two key frames.

    All predictions are made at the same noise level, so that their order does not matter and memory follows the longest
    call, not the video.
    """
    keys, clips = key_table(frames)
    among_keys = torch.tensor(keys)
    calls = [(among_keys, keys, 0, seeing(View(pipeline.keys("full", len(keys)), frames=among_keys)))]
    for left, right, inner in clips:
        rows = torch.tensor([left, right, *inner])
        two = torch.tensor([[0, 1]]).expand(len(rows), 2)
        calls.append((rows, inner, 2, seeing(View(two, frames=rows))))

    def denoise(z: Tensor, lam: Tensor) -> Tensor:
        out = torch.empty_like(z)
        for rows, made, first, base in calls:
            out[:, :, made] = base(z[:, :, rows], lam)[:, :, first:]
        return out

    return denoise
