"""Diffusion in pixels: the network of a recipe, told a log-SNR and captions, learns to denoise clips and stills."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from muybridge.configuration import Settings, from_mapping, setting
from muybridge.diffusion.losses import WEIGHTINGS
from muybridge.diffusion.schedule import SCHEDULES, Schedule, schedule_from_name
from muybridge.diffusion.tables import sampling_grid
from muybridge.errors import UserError, nearest
from muybridge.learning.contract import TrainingBatch
from muybridge.learning.diffusion import DiffusionSystem, Predict
from muybridge.learning.draws import Draws
from muybridge.models import NETWORKS, build_network, network_class
from muybridge.models.arguments import check_arguments
from muybridge.models.text.encoder import TextConfig
from muybridge.models.unet3d import joint_mask
from muybridge.nn.text_conditioning import TextCondition

#: Of clips: red, green, blue.
CHANNELS = 3
#: Arguments of a network that reads captions.
TEXT_WIDTHS = ("text_pooled_dim", "text_token_dim")


@dataclass(frozen=True)
class PixelDiffusionConfig(Settings):
    """Diffusion and conditioning settings."""

    where: ClassVar[str] = "diffusion"

    schedule: str = setting("cosine", "the noise schedule", choices=tuple(SCHEDULES))
    schedule_options: dict[str, Any] = setting({}, "its arguments; `kappa` shifts it towards more noise")
    weighting: str = setting(
        "snr+1", "of the loss: snr is the eps loss, snr+1 the v loss, whatever the network predicts", choices=WEIGHTINGS
    )
    null_probability: float = setting(0.1, "how often a caption is dropped, for guidance", low=0, below=1)
    images_per_video: int = setting(
        0, "independent stills appended to each clip (the paper: 8 for text)", low=0, high=64
    )
    stratified: bool = setting(True, "spread the times of a global batch evenly over [0, 1]")

    def __post_init__(self) -> None:
        super().__post_init__()
        self.make_schedule()

    def make_schedule(self) -> Schedule:
        return schedule_from_name(self.schedule, self.schedule_options)


class PixelDiffusion(DiffusionSystem):
    """What trains in pixels: network and settings from a recipe.

    Args:
        model: {"type": "unet3d" | "transformer", ...arguments of the network}.
        diffusion: fields of `config_class`.
        text: which encoder its captions come from; None trains without text.
    """

    config_class = PixelDiffusionConfig
    section = "diffusion"

    def __init__(self, model: Mapping[str, Any], diffusion: Mapping[str, Any] | None, text: TextConfig | None):
        self.model_config = dict(model)
        kind = self.model_config.get("type")
        if not isinstance(kind, str) or kind not in NETWORKS:
            raise UserError(f"model.type: unknown {kind!r}; {nearest(str(kind), NETWORKS)}")
        check_arguments(self.model_config)
        _fit_to_pixels(self.model_config)
        if self.model_config.get("learned_variance"):
            raise UserError(
                f"model.learned_variance: {self.name} trains on a continuous schedule, and the variance of a step is "
                "learned on a noise table; leave it out, or take system sora with prediction v_prediction"
            )
        if text is not None and not any(self.model_config.get(name) for name in TEXT_WIDTHS):
            raise UserError(
                "text: the network reads no captions; give model.text_pooled_dim and model.text_token_dim the width of "
                "the encoder (all-MiniLM-L6-v2: 384), or leave text out"
            )
        self.config = from_mapping(self.config_class, diffusion, "diffusion")
        self.schedule = self.config.make_schedule()
        self.text = text
        self.images_per_video = self.config.images_per_video

    def build(self) -> nn.Module:
        return build_network(self.model_config)

    def times(self, draws: Draws) -> Tensor:
        return draws.times(self.config.stratified)

    def level(self, times: Tensor, x: Tensor) -> Tensor:
        return self.schedule(times).to(x)

    def grid(self, steps: int) -> Tensor:
        return sampling_grid(self.schedule, steps)

    def dropped(self, batch: TrainingBatch, draws: Draws) -> Tensor:
        return draws.shares(1 + batch.num_images) < self.config.null_probability

    def network_told(
        self, model: nn.Module, batch: TrainingBatch, dropped: Tensor, guidance: Tensor | None = None
    ) -> Predict:
        told = self.told(batch) | ({} if guidance is None else {"guidance": guidance})
        if batch.num_images:
            frames, device = batch.video.shape[2] - batch.num_images, batch.video.device
            told["temporal_mask"] = joint_mask(frames, batch.num_images, device)
            told["frame_to_caption"] = torch.tensor([0] * frames + list(range(1, batch.num_images + 1)), device=device)
        told["text"] = _with_dropped(batch, dropped)
        return lambda z, lam: model(z, lam.float(), **told)

    def told(self, batch: TrainingBatch) -> dict[str, Any]:
        """What the network is told of a batch beside its noise and captions: arguments of its call."""
        return {}

    def own_settings(self) -> dict[str, Any]:
        """What a pipeline is told of the schedule and the captions."""
        return {
            "schedule": self.config.schedule,
            "schedule_options": dict(self.config.schedule_options),
            "text_encoder": None if self.text is None else self.text.encoder,
            "text_max_length": 0 if self.text is None else self.text.max_length,
        }

    def told_settings(self) -> dict[str, Any]:
        return self.own_settings()

    def pipeline(self, model: nn.Module) -> Any:
        """What samples from the network."""
        raise NotImplementedError

    def save(self, model: nn.Module, folder: Path, sampling: Mapping[str, Any]) -> None:
        pipeline = self.pipeline(model)
        pipeline.register_to_config(sampling=dict(sampling))
        pipeline.save_pretrained(str(folder))

    @property
    def prediction_type(self) -> str:
        return str(self.model_config.get("prediction_type", "v_prediction"))


def _fit_to_pixels(model: dict[str, Any]) -> None:
    """Channels of a network of pixels: 3, whatever its default is.

    Raises:
        UserError: others are asked for.
    """
    known = inspect.signature(network_class(model["type"])).parameters
    for name in ("in_channels", "out_channels"):
        if name in known and model.setdefault(name, CHANNELS) != CHANNELS:
            raise UserError(f"model.{name}: clips have {CHANNELS} channels, got {model[name]}")


def _with_dropped(batch: TrainingBatch, dropped: Tensor) -> TextCondition | None:
    if batch.text is None:
        return None
    text = TextCondition(batch.text.pooled, batch.text.tokens, batch.text.mask, dropped)
    return (
        text if batch.num_images else TextCondition(*(t[:, 0] for t in (text.pooled, text.tokens, text.mask, dropped)))
    )
