"""Tune-A-Video (2212.11565): a picture model tuned on one captioned video, then that video edited by new words.

Queries and temporal attention learn the one video; its own noise, found by exact DDIM inversion, carries the motion into
every edit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from muybridge.diffusion.tables import DiscreteSchedule
from muybridge.errors import UserError
from muybridge.learning.contract import TrainingBatch
from muybridge.learning.latent_diffusion import LatentDiffusion, LatentDiffusionConfig
from muybridge.library.inflated import save_inflated
from muybridge.library.parts import load_picture_unet, scheduler_of
from muybridge.models.inflated_unet import InflatedUNet
from muybridge.models.text.encoder import TextConfig
from muybridge.pipelines.inflated import InflatedPipeline


@dataclass(frozen=True)
class TuneAVideoConfig(LatentDiffusionConfig):
    """Diffusion settings; captions are never dropped, and the loss is the plain error in what the model predicts."""

    null_probability: float = 0.0


class TuneAVideo(LatentDiffusion):
    """The system: one video, few weights.

    Args:
        model: {"image": a bundled image model or a Stable Diffusion folder, "group_norm": "per_frame" or "pooled"}.
    """

    name = "tune_a_video"
    config_class = TuneAVideoConfig

    def __init__(self, model: Mapping[str, Any], diffusion: Mapping[str, Any] | None, text: TextConfig | None):
        values = dict(model)
        self.image = str(values.pop("image", ""))
        if not self.image:
            raise UserError("model.image: name the picture model that is tuned: a bundled one or a folder")
        self.temporal = {"type": "tune_a_video", "group_norm": values.pop("group_norm", "per_frame")}
        values.setdefault("autoencoder", f"{self.image}/vae")
        super().__init__(values, diffusion, text)
        if self.model_config:
            raise UserError(
                f"model: unknown key {next(iter(self.model_config))!r}; known: image, group_norm, autoencoder"
            )
        self.scheduler = scheduler_of(self.image)
        self.table = DiscreteSchedule.from_config(self.scheduler)
        plain = {"epsilon": "snr", "v_prediction": "snr+1", "sample": "constant"}[self.scheduler["prediction_type"]]
        self.config = replace(self.config, weighting=plain)

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
