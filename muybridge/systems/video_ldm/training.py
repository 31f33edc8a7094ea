"""Video LDM ("Align your Latents", 2304.08818): time for a frozen picture model, by temporal layers alone.

Three tasks of one design: clips from words, prediction from 0, 1 or 2 context frames, and interpolation of 3 frames
between two known ones at two frame rates. Known frames go into the temporal layers, because the picture model's input
is frozen.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from muybridge.configuration import setting
from muybridge.diffusion.noise import correlated, generator_for
from muybridge.errors import UserError
from muybridge.learning.contract import TrainingBatch
from muybridge.learning.draws import Draws
from muybridge.learning.latent_diffusion import LatentDiffusionConfig, PictureModelSection
from muybridge.learning.picture_models import BehindPictureModel
from muybridge.learning.super_resolution import SuperResolution
from muybridge.nn.frames import to_uint8
from muybridge.systems.video_ldm.long_video import WINDOW

TASKS = ("clip", "prediction", "interpolation")


@dataclass(frozen=True)
class VideoLDMConfig(LatentDiffusionConfig):
    """Diffusion settings."""

    task: str = setting(
        "clip",
        "clip, prediction (context_frames known at the start), or interpolation (both ends of five known)",
        choices=TASKS,
    )
    context_frames: tuple[float, ...] = setting(
        (0.34, 0.33, 0.33), "for prediction: how often 0, 1, 2, ... frames are known", low=0, high=1, fewest=1
    )
    strides: tuple[int, ...] = setting(
        (2, 1),
        "for interpolation: the frame rates, as strides over the data's frames; the network is told which",
        low=1,
        high=1000,
        fewest=1,
    )

    pictures: float = setting(
        0.0, "share of steps whose frames are pictures of their own, which the temporal layers pass by; with "
        "model.temporal.train_image they keep what the picture model knows", low=0, below=1,
    )  # fmt: skip
    noise_correlation: float = setting(
        0.0, "how much of its noise a frame shares with the others of its clip (2305.10474)", low=0, below=1
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if abs(sum(self.context_frames) - 1) > 1e-6:
            raise UserError(f"diffusion.context_frames must be shares that add up to 1, got {self.context_frames}")


@dataclass(frozen=True)
class VideoLDMSection(PictureModelSection):
    """A recipe's `model` section."""

    temporal: dict[str, Any] = setting({}, "settings of the temporal layers (models.plugins.video_ldm)")


class VideoLDM(BehindPictureModel):
    """The system: temporal layers behind a frozen picture model, whose noise table and prediction type they take
    over."""

    name = "video_ldm"
    distils = True
    model_class = VideoLDMSection
    config_class = VideoLDMConfig
    config: VideoLDMConfig

    def prepare(self) -> None:
        self.temporal = {"type": "video_ldm", **self.told.temporal}
        if self.config.task != "clip":
            self.temporal["context_channels"] = self.space.channels
        if self.config.pictures and not self.temporal.get("train_image"):
            raise UserError(
                "diffusion.pictures: steps of pictures train the picture's layers; set model.temporal.train_image, or "
                "leave pictures out"
            )
        self.find_unused_parameters = self.config.pictures > 0
        if self.config.task == "interpolation":
            self.temporal["scalars"] = [*self.temporal.get("scalars", []), "regime"]

    def prepared(self, batch: TrainingBatch) -> TrainingBatch:
        return self._windows(batch) if self.config.task == "interpolation" else batch

    def predict(
        self, model: nn.Module, z: Tensor, index: Tensor, tokens: Tensor, batch: TrainingBatch, **told: Any
    ) -> Tensor:
        conditions = {k: v for k, v in batch.scalars.items() if k in self.temporal.get("scalars", ())}
        mask = self._mask(batch)
        if mask is not None:
            conditions |= {"known": batch.video * mask, "known_mask": mask}
        alone = {"images_only": True} if self._of_pictures(batch) else {}
        out: Tensor = model(z, index, tokens, conditions=conditions, **alone, **told).sample
        return out

    def _of_pictures(self, batch: TrainingBatch) -> bool:
        """Whether a step is one of pictures: the same in every process."""
        share = self.config.pictures
        return share > 0 and float(torch.rand((), generator=generator_for(batch.seed, "pictures", batch.step))) < share

    def noise(self, batch: TrainingBatch, draws: Draws, shape: Sequence[int]) -> Tensor:
        own, rho = super().noise(batch, draws, shape), self.config.noise_correlation
        if not rho or self._of_pictures(batch):
            return own
        return correlated(own, super().noise(batch, draws, (shape[0], 1, *shape[2:])), rho)

    def own_settings(self, sampling: Mapping[str, Any]) -> dict[str, Any]:
        """Sampling starts from noise that is correlated as it was in training."""
        rho = self.config.noise_correlation
        if sampling.get("noise_correlation", rho) != rho:
            raise UserError(
                f"sampling.noise_correlation {sampling['noise_correlation']} is not diffusion.noise_correlation {rho}: "
                "leave it out"
            )
        return super().own_settings({**sampling, "noise_correlation": rho} if rho else sampling)

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
                f"diffusion.strides: a window at stride {max(reaches) // (WINDOW - 1)} needs {max(reaches) + 1} "
                f"frames, the clips have {frames}"
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


class VideoLDMSR(SuperResolution):
    """The upsampler: super-resolution of pictures, and the same with temporal layers behind it, on patches.

    Source: 2304.08818 section 3.4. It sees windows of 8 frames; `window` and `crop` say so.
    """

    name = "video_ldm_sr"
    layers: ClassVar[Mapping[str, Any]] = {"type": "video_ldm"}
