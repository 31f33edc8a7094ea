"""Tune-A-Video (2212.11565): a picture model tuned on one captioned video, then that video edited by new words.

Queries and temporal attention learn the one video; its own noise, found by exact DDIM inversion, carries the motion into
every edit.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from muybridge.configuration import setting
from muybridge.learning.contract import TrainingBatch
from muybridge.learning.latent_diffusion import LatentDiffusionConfig, PictureModelSection
from muybridge.learning.picture_models import BehindPictureModel


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


class TuneAVideo(BehindPictureModel):
    """The system: one video, few weights, the picture model's own noise table and prediction type."""

    name = "tune_a_video"
    model_class = TuneAVideoSection
    config_class = TuneAVideoConfig

    def prepare(self) -> None:
        self.temporal = {"type": "tune_a_video", "group_norm": self.told.group_norm}

    def predict(self, model: nn.Module, z: Tensor, index: Tensor, tokens: Tensor, batch: TrainingBatch) -> Tensor:
        out: Tensor = model(z, index, tokens).sample
        return out
