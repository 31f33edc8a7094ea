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

from muybridge.diffusion.noise import generator_for
from muybridge.errors import UserError, nearest
from muybridge.learning.contract import Losses, TrainingBatch
from muybridge.learning.latent_diffusion import LatentDiffusion, LatentDiffusionConfig
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
    """Diffusion settings.

    Attributes:
        task: "clip", "prediction" (context_frames known at the start) or "interpolation" (both ends of five known).
        context_frames: for prediction, how often 0, 1, 2, ... frames are known.
        strides: for interpolation, the two frame rates, as strides over the data's frames; the network is told which.
    """

    task: str = "clip"
    context_frames: tuple[float, ...] = (0.34, 0.33, 0.33)
    strides: tuple[int, ...] = (2, 1)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.task not in TASKS:
            raise UserError(f"diffusion.task: unknown {self.task!r}; {nearest(self.task, TASKS)}")
        if abs(sum(self.context_frames) - 1) > 1e-6 or min(self.context_frames) < 0:
            raise UserError(f"diffusion.context_frames must be shares that add up to 1, got {self.context_frames}")
        if min(self.strides) < 1:
            raise UserError(f"diffusion.strides must be at least 1, got {self.strides}")


class VideoLDM(LatentDiffusion):
    """The system: temporal layers behind a frozen picture model.

    Args:
        model: {"image": a bundled image model or a Stable Diffusion folder, "autoencoder": its latent space,
            "temporal": settings of the plug-in}.
    """

    name = "video_ldm"
    config_class = VideoLDMConfig
    config: VideoLDMConfig

    def __init__(self, model: Mapping[str, Any], diffusion: Mapping[str, Any] | None, text: TextConfig | None):
        values = dict(model)
        self.image = str(values.pop("image", ""))
        self.temporal = dict(values.pop("temporal", {}))
        if not self.image:
            raise UserError("model.image: name the picture model that gets time: a bundled one or a folder")
        values.setdefault("autoencoder", f"{self.image}/vae")
        super().__init__(values, diffusion, text)
        if self.model_config:
            known = ("image", "autoencoder", "temporal")
            raise UserError(f"model: unknown key {next(iter(self.model_config))!r}; {nearest('', known)}")
        self.temporal = {"type": "video_ldm", **self.temporal}
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
        shares = torch.tensor(self.config.context_frames)
        for row, place in enumerate(batch.places):
            generator = generator_for(batch.seed, "context", batch.step, place)
            mask[row, :, : int(torch.multinomial(shares, 1, generator=generator))] = 1
        return mask

    def _windows(self, batch: TrainingBatch) -> TrainingBatch:
        """Five frames of each clip at one of the two rates, from anywhere in it."""
        frames, rows, regimes = batch.video.shape[2], [], []
        for row, place in zip(batch.video, batch.places, strict=True):
            generator = generator_for(batch.seed, "window", batch.step, place)
            regime = int(torch.randint(len(self.config.strides), (), generator=generator))
            reach = (WINDOW - 1) * self.config.strides[regime]
            if reach >= frames:
                raise UserError(
                    f"diffusion.strides: a window at stride {self.config.strides[regime]} needs {reach + 1} frames, "
                    f"the clips have {frames}"
                )
            first = int(torch.randint(frames - reach, (), generator=generator))
            rows.append(row[:, first : first + reach + 1 : self.config.strides[regime]])
            regimes.append(float(regime))
        scalars = {**batch.scalars, "regime": torch.tensor(regimes, device=batch.video.device)}
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
