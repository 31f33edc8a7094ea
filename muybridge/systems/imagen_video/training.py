"""Training one stage of a cascade: stages meet only in sampling, so each trains alone, on any machine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from muybridge.configuration import from_mapping, setting
from muybridge.diffusion.process import augment_condition
from muybridge.errors import UserError
from muybridge.learning.contract import TrainingBatch
from muybridge.learning.draws import Draws
from muybridge.learning.pixel_diffusion import PixelDiffusion, PixelDiffusionConfig
from muybridge.models.text.encoder import TextConfig
from muybridge.nn.frames import crops, to_uint8
from muybridge.systems.imagen_video.cascade import BASE, StageConfig
from muybridge.systems.imagen_video.pairs import lowered, raised, raised_still
from muybridge.systems.imagen_video.stage import CascadeStagePipeline


@dataclass(frozen=True)
class ImagenVideoConfig(PixelDiffusionConfig):
    """Diffusion settings of a stage, and which stage it is."""

    stage: dict[str, Any] = setting({}, "of the cascade: see StageConfig")
    augmentation_low: float = setting(
        -5.0, "least log-SNR that the given video is brought to in training", low=-20, high=20
    )
    augmentation_high: float = setting(20.0, "greatest; 20 is as good as clean", low=-20, high=20)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.augmentation_low < self.augmentation_high:
            raise UserError("diffusion: augmentation_low must be below augmentation_high")
        self.make_stage()

    def make_stage(self) -> StageConfig:
        return from_mapping(StageConfig, self.stage, "diffusion.stage")


class ImagenVideo(PixelDiffusion):
    """A stage. Its data are clips of the size that it makes; what it is given is made of them.

    Args:
        model: as of PixelDiffusion; `condition_channels` and `condition_level` follow from the stage.
    """

    name = "imagen_video"
    distils = True
    config_class = ImagenVideoConfig

    def __init__(self, model: Mapping[str, Any], diffusion: Mapping[str, Any] | None, text: TextConfig | None):
        super().__init__(model, diffusion, text)
        assert isinstance(self.config, ImagenVideoConfig)
        self.stage = self.config.make_stage()
        if self.model_config["type"] != "unet3d":
            raise UserError(f"model.type: the stages of a cascade are unet3d, got {self.model_config['type']!r}")
        wanted = {"condition_channels": self.stage.condition_channels, "condition_level": self.stage.kind != BASE}
        for name, value in wanted.items():
            if self.model_config.setdefault(name, value) != value:
                raise UserError(f"model.{name}: a {self.stage.kind} stage has {value}, got {self.model_config[name]}")

    def prepared(self, batch: TrainingBatch) -> TrainingBatch:
        size = self.stage.crop
        if not size:
            return batch
        shares = Draws(batch, "crop").uniform(2)
        return replace(batch, video=crops(batch.video, size, shares, self.stage.factor))

    def told(self, batch: TrainingBatch) -> dict[str, Any]:
        """The video of the stage before, noised, and how noisy: the level is uniform in the configured range."""
        if self.stage.kind == BASE:
            return {}
        config: Any = self.config
        video = batch.video
        frames = video.shape[2] - batch.num_images
        given = raised(lowered(video[:, :, :frames], self.stage), self.stage)
        if batch.num_images:
            given = torch.cat([given, raised_still(video[:, :, frames:], self.stage)], 2)
        draws = Draws(batch, "augmentation")
        low, high = config.augmentation_low, config.augmentation_high
        lam = (low + (high - low) * draws.uniform(1)[:, 0]).to(video.device)
        return noised(given, draws.normal(given[:, :3].shape[1:]).to(video), lam)

    def pipeline(self, model: nn.Module) -> CascadeStagePipeline:
        return CascadeStagePipeline(model, stage=asdict(self.stage), **self.own_settings())

    def preview(self, model: nn.Module, prompts: list[str], sampling: Mapping[str, Any], clips: Tensor) -> np.ndarray:
        """The base draws the prompts; other stages raise held-out clips: given, made and true side by side."""
        pipeline = self.pipeline(model)
        pipeline.register_to_config(sampling=dict(sampling))
        if self.stage.kind == BASE:
            return pipeline(prompts or None, seed=0).frames
        true = clips[: max(1, len(prompts)), :, : self.stage.num_frames]  # without the stills behind them
        given = lowered(true, self.stage)
        made = pipeline.raise_video(given, [None] * len(true), seed=0).samples
        shown = raised(given, self.stage)[:, :3]
        return to_uint8(torch.cat([shown, made.cpu(), true], 4))


def noised(given: Tensor, noise: Tensor, lam: Tensor) -> dict[str, Tensor]:
    """Noise conditioning augmentation of the pixels of a condition [B, 3 or 4, F, H, W]; a mask stays as it is.

    Args:
        noise: [B, 3, F, H, W], of its own.
        lam: log-SNR [B].
    """
    pixels = augment_condition(given[:, :3], noise, lam.to(given))
    return {"condition": torch.cat([pixels, given[:, 3:]], 1), "condition_log_snr": lam}
