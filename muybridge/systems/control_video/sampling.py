"""ControlVideo (2305.13077): text and control pictures to video with a frozen image model and frozen ControlNets.

All frames attend to all frames; at two steps every other frame of the predicted clean video becomes the interpolation of its
neighbours; long videos are sampled as key frames and short clips between them, each clip seeing its two key frames alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from muybridge.diffusion.guidance import thresholded
from muybridge.diffusion.noise import Noise
from muybridge.diffusion.prediction import Denoise, to_eps
from muybridge.diffusion.samplers import SamplerState
from muybridge.diffusion.schedule import alpha_of, expand, sigma_of
from muybridge.errors import UserError
from muybridge.models.vision.control import Control
from muybridge.models.vision.frame_interpolation import Interpolator, interpolator_named
from muybridge.nn.frame_norm import pooled_group_norms
from muybridge.nn.frames import to_uint8
from muybridge.pipelines.base import VideoOutput
from muybridge.pipelines.zero_shot import ZeroShotPipeline

OnStep = Callable[[SamplerState], None]
#: Steps of the run at which the official code smooths, as shares: 30 and 31 of 50.
SMOOTH_AT = 0.6


@dataclass(frozen=True)
class ControlVideoConfig:
    """How frames are kept together.

    Attributes:
        attention: "full" (the paper's), "first_previous", "first" or "own".
        smooth_at: share of the run after which two neighbouring steps are smoothed; None is off.
        interpolator: a name of models.vision.frame_interpolation, what makes the frame between two.
        hierarchical: key frames and clips in place of all frames at once; None chooses it above 20 frames.
        group_norm: "per_frame" (as the image model) or "pooled" over the frames (as the official code's residual blocks).
    """

    attention: str = "full"
    smooth_at: float | None = SMOOTH_AT
    interpolator: str = "learned"
    hierarchical: bool | None = None
    group_norm: str = "per_frame"

    def __post_init__(self) -> None:
        if self.smooth_at is not None and not 0 <= self.smooth_at < 1:
            raise UserError(f"smooth_at is a share of the run in 0..1, got {self.smooth_at}")
        if self.group_norm not in ("per_frame", "pooled"):
            raise UserError(f"group_norm must be per_frame or pooled, got {self.group_norm!r}")


def control_video(
    pipeline: ZeroShotPipeline,
    prompt: str,
    controls: Sequence[Control],
    seed: int = 0,
    config: ControlVideoConfig = ControlVideoConfig(),
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
    settings = pipeline.settings(**overrides)
    frames = settings.num_frames
    for control in controls:
        if len(control.pictures) != frames:
            raise UserError(f"{len(control.pictures)} control pictures for a video of {frames} frames")
    text = pipeline.condition([prompt], settings)
    guided = thresholded(pipeline.denoiser(text, settings, settings.guidance_scale), settings.threshold)
    hierarchical = frames > 20 if config.hierarchical is None else config.hierarchical
    if hierarchical and config.group_norm == "pooled":
        raise UserError(
            "pooled group norms need all frames at once: set hierarchical to False, or group_norm per_frame"
        )
    denoise = key_frames_first(pipeline, guided, frames) if hierarchical else _all_at_once(pipeline, guided, config)
    between = interpolator or (interpolator_named(config.interpolator) if config.smooth_at is not None else None)
    channels, _, height, width = pipeline.sample_shape(settings)
    z = (noise or Noise([seed], pipeline.device))((channels, 1, height, width), "start").repeat(1, 1, frames, 1, 1)
    lams = pipeline.levels(settings.num_inference_steps)
    smoothed = smoothing_steps(config.smooth_at, settings.num_inference_steps)
    with pipeline.controlled(controls), pooled_group_norms(pipeline.network, config.group_norm == "pooled", frames):
        for i in range(len(lams) - 1):
            lam = lams[i].expand(len(z))
            x = denoise(z, lam)
            eps = to_eps(x, z, lam, "sample")
            if i in smoothed and between is not None and frames > 1:
                pixels = (pipeline.to_pixels(x) / 2 + 0.5).clamp(0, 1)
                x = pipeline.to_samples(smooth(pixels, i % 2, between) * 2 - 1)
            # eps stays as it was: smoothing moves the clean video alone (Algorithm 1)
            z = expand(alpha_of(lams[i + 1]), z) * x + expand(sigma_of(lams[i + 1]), z) * eps
            if on_step:
                on_step(SamplerState(i, z, x, lams[i + 1]))
    pixels = pipeline.to_pixels(z)
    return VideoOutput(frames=to_uint8(pixels), samples=pixels)


def smoothing_steps(share: float | None, steps: int) -> tuple[int, ...]:
    """The two neighbouring step indices that are smoothed, counted from the noisiest; none for None or a single step."""
    if share is None or steps < 2:
        return ()
    first = min(round(share * steps), steps - 2)
    return (first, first + 1)


def control_video_steps(steps: int) -> int:
    """Steps that a run reports, for a progress bar."""
    return steps


# --- the smoother ---------------------------------------------------------------------------------------------------


def neighbours(frames: int, parity: int) -> dict[int, tuple[int, int]]:
    """Which frames are replaced and by the middle of which two.

    Parity 0 replaces odd frames, parity 1 even ones; the ends, which have one neighbour, are drawn to the middle of
    themselves and it (as in the official code). Sources are always of the other parity, or the end itself.
    """
    if frames < 2:
        return {}
    if parity == 0:
        return {j: (j - 1, j + 1) for j in range(1, frames - 1, 2)}
    table = {0: (0, 1)} | {j: (j - 1, j + 1) for j in range(2, frames - 1, 2)}
    if frames % 2:
        table[frames - 1] = (frames - 2, frames - 1)
    return table


def smooth(video: Tensor, parity: int, between: Interpolator) -> Tensor:
    """Replace every other frame by the interpolation of its neighbours, [B, 3, F, H, W] in [0, 1]."""
    out = video.clone()
    for j, (a, b) in neighbours(video.shape[2], parity).items():
        out[:, :, j] = between(video[:, :, a], video[:, :, b])
    return out


# --- all frames at once, or key frames first ------------------------------------------------------------------------


def _all_at_once(pipeline: ZeroShotPipeline, base: Denoise, config: ControlVideoConfig) -> Denoise:
    def denoise(z: Tensor, lam: Tensor) -> Tensor:
        with pipeline.view(pipeline.keys(config.attention, z.shape[2])):
            return base(z, lam)

    return denoise


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


def key_frames_first(pipeline: ZeroShotPipeline, base: Denoise, frames: int) -> Denoise:
    """Denoise key frames with full attention among them, then each clip with keys and values from its two key frames.

    All predictions are made at the same noise level, so that their order does not matter and memory follows the longest
    call, not the video.
    """
    keys, clips = key_table(frames)

    def denoise(z: Tensor, lam: Tensor) -> Tensor:
        out = torch.empty_like(z)
        rows = torch.tensor(keys)
        with pipeline.view(pipeline.keys("full", len(keys)), rows):
            out[:, :, rows] = base(z[:, :, rows], lam)
        for left, right, inner in clips:
            rows = torch.tensor([left, right, *inner])
            with pipeline.view(torch.tensor([[0, 1]]).expand(len(rows), 2), rows):
                out[:, :, inner] = base(z[:, :, rows], lam)[:, :, 2:]
        return out

    return denoise
