"""A ControlNet for a picture model (2302.05543): the U-Net stays frozen, a copy of its encoder learns to read
structure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import ControlNetModel
from torch import Tensor, nn

from muybridge.configuration import setting
from muybridge.learning.contract import TrainingBatch
from muybridge.learning.latent_diffusion import PictureModelSection
from muybridge.learning.picture_models import BehindPictureModel
from muybridge.library.index import write_settings
from muybridge.library.parts import load_picture_unet
from muybridge.models.vision.control import Control, residuals_of
from muybridge.models.vision.names import STRUCTURES
from muybridge.models.vision.structure import control_pictures, estimator_named
from muybridge.nn.frames import to_uint8
from muybridge.pipelines.latents import predict_frames
from muybridge.pipelines.zero_shot import View, ZeroShotPipeline


class Controlled(nn.Module):
    """A picture U-Net and the ControlNet beside it."""

    def __init__(self, image: nn.Module, control: ControlNetModel):
        super().__init__()
        self.image, self.control = image, control

    def forward(self, z: Tensor, index: Tensor, tokens: Tensor, pictures: Tensor, **more: Any) -> Tensor:
        """z [B, C, F, h, w], index [B], tokens [B, L, D], pictures [B F, 3, H, W] in [0, 1]; more as of predict_frames
        -> like z."""

        def residuals(folded: Tensor, at: Tensor, words: Tensor, **told: Any) -> Any:
            return residuals_of([Control(self.control, pictures)], folded, at, words, **told)

        return predict_frames(self.image, z, index, tokens, residuals, **more)


@dataclass(frozen=True, kw_only=True)
class ControlNetSection(PictureModelSection):
    """A recipe's `model` section."""

    structure: str = setting(..., "what the network is shown of a picture", choices=STRUCTURES)


class ControlNetTraining(BehindPictureModel):
    """The system: pictures, each with the structure that an estimator finds in it.

    The widths of the network that reads the pictures are ours (16, 32, 64, 96, 256: one halving a level of the
    autoencoder); the published ControlNets, for autoencoders of three halvings, have 16, 32, 96, 256.
    """

    name = "control_net"
    model_class = ControlNetSection
    wants_first_frame = True

    def prepare(self) -> None:
        self.structure = self.told.structure

    def build(self) -> Controlled:
        image = load_picture_unet(self.image)
        levels = len(self.space.vae.config.block_out_channels) - 1
        # one halving a level of the autoencoder brings the pictures to the size of the latents
        widths = (16, 32, 64, 96, 256)[: levels + 1]
        return Controlled(image, ControlNetModel.from_unet(image, conditioning_embedding_out_channels=widths))

    def trainable(self, model: nn.Module) -> Sequence[tuple[str, nn.Parameter]]:
        return [(n, p) for n, p in model.named_parameters() if n.startswith("control.")]

    def predict(
        self, model: nn.Module, z: Tensor, index: Tensor, tokens: Tensor, batch: TrainingBatch, **told: Any
    ) -> Tensor:
        assert batch.first_frame is not None
        out: Tensor = model(z, index, tokens, self._pictures(batch.first_frame).to(z), **told)
        return out

    def _pictures(self, first_frame: Tensor) -> Tensor:
        return control_pictures(estimator_named(self.structure)(to_uint8(first_frame)[:, 0]))

    @torch.no_grad()
    def preview(self, model: Any, prompts: list[str], sampling: Mapping[str, Any], clips: Tensor) -> np.ndarray:
        """Held-out pictures' structure drawn anew without words, under the pictures themselves."""
        given = self.space.decode(clips[:, :, :1])
        pipeline = ZeroShotPipeline(model.image, self.space.vae, self.scheduler, **self.own_settings(sampling))
        settings = pipeline.settings(num_frames=1, guidance_scale=1.0)
        rows = []
        for picture in given:
            view = View(controls=[Control(model.control, self._pictures(picture[None]))])
            condition = pipeline.condition([""], settings, view)
            rows += [picture[None], pipeline.draw(condition, pipeline.null(condition), [0], settings).samples]
        return to_uint8(torch.cat(rows))

    def save(self, model: Any, folder: Path, sampling: Mapping[str, Any]) -> None:
        """The ControlNet alone, as diffusers keeps it, and the guidance it is to be sampled with, if the recipe
        says."""
        model.control.save_pretrained(str(folder))
        if "guidance_scale" in sampling:
            write_settings(folder, {"sampling": {"guidance_scale": sampling["guidance_scale"]}})
