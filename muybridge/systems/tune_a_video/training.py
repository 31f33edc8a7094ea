"""Tune-A-Video (2212.11565): a picture model tuned on one captioned video, then that video edited by new words.

Queries and temporal attention learn the one video; its own noise, found by exact DDIM inversion, carries the motion into
every edit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from muybridge.configuration import from_mapping, setting
from muybridge.learning.contract import TrainingBatch
from muybridge.learning.latent_diffusion import LatentDiffusion, LatentDiffusionConfig, PictureModelSection
from muybridge.library.inflated import save_inflated
from muybridge.library.parts import load_picture_unet
from muybridge.models.inflated_unet import InflatedUNet
from muybridge.models.text.encoder import TextConfig
from muybridge.pipelines.inflated import InflatedPipeline


@dataclass(frozen=True)
class TuneAVideoConfig(LatentDiffusionConfig):
    """Diffusion settings; by default captions are never dropped, and the loss is the plain error of what the model predicts."""

    null_probability: float = setting(0.0, "how often the caption is replaced by the empty one", low=0, below=1)


@dataclass(frozen=True)
class TuneAVideoSection(PictureModelSection):
    """A recipe's `model` section."""

    group_norm: str = setting(
        "per_frame", "statistics of residual blocks: the image model's, or pooled over the clip as in the official code",
        choices=("per_frame", "pooled"),
    )  # fmt: skip


class TuneAVideo(LatentDiffusion):
    """The system: one video, few weights, the picture model's own noise table and prediction type.

    Args:
        model: fields of TuneAVideoSection.
        diffusion: fields of TuneAVideoConfig.
    """

    name = "tune_a_video"
    config_class = TuneAVideoConfig

    def __init__(self, model: Mapping[str, Any], diffusion: Mapping[str, Any] | None, text: TextConfig | None):
        section = from_mapping(TuneAVideoSection, model, "model")
        self.image = section.image
        self.temporal = {"type": "tune_a_video", "group_norm": section.group_norm}
        super().__init__(section.latent_space, diffusion, text, section.image)

    def build(self) -> InflatedUNet:
        return InflatedUNet.from_image_model(load_picture_unet(self.image), self.temporal)

    def trainable(self, model: nn.Module) -> Sequence[tuple[str, nn.Parameter]]:
        assert isinstance(model, InflatedUNet)
        return model.trainable_parameters()

    def predict(self, model: nn.Module, z: Tensor, index: Tensor, tokens: Tensor, batch: TrainingBatch) -> Tensor:
        out: Tensor = model(z, index, tokens).sample
        return out

    def pipeline(self, model: nn.Module, sampling: Mapping[str, Any]) -> InflatedPipeline:
        assert isinstance(model, InflatedUNet)
        return InflatedPipeline(model, self.space.vae, self.scheduler, image=self.image, **self.own_settings(sampling))

    def save(self, model: Any, folder: Path, sampling: Mapping[str, Any]) -> None:
        """The temporal layers, and the picture network's queries that changed."""
        save_inflated(model, folder, {**self.own_settings(sampling), "scheduler": self.scheduler, "image": self.image})
