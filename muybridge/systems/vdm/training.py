"""Video Diffusion Models (Ho et al. 2022, 2204.03458): one network for a fixed block of frames, trained jointly on
video and images; extension, interpolation and super-resolution at sampling time by reconstruction guidance.

The loss and the sampling do not depend on which network predicts, so the spacetime transformer trains here as well.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from muybridge.configuration import from_mapping
from muybridge.diffusion.losses import WEIGHTINGS, mse_per_sample, weight_on
from muybridge.diffusion.noise import generator_for
from muybridge.diffusion.prediction import target_of
from muybridge.diffusion.process import diffuse
from muybridge.diffusion.schedule import Schedule, schedule_from_name, stratified_times
from muybridge.errors import UserError, nearest
from muybridge.learning.contract import Losses, TrainingBatch
from muybridge.models import NETWORKS, build_network
from muybridge.models.text.encoder import TextConfig
from muybridge.models.unet3d import joint_mask
from muybridge.nn.text_conditioning import TextCondition
from muybridge.pipelines.pixels import TextToVideoPipeline


@dataclass(frozen=True)
class VDMConfig:
    """Diffusion and conditioning settings.

    Attributes:
        schedule, schedule_options: a name of diffusion.schedule.SCHEDULES and its arguments (`kappa` shifts it).
        weighting: loss weighting; "snr" is the eps loss, "snr+1" the v loss, whatever the network predicts.
        null_probability: how often a caption is dropped, for classifier-free guidance.
        images_per_video: M independent stills appended to each clip (the paper: 8 for text).
        stratified: spread the times of a global batch evenly over [0, 1].
    """

    schedule: str = "cosine"
    schedule_options: dict[str, Any] = field(default_factory=dict)
    weighting: str = "snr+1"
    null_probability: float = 0.1
    images_per_video: int = 0
    stratified: bool = True

    def __post_init__(self) -> None:
        if self.weighting not in WEIGHTINGS:
            raise UserError(f"diffusion.weighting: unknown {self.weighting!r}; {nearest(self.weighting, WEIGHTINGS)}")
        if not 0 <= self.null_probability < 1:
            raise UserError(f"diffusion.null_probability must be in [0, 1), got {self.null_probability}")
        if self.images_per_video < 0:
            raise UserError(f"diffusion.images_per_video must not be negative, got {self.images_per_video}")
        self.make_schedule()

    def make_schedule(self) -> Schedule:
        try:
            return schedule_from_name(self.schedule, self.schedule_options)
        except (TypeError, ValueError) as error:
            raise UserError(f"diffusion.schedule: {error}") from error


class VDM:
    """The system: network and settings from a recipe.

    Args:
        model: {"type": "unet3d" | "transformer", ...arguments of the network}.
        diffusion: fields of VDMConfig.
        text: which encoder its captions come from; None trains without text.
    """

    name = "vdm"
    section = "diffusion"

    def __init__(self, model: Mapping[str, Any], diffusion: Mapping[str, Any] | None, text: TextConfig | None):
        self.model_config = dict(model)
        if self.model_config.get("type") not in NETWORKS:
            kind = self.model_config.get("type")
            raise UserError(f"model.type: unknown {kind!r}; {nearest(str(kind), NETWORKS)}")
        self.config = from_mapping(VDMConfig, diffusion, "diffusion")
        self.schedule = self.config.make_schedule()
        self.text = text

    @property
    def images_per_video(self) -> int:
        return self.config.images_per_video

    def build(self) -> nn.Module:
        return build_network(self.model_config)

    def trainable(self, model: nn.Module) -> Sequence[tuple[str, nn.Parameter]]:
        return list(model.named_parameters())

    def losses(self, model: nn.Module, batch: TrainingBatch) -> Losses:
        """E_t,eps w(lam) | target - prediction |^2, mean over C, F + M, H, W (2204.03458 eq. 2)."""
        x = batch.video
        times, eps, dropped = self._draw(x, batch)
        lam = self.schedule(times).to(x)
        z = diffuse(x, eps, lam)
        extra: dict[str, Any] = {}
        if batch.num_images:
            frames = x.shape[2] - batch.num_images
            extra["temporal_mask"] = joint_mask(frames, batch.num_images, x.device)
            extra["frame_to_caption"] = torch.tensor(
                [0] * frames + list(range(1, batch.num_images + 1)), device=x.device
            )
        kind = self.prediction_type
        prediction = model(z, lam, text=_with_dropped(batch, dropped), **extra)
        error = mse_per_sample(prediction, target_of(x, eps, lam, kind))
        return Losses(error * weight_on(kind, lam, self.config.weighting), error.detach(), lam)

    @property
    def prediction_type(self) -> str:
        return str(self.model_config.get("prediction_type", "v_prediction"))

    def _draw(self, x: Tensor, batch: TrainingBatch) -> tuple[Tensor, Tensor, Tensor]:
        """Times, noise and dropped captions, each sample's own: the same however the batch is split."""
        captions = 1 + batch.num_images
        times, noises, drops = [], [], []
        for place in batch.places:
            generator = generator_for(batch.seed, "train", batch.step, place)
            uniform = torch.rand(1, generator=generator, dtype=torch.float64)
            times.append(stratified_times(uniform, place, batch.total) if self.config.stratified else uniform)
            noises.append(torch.randn(x.shape[1:], generator=generator))
            drops.append(torch.rand(captions, generator=generator) < self.config.null_probability)
        return torch.cat(times).to(x.device), torch.stack(noises).to(x), torch.stack(drops).to(x.device)

    def pipeline(self, model: nn.Module) -> TextToVideoPipeline:
        settings: dict[str, Any] = {
            "schedule": self.config.schedule,
            "schedule_options": dict(self.config.schedule_options),
            "text_encoder": None if self.text is None else self.text.encoder,
            "text_max_length": 0 if self.text is None else self.text.max_length,
        }
        return TextToVideoPipeline(model, **settings)

    def preview(self, model: nn.Module, prompts: list[str], sampling: Mapping[str, Any], clips: Tensor) -> np.ndarray:
        """The prompts, or one video without text, drawn with fixed seeds."""
        pipeline = self.pipeline(model)
        pipeline.register_to_config(sampling=dict(sampling))
        return pipeline(prompts or None, seed=0).frames

    def save(self, model: nn.Module, folder: Path, sampling: Mapping[str, Any]) -> None:
        pipeline = self.pipeline(model)
        pipeline.register_to_config(sampling=dict(sampling))
        pipeline.save_pretrained(str(folder))


def _with_dropped(batch: TrainingBatch, dropped: Tensor) -> TextCondition | None:
    if batch.text is None:
        return None
    text = TextCondition(batch.text.pooled, batch.text.tokens, batch.text.mask, dropped)
    return (
        text if batch.num_images else TextCondition(*(t[:, 0] for t in (text.pooled, text.tokens, text.mask, dropped)))
    )
