"""Video LDM ("Align your Latents", 2304.08818): time for a frozen picture model, by temporal layers alone.

Three tasks of one design: clips from words, prediction from 0, 1 or 2 context frames, and interpolation of 3 frames between
two known ones at two frame rates. Known frames go into the temporal layers, because the picture model's input is frozen.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from muybridge.configuration import from_mapping, setting
from muybridge.errors import UserError
from muybridge.learning.contract import Losses, TrainingBatch
from muybridge.learning.draws import Draws
from muybridge.learning.latent_diffusion import LatentDiffusion, LatentDiffusionConfig, PictureModelSection
from muybridge.library.inflated import save_inflated
from muybridge.library.parts import load_picture_unet
from muybridge.models.inflated_unet import InflatedUNet
from muybridge.models.text.encoder import TextConfig
from muybridge.nn.frames import to_uint8
from muybridge.pipelines.inflated import InflatedPipeline
from muybridge.systems.video_ldm.long_video import WINDOW

TASKS = ("clip", "prediction", "interpolation")


@dataclass(frozen=True)
class VideoLDMConfig(LatentDiffusionConfig):
    """Diffusion settings."""

    task: str = setting(
        "clip", "clip, prediction (context_frames known at the start), or interpolation (both ends of five known)",
        choices=TASKS,
    )  # fmt: skip
    context_frames: tuple[float, ...] = setting(
        (0.34, 0.33, 0.33), "for prediction: how often 0, 1, 2, ... frames are known", low=0, high=1
    )
    strides: tuple[int, ...] = setting(
        (2, 1),
        "for interpolation: the frame rates, as strides over the data's frames; the network is told which",
        low=1,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if abs(sum(self.context_frames) - 1) > 1e-6:
            raise UserError(f"diffusion.context_frames must be shares that add up to 1, got {self.context_frames}")


@dataclass(frozen=True)
class VideoLDMSection(PictureModelSection):
    """A recipe's `model` section."""

    temporal: dict[str, Any] = setting({}, "settings of the temporal layers (models.plugins.video_ldm)")


class VideoLDM(LatentDiffusion):
    """The system: temporal layers behind a frozen picture model, whose noise table and prediction type they take over.

    Args:
        model: fields of VideoLDMSection.
        diffusion: fields of VideoLDMConfig.
    """

    name = "video_ldm"
    config_class = VideoLDMConfig
    config: VideoLDMConfig

    def __init__(self, model: Mapping[str, Any], diffusion: Mapping[str, Any] | None, text: TextConfig | None):
        section = from_mapping(VideoLDMSection, model, "model")
        self.image = section.image
        super().__init__(section.latent_space, diffusion, text, section.image)
        self.temporal: dict[str, Any] = {"type": "video_ldm", **section.temporal}
        if self.config.task != "clip":
            self.temporal["context_channels"] = self.space.channels
        if self.config.task == "interpolation":
            self.temporal["scalars"] = [*self.temporal.get("scalars", []), "regime"]

    def build(self) -> InflatedUNet:
        return InflatedUNet.from_image_model(load_picture_unet(self.image), self.temporal)

    def trainable(self, model: nn.Module) -> Sequence[tuple[str, nn.Parameter]]:
        assert isinstance(model, InflatedUNet)
        return model.trainable_parameters()

    def losses(self, model: nn.Module, batch: TrainingBatch) -> Losses:
        if self.config.task == "interpolation":
            batch = self._windows(batch)
        return super().losses(model, batch)

    def predict(self, model: nn.Module, z: Tensor, index: Tensor, tokens: Tensor, batch: TrainingBatch) -> Tensor:
        conditions = {k: v for k, v in batch.scalars.items() if k in self.temporal.get("scalars", ())}
        mask = self._mask(batch)
        if mask is not None:
            conditions |= {"known": batch.video * mask, "known_mask": mask}
        out: Tensor = model(z, index, tokens, conditions=conditions).sample
        return out

    def _mask(self, batch: TrainingBatch) -> Tensor | None:
        """[B, 1, F, 1, 1], 1 at known frames: clean latents go in, whatever the noise of the rest."""
        if self.config.task == "clip":
            return None
        mask = batch.video.new_zeros(len(batch.video), 1, batch.video.shape[2], 1, 1)
        if self.config.task == "interpolation":
            mask[:, :, [0, -1]] = 1
            return mask
        for row, known in enumerate(Draws(batch, "context").choices(torch.tensor(self.config.context_frames))):
            mask[row, :, :known] = 1
        return mask

    def _windows(self, batch: TrainingBatch) -> TrainingBatch:
        """Five frames of each clip at one of the two rates, from anywhere in it."""
        frames, rows, draws = batch.video.shape[2], [], Draws(batch, "window")
        regimes = draws.integers(len(self.config.strides))
        reaches = [(WINDOW - 1) * self.config.strides[regime] for regime in regimes]
        if max(reaches) >= frames:
            raise UserError(
                f"diffusion.strides: a window at stride {max(reaches) // (WINDOW - 1)} needs {max(reaches) + 1} frames, "
                f"the clips have {frames}"
            )
        for row, generator, regime, reach in zip(batch.video, draws.generators, regimes, reaches, strict=True):
            first = int(torch.randint(frames - reach, (), generator=generator))
            rows.append(row[:, first : first + reach + 1 : self.config.strides[regime]])
        scalars = {**batch.scalars, "regime": torch.tensor([float(r) for r in regimes], device=batch.video.device)}
        return replace(batch, video=torch.stack(rows), scalars=scalars)

    @torch.no_grad()
    def preview(self, model: nn.Module, prompts: list[str], sampling: Mapping[str, Any], clips: Tensor) -> np.ndarray:
        """The prompts; for interpolation, three frames put between the ends of held-out windows, and their truth."""
        if self.config.task != "interpolation":
            return super().preview(model, prompts, sampling, clips)
        empty = TrainingBatch(clips, None, 0, range(len(clips)), len(clips), 0, 0)
        batch = self._windows(empty)
        mask = self._mask(batch)
        assert mask is not None
        given = {"known": batch.video * mask, "known_mask": mask, "regime": batch.scalars["regime"]}
        pipeline = self.pipeline(model, {**sampling, "num_frames": WINDOW})
        made = pipeline([""] * len(clips), given=given, guidance_scale=1.0, batch_size=len(clips)).samples
        return to_uint8(torch.stack([made, self.space.decode(batch.video)], 1).flatten(0, 1))

    def pipeline(self, model: nn.Module, sampling: Mapping[str, Any]) -> InflatedPipeline:
        assert isinstance(model, InflatedUNet)
        settings = self.own_settings(sampling)
        return InflatedPipeline(model, self.space.vae, self.scheduler, image=self.image, **settings)

    def save(self, model: Any, folder: Path, sampling: Mapping[str, Any]) -> None:
        """The temporal layers alone: the picture model and its autoencoder are named, not copied."""
        save_inflated(model, folder, {**self.own_settings(sampling), "scheduler": self.scheduler, "image": self.image})
