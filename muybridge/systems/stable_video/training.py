"""Stable Video Diffusion (2311.15127): the whole network trains, noise is continuous, a picture is brought to life.

In the words of this project: F of the paper's preconditioning is the v-prediction, its weighted loss the plain v-error, its
noise level sigma the log-SNR -2 ln sigma; Euler steps on sigma are DDIM steps. So the samplers and losses are the common ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from muybridge.configuration import Settings, setting
from muybridge.diffusion.losses import mse_per_sample
from muybridge.diffusion.prediction import target_of
from muybridge.diffusion.process import diffuse
from muybridge.errors import UserError
from muybridge.files import read_mapping
from muybridge.learning.contract import Losses, TrainingBatch
from muybridge.learning.draws import Draws
from muybridge.learning.picture_models import ToldByPicture
from muybridge.library.catalogue import find_part
from muybridge.library.index import CONFIG, INFLATED_UNET, write_index, write_settings
from muybridge.library.parts import load_picture_unet
from muybridge.models.inflated_unet import InflatedUNet
from muybridge.models.weights.widened import with_more_inputs
from muybridge.pipelines.picture_token import context_of
from muybridge.systems.stable_video.pipeline import SCALARS, ImageToVideoPipeline

LAYERS: dict[str, Any] = {
    "type": "video_ldm",
    "train_image": True,
    "scalars": list(SCALARS),
    "scalars_everywhere": True,
}


@dataclass(frozen=True)
class StableVideoConfig(Settings):
    """Diffusion and conditioning settings.

    Stages of the paper have ln sigma ~ N(-1.2, 1) to N(0, 1) in pretraining, N(0.7, 1.6^2) and N(1.0, 1.6^2) for image to video:
    more noise for larger videos and stronger conditions.
    """

    where: ClassVar[str] = "diffusion"

    p_mean: float = setting(0.7, "mean of ln sigma", low=-10, high=10)
    p_std: float = setting(1.6, "deviation of ln sigma", above=0, high=10)
    augmentation_mean: float = setting(-3.0, "mean of ln sigma of the noise on the given picture", low=-10, high=10)
    augmentation_std: float = setting(0.5, "its deviation", low=0, high=10)
    drop: float = setting(
        0.1, "how often the picture's embedding, its latents, or both are dropped, each (the paper does not say)",
        low=0, below=1 / 3,
    )  # fmt: skip


class StableVideo(ToldByPicture):
    """The system: image to video."""

    name = "stable_video"
    config_class = StableVideoConfig
    wants_first_frame = True

    def prepare(self) -> None:
        self.temporal = {**LAYERS, **self.told.temporal}

    def build(self) -> InflatedUNet:
        picture = load_picture_unet(self.image)
        return InflatedUNet.from_image_model(with_more_inputs(picture, self.space.channels), self.temporal)

    def losses(self, model: nn.Module, batch: TrainingBatch) -> Losses:
        """E | v - F |^2 with ln sigma normal: the paper's lambda(sigma) | D - x |^2."""
        x = batch.video
        lam, noise, conditions = self._draw(batch)
        z = diffuse(x, noise, lam)
        picture, context = conditions["picture"], conditions["context"]
        inputs = torch.cat([z, picture.expand(-1, -1, x.shape[2], -1, -1)], 1)
        scalars = {"fps": batch.scalars["fps"], "motion_bucket": batch.scalars["motion_bucket"]}
        scalars["noise_augmentation"] = conditions["level"]
        out = model(inputs, (-lam / 8).to(x), context, conditions=scalars).sample
        error = mse_per_sample(out, target_of(x, noise, lam, "v_prediction"))
        return Losses(error, error.detach(), lam.to(x.device, torch.float32))

    def _draw(self, batch: TrainingBatch) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """Noise levels, noise, and the given picture with its own noise; each sample's own."""
        config, x = self.config, batch.video
        if batch.first_frame is None:
            raise UserError("this system needs the first frame's pixels beside the latents")
        draws = Draws(batch)
        normal = draws.normal((2,), torch.float64)  # [B, 2]: of the noise level, of the picture's
        lam = -2 * (config.p_mean + config.p_std * normal[:, 0])
        level = (config.augmentation_mean + config.augmentation_std * normal[:, 1]).exp().to(x)
        noise = draws.normal(x.shape[1:]).to(x)
        clean = batch.first_frame
        noisy = clean + level.reshape(-1, 1, 1, 1, 1) * draws.normal(clean.shape[1:]).to(x)
        # thirds of the dropped share: the embedding, the latents, both
        shares = draws.shares().tolist()
        thirds = [int(share // config.drop) if config.drop else 3 for share in shares]
        kept = [(third not in (0, 2), third not in (1, 2)) for third in thirds]
        latents = self.space.encode(noisy)[0] / self.space.scale  # unscaled, as the official code has it
        flags = torch.tensor(kept, device=x.device)
        width = int(self.model_width())
        context = context_of(self.scorer.to(x.device), clean, width) * flags[:, :1, None]
        picture = latents * flags[:, 1].reshape(-1, 1, 1, 1, 1)
        return lam, noise, {"picture": picture, "context": context, "level": level}

    def model_width(self) -> int:
        """Width of the network's cross-attention."""
        return int(read_mapping(find_part(f"{self.image}/unet") / CONFIG)["cross_attention_dim"])

    def pipeline(self, model: nn.Module, sampling: Mapping[str, Any]) -> ImageToVideoPipeline:
        return ImageToVideoPipeline(model, self.space.vae, self.scorer, sampling=dict(sampling))

    @torch.no_grad()
    def preview(self, model: nn.Module, prompts: list[str], sampling: Mapping[str, Any], clips: Tensor) -> np.ndarray:
        """The first frames of held-out clips, brought to life."""
        pictures = self.space.decode(clips[:, :, :1])
        frames: np.ndarray = self.pipeline(model, sampling)(pictures[:, :, 0], seed=0).frames
        return frames

    def save(self, model: Any, folder: Path, sampling: Mapping[str, Any]) -> None:
        model.save_pretrained(str(folder / "network"))
        settings = {"image": self.image, "scorer": self.scorer_name, "sampling": dict(sampling)}
        write_settings(folder, settings)
        write_index(folder, "ImageToVideoPipeline", network=INFLATED_UNET)
