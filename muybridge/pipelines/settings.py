"""How a video is drawn: the settings of a run, checked."""

from __future__ import annotations

from dataclasses import dataclass

from muybridge.diffusion.samplers import SAMPLERS
from muybridge.errors import UserError, nearest

MAX_STEPS = 1000


@dataclass(frozen=True)
class SamplingConfig:
    """How a video is drawn from a model; a model's own defaults lie in its folder.

    Attributes:
        num_frames, height, width: of the video.
        fps: frames a second it is shown at.
        num_inference_steps: network evaluations (twice that with guidance).
        sampler: a name of diffusion.samplers.SAMPLERS.
        guidance_scale: g; 1 is no guidance.
        guidance_start, guidance_end: shares of the run between which guidance acts; outside, the network is called once a step.
        guidance_rescale: phi of 2305.08891; 0 is off.
        context_scale: s of context guidance, f + s (f(known frames) - f), for models that take known frames; 1 is none and calls the
            network half as often. Source: 2304.08818 eq. 6.
        eta: stochasticity of DDIM.
        gamma: variance of the ancestral sampler, 0 lower to 1 upper bound.
        corrector: Langevin step size of the ancestral sampler, 0 is off.
        threshold: "static", "dynamic" or "none".
    """

    num_frames: int = 16
    height: int = 64
    width: int = 64
    fps: float = 8.0
    num_inference_steps: int = 32
    sampler: str = "ddim"
    guidance_scale: float = 2.0
    guidance_start: float = 0.0
    guidance_end: float = 1.0
    guidance_rescale: float = 0.0
    context_scale: float = 1.0
    eta: float = 0.0
    gamma: float = 0.3
    corrector: float = 0.0
    threshold: str = "static"

    def __post_init__(self) -> None:
        if self.sampler not in SAMPLERS:
            raise UserError(f"unknown sampler {self.sampler!r}; {nearest(self.sampler, SAMPLERS)}")
        if not 1 <= self.num_inference_steps <= MAX_STEPS:
            raise UserError(f"steps must be in 1..{MAX_STEPS}, got {self.num_inference_steps}")
        if min(self.num_frames, self.height, self.width) < 1:
            raise UserError(
                f"a video needs at least 1 frame and 1x1 pixels, got {self.num_frames} frames of {self.height}x{self.width}"
            )
        if not 0 < self.fps <= 240:
            raise UserError(f"fps must be above 0 and at most 240, got {self.fps}")
        if not 0 <= self.guidance_scale <= 100:
            raise UserError(f"guidance_scale must be in 0..100, got {self.guidance_scale}")
        if not 0 <= self.context_scale <= 100:
            raise UserError(f"context_scale must be in 0..100, got {self.context_scale}")
        if not 0 <= self.guidance_start < self.guidance_end <= 1:
            raise UserError(
                f"guidance acts from a smaller to a larger share of the run within 0..1, got {self.guidance_start} to {self.guidance_end}"
            )

    @property
    def guided_throughout(self) -> bool:
        return (self.guidance_start, self.guidance_end) == (0.0, 1.0)
