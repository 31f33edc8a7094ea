"""Training a super-resolution network, in pixels or in latents, first on pictures, then with temporal layers on clips;
no words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from diffusers import UNet2DConditionModel
from torch import Tensor, nn

from muybridge.configuration import from_mapping, from_names, setting
from muybridge.diffusion.process import augment_condition
from muybridge.diffusion.tables import DiscreteSchedule
from muybridge.errors import UserError
from muybridge.learning.contract import Losses, System, TrainingBatch
from muybridge.learning.draws import Draws
from muybridge.learning.latent_diffusion import SCHEDULER, NoiseTable
from muybridge.learning.on_table import Noised
from muybridge.library.catalogue import find_model, find_part
from muybridge.library.index import PICTURE_UNET, index_of, settings_of, write_settings
from muybridge.library.inflated import open_unet, save_unet
from muybridge.models import built
from muybridge.models.inflated_unet import InflatedUNet
from muybridge.models.latent.pixels import PixelSpace
from muybridge.models.latent.space import LatentSpace
from muybridge.models.super_resolution import channels_of, enlarged, grid_factor, on_grid, reduced
from muybridge.models.text.encoder import TextConfig
from muybridge.nn.frames import crops, to_uint8
from muybridge.pipelines.super_resolution import (
    GivenPixels,
    SuperResolutionConfig,
    SuperResolutionPipeline,
    predict_pixels,
    vae_in,
)

#: Of a network that is trained on pictures, what follows from its task; the table is unCLIP's cosine one.
TASK: dict[str, Any] = {"class_embed_type": "timestep"}
COSINE = {**SCHEDULER, "beta_schedule": "squaredcos_cap_v2", "rescale_betas_zero_snr": False}


@dataclass(frozen=True)
class SuperResolutionTrainingConfig(SuperResolutionConfig):
    """Diffusion and conditioning settings."""

    where: ClassVar[str] = "diffusion"

    scheduler: dict[str, Any] = setting({}, "changes to the noise table, of a network that starts from nothing")
    blur: float = setting(
        0.6, "deviation, in pixels, of the blur of the small video (unCLIP's 3 x 3); 0 for none", low=0, high=10
    )
    augmentation_low: float = setting(
        0.0, "least log-SNR that the small video is brought to in training", low=-20, high=20
    )
    augmentation_high: float = setting(20.0, "greatest; 20 is as good as clean", low=-20, high=20)
    crop: int = setting(0, "pixels a side of the random crops that it trains on; 0 trains on whole frames", low=0)

    def __post_init__(self) -> None:
        super().__post_init__()
        from_names(NoiseTable, self.scheduler, "diffusion.scheduler")
        if not self.augmentation_low < self.augmentation_high:
            raise UserError("diffusion: augmentation_low must be below augmentation_high")
        if self.crop % self.factor:
            raise UserError(f"diffusion.crop: a multiple of factor {self.factor}, got {self.crop}")


class SuperResolution(System):
    """Base of the systems: what is small is made from clips or pictures of the size that the network makes.

    Args:
        model: {"image": a trained super-resolver of pictures, or "" to train one, "temporal": settings of the temporal
            layers behind it, or without `image` "autoencoder": the latent space that it draws in, or "" for pixels,
            and the arguments of UNet2DConditionModel}.
        diffusion: fields of SuperResolutionTrainingConfig.
        text: must be None.

    Attributes:
        layers: the temporal plug-in and its settings.
        canvas: the space that it draws in: latents, or pixels. The data stay pixels (`space` is None).
    """

    section = "diffusion"
    config_class = SuperResolutionTrainingConfig
    layers: ClassVar[Mapping[str, Any]] = {}

    def __init__(self, model: Mapping[str, Any], diffusion: Mapping[str, Any] | None, text: TextConfig | None):
        if text is not None:
            raise UserError("text: a super-resolution network is told no words; leave the section out")
        self.model_config = dict(model)
        self.image = str(self.model_config.pop("image", "") or "")
        self.autoencoder = str(self.model_config.pop("autoencoder", "") or "")
        self.temporal = {**self.layers, **dict(self.model_config.pop("temporal", {}) or {})}
        self.config: SuperResolutionTrainingConfig = from_mapping(self.config_class, diffusion, "diffusion")
        own = (["autoencoder"] if self.autoencoder else []) + list(self.model_config)
        if self.image and own:
            raise UserError(f"model.{own[0]}: the picture network of model.image has its own")
        self.scheduler = {**COSINE, **self.config.scheduler}
        if self.image:
            if self.config.scheduler:
                raise UserError("diffusion.scheduler: it is that of model.image; leave it out")
            self.scheduler = self._picture_settings()["scheduler"]
            self.autoencoder = str(find_model(self.image) / "vae") if vae_in(find_model(self.image)) else ""
        self.task = {**TASK, **channels_of(self.canvas)}
        grid_factor(self.config.factor, self.canvas)  # refuses what does not fit
        self.table = DiscreteSchedule.from_config(self.scheduler)

    @cached_property
    def canvas(self) -> Any:
        return LatentSpace.open(find_part(self.autoencoder)) if self.autoencoder else PixelSpace()

    def _picture_settings(self) -> dict[str, Any]:
        folder = find_model(self.image)
        if index_of(folder).get("network") != PICTURE_UNET or "making" not in settings_of(folder):
            raise UserError(f"model.image: {self.image} is no super-resolver of pictures that `muybridge train` wrote")
        found = settings_of(folder)
        if found["making"].get("factor") != self.config.factor:
            raise UserError(
                f"diffusion.factor: {self.image} has {found['making'].get('factor')}, got {self.config.factor}"
            )
        return found

    def build(self) -> nn.Module:
        if self.image:
            picture: Any = open_unet(find_model(self.image))
            video = InflatedUNet.from_image_model(picture, self.temporal, copied=False)
            multiple = int(video.temporal.frames_multiple)
            if self.config.window % multiple:
                raise UserError(
                    f"diffusion.window: a multiple of {multiple}, as time is halved (model.temporal.levels), got "
                    f"{self.config.window}"
                )
            return video
        for name, value in self.task.items():
            if self.model_config.get(name, value) != value:
                raise UserError(
                    f"model.{name}: {value!r} in a super-resolution network, got {self.model_config[name]!r}"
                )
        blocks = [*self.model_config.get("down_block_types", ()), *self.model_config.get("up_block_types", ())]
        blocks.append(self.model_config.get("mid_block_type", "UNetMidBlock2D"))
        if not self.model_config.get("down_block_types") or any("CrossAttn" in str(b) for b in blocks):
            raise UserError(
                "model: a super-resolution network is told no words: give down_block_types and up_block_types without "
                "cross-attention, such as DownBlock2D and UpBlock2D"
            )
        network: nn.Module = built(
            UNet2DConditionModel, {"mid_block_type": "UNetMidBlock2D", **self.model_config, **self.task}
        )
        return network

    def trainable(self, model: Any) -> Sequence[tuple[str, nn.Parameter]]:
        return model.trainable_parameters() if isinstance(model, InflatedUNet) else list(model.named_parameters())

    def losses(self, model: nn.Module, batch: TrainingBatch) -> Losses:
        """E | target - prediction |^2 with the small video noised to a level that the network is told."""
        video, draws, config = self._cropped(batch), Draws(batch), self.config
        x = self.canvas.encode(video)[0].to(video)
        given = on_grid(reduced(video, config.factor, config.blur), config.factor, self.canvas)
        noised, beside = Noised.draw(self.table, x, draws), Draws(batch, "augmentation")
        low, high = config.augmentation_low, config.augmentation_high
        level = (low + (high - low) * beside.shares()).to(x)
        told = GivenPixels(augment_condition(given, beside.normal(given.shape[1:]).to(x), level), level)
        return noised.losses(
            predict_pixels(model, noised.z, noised.index, told), str(self.scheduler["prediction_type"])
        )

    def _cropped(self, batch: TrainingBatch) -> Tensor:
        size, video = self.config.crop, batch.video
        if not size:
            return video
        if size > min(video.shape[3:]):
            raise UserError(f"diffusion.crop: at most {min(video.shape[3:])}, the clips' shorter side, got {size}")
        return crops(video, size, Draws(batch, "crop").shares(2))

    def pipeline(self, model: nn.Module, sampling: Mapping[str, Any]) -> SuperResolutionPipeline:
        vae = self.canvas.vae if self.autoencoder else None
        return SuperResolutionPipeline(model, self.scheduler, self.making(), self.own_sampling(sampling), vae)

    def own_sampling(self, sampling: Mapping[str, Any]) -> dict[str, Any]:
        """Settings of sampling that a recipe gives, and what holds where it gives none."""
        return {"guidance_scale": 1.0, **sampling}

    def making(self) -> dict[str, Any]:
        """What of the settings holds in sampling."""
        known = {field.name for field in fields(SuperResolutionConfig)}
        return {name: value for name, value in asdict(self.config).items() if name in known}

    @torch.no_grad()
    def preview(self, model: nn.Module, prompts: list[str], sampling: Mapping[str, Any], clips: Tensor) -> np.ndarray:
        """Held-out clips: enlarged, made and true, side by side."""
        small = reduced(clips[:2], self.config.factor, self.config.blur)
        made = self.pipeline(model, sampling).raise_video(small, [None] * len(small), seed=0).samples
        return to_uint8(torch.cat([enlarged(small, self.config.factor), made.to(clips), clips[:2]], 4))

    def save(self, model: Any, folder: Path, sampling: Mapping[str, Any]) -> None:
        save_unet(model, folder, "SuperResolutionPipeline")
        if self.autoencoder:
            self.canvas.vae.save_pretrained(str(folder / "vae"))
        write_settings(
            folder,
            {"scheduler": self.scheduler, "making": self.making(), "sampling": self.own_sampling(sampling)},
        )
