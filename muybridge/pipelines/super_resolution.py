"""Sampling a super-resolution network, in pixels or in latents: no words, a small video beside the noise, long videos
in windows over time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import torch
from diffusers import AutoencoderKL
from torch import Tensor, nn

from muybridge.configuration import Settings, from_mapping, setting
from muybridge.diffusion.guidance import Scale, with_threshold
from muybridge.diffusion.noise import Noise
from muybridge.diffusion.prediction import Denoise
from muybridge.diffusion.process import augment_condition
from muybridge.diffusion.windows import Windowed, sample_windowed, windowed
from muybridge.errors import UserError
from muybridge.library.index import settings_of
from muybridge.library.inflated import open_unet
from muybridge.models.inflated_unet import InflatedUNet
from muybridge.models.latent.space import LatentSpace
from muybridge.models.super_resolution import on_grid
from muybridge.nn.embeddings import log_snr_position
from muybridge.nn.frames import batch_to_frames, frames_to_batch
from muybridge.pipelines.base import split_options
from muybridge.pipelines.latents import LatentSpacePipeline
from muybridge.pipelines.running import OnStep, VideoOutput, seeds_of, without_gradients
from muybridge.pipelines.settings import SamplingConfig

AVERAGES = ("output", "sample")


@dataclass(frozen=True)
class SuperResolutionConfig(Settings):
    """What a super-resolution network makes, and how it goes over a long video."""

    factor: int = setting(2, "times as many pixels a side", low=2, high=16)
    augmentation: float = setting(
        3.0, "log-SNR that the given video is brought to in sampling, which the network is told", low=-20, high=20
    )
    window: int = setting(0, "frames that the network sees at a time; 0 is all of them", low=0, high=100_000)
    overlap: int = setting(2, "frames that neighbouring windows share", low=0, high=100_000)
    average: str = setting(
        "output",
        "what is averaged where windows overlap: the network's output, or the sampler's step",
        choices=AVERAGES,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.window and self.overlap >= self.window:
            raise UserError(
                f"overlap: windows of {self.window} frames can share 0..{self.window - 1} of them, got {self.overlap}"
            )


@dataclass(frozen=True)
class GivenPixels:
    """What the network is told, one row a video: the enlarged and noised video, and its log-SNR [B]."""

    pixels: Tensor
    level: Tensor

    def rows(self, which: slice) -> GivenPixels:
        return GivenPixels(self.pixels[which], self.level[which])

    def to(self, device: Any) -> GivenPixels:
        return GivenPixels(self.pixels.to(device), self.level.to(device))

    def frames(self, which: slice) -> GivenPixels:
        return GivenPixels(self.pixels[:, :, which], self.level)


def vae_in(folder: Path) -> bool:
    """Whether a super-resolver's folder draws in a latent space of its own, and not in pixels."""
    return (folder / "vae").is_dir()


def predict_pixels(network: nn.Module, z: Tensor, index: Tensor, told: GivenPixels) -> Tensor:
    """A super-resolution network on z [B, C, F, H, W]: frames alone for a picture network, all of them for an inflated
    one."""
    inputs, frames = torch.cat([z, told.pixels.to(z)], 1), z.shape[2]
    words = z.new_zeros(len(z), 1, 1)  # no layer of it attends to any
    level = log_snr_position(told.level).to(z)
    plain: Any = getattr(network, "module", network)
    if isinstance(plain, InflatedUNet):
        out: Tensor = network(inputs, index, words, class_labels=level).sample
        return out
    index, words, level = (t.repeat_interleave(frames, 0) for t in (index, words, level))
    flat = network(frames_to_batch(inputs), index, encoder_hidden_states=words, class_labels=level).sample
    return batch_to_frames(flat, len(z))


class SuperResolutionPipeline(LatentSpacePipeline):
    """A video made larger, by a picture network or one with time.

    With `noise_correlation` 1 among the sampling settings all frames start from the same noise (2209.14792 section 3.2:
    what a network without time needs, lest its details flicker), and what the given video is noised with is shared too.

    Args:
        network: an InflatedUNet or a UNet2DConditionModel told a level as class label; three of its input channels are
            the small video's.
        scheduler: a diffusers scheduler's config.
        making: fields of SuperResolutionConfig.
        sampling: default values of SamplingConfig.
        vae: the autoencoder whose latents it draws; None for pixels.
    """

    in_windows = True
    draws_from_words = False

    def __init__(
        self,
        network: nn.Module,
        scheduler: dict[str, Any],
        making: dict[str, Any],
        sampling: dict[str, Any] | None = None,
        vae: AutoencoderKL | None = None,
    ):
        super().__init__(vae, scheduler)
        self.register_modules(network=network, **({} if vae is None else {"vae": vae}))
        self.making = from_mapping(SuperResolutionConfig, making, "super-resolution")
        own = {"guidance_scale": 1.0, **(sampling or {})}
        self.register_to_config(scheduler=dict(scheduler), making=dict(making), sampling=own)

    @classmethod
    def from_folder(cls, folder: Path, dtype: torch.dtype = torch.float32) -> Self:
        """Open what `muybridge train` wrote."""
        vae = LatentSpace.open(folder / "vae").vae.to(dtype) if vae_in(folder) else None
        return cls(open_unet(folder, dtype), **settings_of(folder), vae=vae)

    @without_gradients
    def raise_video(
        self,
        video: Tensor,
        prompts: Sequence[str | None] = (None,),
        seed: int | Sequence[int] = 0,
        **options: Any,
    ) -> VideoOutput:
        """Make videos larger.

        Args:
            video: [B, 3, F, H, W] in [-1, 1]; values beyond are clipped.
            prompts: not read: this network is told no words.
            seed: as of a call of any pipeline.
            options: as of VideoPipeline.

        Raises:
            UserError: settings that cannot be sampled.
        """
        overrides, options = split_options(options)
        factor, own = self.making.factor, video.shape[2]
        if own <= (self.making.window or own):  # all of them at once: the last one again, until time can be halved
            last = video[:, :, -1:].expand(-1, -1, self.length_for(own) - own, -1, -1)
            video = torch.cat([video, last], 2)
        given = on_grid(video.clamp(-1, 1), factor, self.space).clamp(-1, 1)
        frames, height, width = video.shape[2:]
        size = {"num_frames": frames, "height": factor * height, "width": factor * width}
        settings = self.settings(**{**overrides, **size})
        seeds = seeds_of(seed, len(given))
        # one draw a run: what the given video looks like is the same at all steps
        noise = Noise(seeds, correlation=settings.noise_correlation)
        grain = noise(given.shape[1:], "augmentation").to(given)
        level = torch.full((len(given),), self.making.augmentation)
        told = GivenPixels(augment_condition(given, grain, level), level)
        made = self.draw(told, told, seeds, settings, **options)
        return VideoOutput(frames=made.frames[:, :own], samples=made.samples[:, :, :own])

    def denoiser(self, condition: Any, null: Any, settings: SamplingConfig, scale: Scale) -> Denoise:
        """Window by window; there are no words, so nothing is guided."""
        if scale != 1.0:
            raise UserError(
                f"guidance_scale {scale}: a super-resolution network is told no words to follow; leave it at 1"
            )
        size = self.making.window or settings.num_frames
        # frames of a picture network stand alone: nothing to average
        overlap = min(self.making.overlap, size - 1) if isinstance(self.network, InflatedUNet) else 0
        return windowed(lambda w: self.closed(condition.frames(w)), settings.num_frames, size, overlap)

    def run(
        self,
        denoise: Denoise,
        z: Tensor,
        lams: Tensor,
        settings: SamplingConfig,
        noise: Noise | None,
        on_step: OnStep | None = None,
    ) -> Tensor:
        """As every pipeline's; with `average` "sample" the sampler's steps are averaged in place of the estimates.

        Raises:
            UserError: that with another sampler than DDIM, whose steps do not belong to a window alone.
        """
        if self.making.average == "output" or not isinstance(denoise, Windowed):
            return super().run(denoise, z, lams, settings, noise, on_step)
        if settings.sampler != "ddim" or settings.eta:
            raise UserError(
                f"average sample: goes with the sampler ddim at eta 0, got {settings.sampler} at eta {settings.eta:g}; "
                "average output goes with all"
            )
        if settings.reuse:
            raise UserError("average sample: each window takes its own step; reuse goes with average output")
        each = denoise.denoise_in
        clipped = replace(denoise, denoise_in=lambda w: with_threshold(each(w), settings.threshold))
        for state in sample_windowed(clipped, z, lams):
            if on_step:
                on_step(state)
        return state.z

    def predict(self, z: Tensor, lam: Tensor, condition: Any) -> Tensor:
        return predict_pixels(self.network, z, self.index_of(lam, z), condition)

    def null(self, condition: Any, negative_prompt: str = "") -> Any:
        return condition

    @property
    def stage_factors(self) -> list[tuple[str, int]]:
        """(kind, factor) of what `upscale` can run."""
        return [("spatial", self.making.factor)]

    def steps_of_stages(self, chosen: Sequence[int]) -> int:
        """Sampling steps of these stages."""
        return len(chosen) * self.settings().num_inference_steps

    def raised_by(
        self, chosen: Sequence[int], video: Tensor, prompt: str | None, seed: int, tile: int = 0, on_step: Any = None
    ) -> Tensor:
        """A video [1, 3, F, H, W] made larger, in [-1, 1]."""
        if tile:
            raise UserError("tile: this network sees whole pictures; leave it out")
        for _ in chosen:
            video = self.raise_video(video, [prompt], seed, on_step=on_step).samples.clamp(-1, 1).cpu()
        return video
