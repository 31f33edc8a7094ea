"""Tune-A-Video (2212.11565): a picture model tuned on one captioned video, then that video edited by new words.

Queries and temporal attention learn the one video; its own noise, found by exact DDIM inversion, carries the motion
into every edit.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from muybridge.configuration import setting
from muybridge.learning.contract import TrainingBatch
from muybridge.learning.latent_diffusion import LatentDiffusionConfig, PictureModelSection
from muybridge.learning.picture_models import BehindPictureModel
from muybridge.library.parts import load_picture_unet
from muybridge.models.inflated_unet import InflatedUNet
from muybridge.models.weights.lora import apply_network_halves, recorded


@dataclass(frozen=True)
class TuneAVideoConfig(LatentDiffusionConfig):
    """Diffusion settings; by default captions are never dropped, and the loss is the plain error of what the model
    predicts."""

    null_probability: float = setting(0.0, "how often the caption is replaced by the empty one", low=0, below=1)


@dataclass(frozen=True)
class TuneAVideoSection(PictureModelSection):
    """A recipe's `model` section."""

    group_norm: str = setting(
        "per_frame",
        "statistics of residual blocks: the image model's, or pooled over the clip as in the official code",
        choices=("per_frame", "pooled"),
    )
    lora: tuple[str, ...] = setting((), "LoRAs, FILE or FILE:SCALE, merged into the picture model before it is tuned")


class TuneAVideo(BehindPictureModel):
    """The system: one video, few weights, the picture model's own noise table and prediction type."""

    name = "tune_a_video"
    model_class = TuneAVideoSection
    config_class = TuneAVideoConfig

    def prepare(self) -> None:
        self.merged = [recorded(text) for text in self.told.lora]
        self.temporal = {"type": "tune_a_video", "group_norm": self.told.group_norm}

    def build(self) -> nn.Module:
        picture = load_picture_unet(self.image)
        apply_network_halves(picture, self.told.lora)
        return InflatedUNet.from_image_model(picture, self.temporal)

    def own_settings(self, sampling: Mapping[str, Any]) -> dict[str, Any]:
        return super().own_settings(sampling) | ({"lora": self.merged} if self.merged else {})

    def predict(
        self, model: nn.Module, z: Tensor, index: Tensor, tokens: Tensor, batch: TrainingBatch, **told: Any
    ) -> Tensor:
        out: Tensor = model(z, index, tokens, **told).sample
        return out
