"""Stable Video Diffusion (2311.15127): the whole network trains, noise is continuous, a picture is brought to life.

In the words of this project: F of the paper's preconditioning is the v-prediction, its weighted loss the plain v-error, its
noise level sigma the log-SNR -2 ln sigma; Euler steps on sigma are DDIM steps. So the samplers and losses are the common ones.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from muybridge.configuration import from_mapping
from muybridge.diffusion.losses import mse_per_sample
from muybridge.diffusion.noise import generator_for
from muybridge.diffusion.prediction import target_of
from muybridge.diffusion.process import diffuse
from muybridge.errors import UserError
from muybridge.learning.contract import Losses, TrainingBatch
from muybridge.library.catalogue import find_part
from muybridge.library.index import CONFIG, INFLATED_UNET, read_mapping, write_index, write_settings
from muybridge.library.parts import load_picture_unet
from muybridge.models.inflated_unet import InflatedUNet
from muybridge.models.latent.space import LatentSpace
from muybridge.models.text.encoder import TextConfig
from muybridge.models.text.scorers import ImageTextScorer, open_scorer
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
class StableVideoConfig:
    """Diffusion and conditioning settings.

    Attributes:
        p_mean, p_std: ln sigma ~ N(p_mean, p_std^2). Stages of the paper: (-1.2, 1) to (0, 1) in pretraining, (0.7, 1.6)
            and (1.0, 1.6) for image to video: more noise for larger videos and stronger conditions.
        augmentation_mean, augmentation_std: of ln sigma of the noise on the given picture.
        drop: how often the picture's embedding, its latents, or both are dropped, each (the paper does not say).
    """

    p_mean: float = 0.7
    p_std: float = 1.6
    augmentation_mean: float = -3.0
    augmentation_std: float = 0.5
    drop: float = 0.1

    def __post_init__(self) -> None:
        if self.p_std <= 0 or self.augmentation_std < 0:
            raise UserError("diffusion.p_std must be above 0 and augmentation_std not below it")
        if not 0 <= self.drop < 1 / 3:
            raise UserError(f"diffusion.drop must be in [0, 1/3), got {self.drop}")


class StableVideo:
    """The system: image to video.

    Args:
        model: {"image": the picture model it starts from, "scorer": whose picture embedding the network is told,
            "temporal": further settings of the temporal layers}.
    """

    name = "stable_video"
    section = "diffusion"
    #: the trainer hands over the first frame's pixels
    wants_first_frame = True

    def __init__(self, model: Mapping[str, Any], diffusion: Mapping[str, Any] | None, text: TextConfig | None):
        values = dict(model)
        if text is not None:
            raise UserError("text: this system is told a picture, not words; leave the section out")
        missing = [n for n in ("image", "scorer") if n not in values]
        if missing:
            raise UserError(f"model: missing {', '.join(missing)}")
        self.image, self.scorer_name = str(values.pop("image")), str(values.pop("scorer"))
        self.temporal = {**LAYERS, **values.pop("temporal", {})}
        if values:
            raise UserError(f"model: unknown key {next(iter(values))!r}; known: image, scorer, temporal")
        self.config = from_mapping(StableVideoConfig, diffusion, "diffusion")
        self._space: LatentSpace | None = None
        self._scorer: ImageTextScorer | None = None

    @property
    def space(self) -> LatentSpace:
        if self._space is None:
            self._space = LatentSpace.open(find_part(f"{self.image}/vae"))
        return self._space

    @property
    def scorer(self) -> ImageTextScorer:
        if self._scorer is None:
            self._scorer = open_scorer(find_part(self.scorer_name))
        return self._scorer

    def build(self) -> InflatedUNet:
        picture = load_picture_unet(self.image)
        return InflatedUNet.from_image_model(with_more_inputs(picture, self.space.channels), self.temporal)

    def trainable(self, model: nn.Module) -> Sequence[tuple[str, nn.Parameter]]:
        return list(model.named_parameters())

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
        return Losses(error, error.detach(), lam.float())

    def _draw(self, batch: TrainingBatch) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """Noise levels, noise, and the given picture with its own noise; each sample's own."""
        config, x = self.config, batch.video
        if batch.first_frame is None:
            raise UserError("this system needs the first frame's pixels beside the latents")
        lams, noises, levels, grains, kept = [], [], [], [], []
        for place in batch.places:
            generator = generator_for(batch.seed, "train", batch.step, place)
            normal = torch.randn(2, generator=generator, dtype=torch.float64)
            lams.append(-2 * (config.p_mean + config.p_std * normal[0]))
            levels.append((config.augmentation_mean + config.augmentation_std * normal[1]).exp())
            noises.append(torch.randn(x.shape[1:], generator=generator))
            grains.append(torch.randn(batch.first_frame.shape[1:], generator=generator))
            share = float(torch.rand((), generator=generator))
            # thirds of the dropped share: the embedding, the latents, both
            third = int(share // config.drop) if config.drop else 3
            kept.append((third not in (0, 2), third not in (1, 2)))
        level = torch.stack(levels).to(x)
        clean = batch.first_frame
        noisy = clean + level.reshape(-1, 1, 1, 1, 1) * torch.stack(grains).to(x)
        latents = self.space.encode(noisy)[0] / self.space.scale  # unscaled, as the official code has it
        flags = torch.tensor(kept, device=x.device)
        width = int(self.model_width())
        context = context_of(self.scorer, clean, width) * flags[:, :1, None]
        picture = latents * flags[:, 1].reshape(-1, 1, 1, 1, 1)
        return (
            torch.stack(lams).to(x.device),
            torch.stack(noises).to(x),
            {"picture": picture, "context": context, "level": level},
        )

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
