"""Gen-1 (2302.03011): structure and content told apart, so that any video can be given another look without tuning on
it.

The network sees the depth of the video, blurred to a level it is told, and the embedding of one of its frames. It
trains on videos and on their frames alone, so that it is an image model whenever its temporal layers are passed by.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from muybridge.configuration import Settings, from_names, setting
from muybridge.diffusion.losses import mse_per_sample
from muybridge.diffusion.noise import generator_for
from muybridge.diffusion.prediction import target_of
from muybridge.diffusion.process import diffuse
from muybridge.diffusion.tables import DiscreteSchedule
from muybridge.errors import UserError
from muybridge.learning.contract import Losses, TrainingBatch
from muybridge.learning.draws import Draws
from muybridge.learning.latent_diffusion import NoiseTable, table_behind
from muybridge.learning.picture_models import ToldByPicture, ToldByPictureSection
from muybridge.library.index import INFLATED_UNET, write_index, write_settings
from muybridge.library.parts import load_picture_unet
from muybridge.models.inflated_unet import InflatedUNet
from muybridge.models.vision.names import STRUCTURES
from muybridge.models.vision.structure import estimator_named
from muybridge.models.vision.structure_level import LEVEL_CHANNELS, LEVELS
from muybridge.models.weights.widened import with_more_inputs
from muybridge.nn.frames import to_uint8
from muybridge.pipelines.picture_token import context_of
from muybridge.systems.gen1.pipeline import Gen1Pipeline, depth_video, structure_latents


@dataclass(frozen=True)
class Gen1Config(Settings):
    """Training settings."""

    where: ClassVar[str] = "diffusion"

    scheduler: dict[str, Any] = setting({}, "the picture model's noise table; what is said here must agree with it")
    image_share: float = setting(
        0.125, "how often a batch is its frames alone, the temporal layers passed by (the paper: 12.5 %)", low=0, high=1
    )
    max_level: int = setting(
        LEVELS - 1, "structure levels are drawn from 0 to this: 0 is the paper's third stage, 7 its fourth",
        low=0, high=LEVELS - 1,
    )  # fmt: skip
    drop: float = setting(0.1, "how often the content is dropped (the paper does not say)", low=0, below=1)

    def __post_init__(self) -> None:
        super().__post_init__()
        from_names(NoiseTable, self.scheduler, "diffusion.scheduler")


@dataclass(frozen=True)
class Gen1Section(ToldByPictureSection):
    """A recipe's `model` section; the temporal layers are models.plugins.gen1."""

    scorer: str = setting("emoji-clip", "whose picture embedding is the content")
    prior: str = setting("emoji-prior", "from words to that embedding: a bundled prior, or its folder")
    structure: str = setting("depth", "what structure is", choices=STRUCTURES)


class Gen1(ToldByPicture):
    """The system."""

    name = "gen1"
    model_class = Gen1Section
    config_class = Gen1Config
    wants_pixels = True
    #: batches of images leave the temporal layers without gradients
    find_unused_parameters = True

    def prepare(self) -> None:
        self.prior, self.structure = self.told.prior, self.told.structure
        self.temporal = {"type": "gen1", **self.told.temporal}
        self.scheduler = table_behind(self.image, self.config.scheduler)
        self.table = DiscreteSchedule.from_config(self.scheduler)

    def build(self) -> InflatedUNet:
        picture = with_more_inputs(load_picture_unet(self.image), self.space.channels + LEVEL_CHANNELS)
        return InflatedUNet.from_image_model(picture, self.temporal)

    def losses(self, model: Any, batch: TrainingBatch) -> Losses:
        """E | v - v_theta(z, t, s, c) |^2, structure and content of the same clip."""
        x = batch.video
        if batch.pixels is None:
            raise UserError("this system needs the clips' pixels beside the latents")
        draws = Draws(batch)
        uniform = draws.uniform(3)  # [B, 3]: of the time, of dropping, and one that is not used any more
        levels, chosen = draws.integers(self.config.max_level + 1), draws.integers(x.shape[2])
        kept = (uniform[:, 1] >= self.config.drop).to(x)
        noise = draws.normal(x.shape[1:]).to(x)
        index = (draws.as_times(uniform[:, 0]) * len(self.table.table)).long()
        lam = self.table.table[index]
        rows = torch.arange(len(x))
        frame = batch.pixels[rows, :, torch.tensor(chosen)][:, :, None]
        width = int(getattr(model, "module", model).image.config.cross_attention_dim)
        content = context_of(self.scorer.to(x.device), frame, width) * kept[:, None, None]
        structure = structure_latents(self.space, self.depth(batch.pixels), torch.tensor(levels)).to(x)
        z = diffuse(x, noise, lam)
        # a whole batch is images or videos, never both: the draw is the step's, the same on every process
        alone = (
            float(torch.rand((), generator=generator_for(batch.seed, "images", batch.step))) < self.config.image_share
        )
        inputs = torch.cat([z, structure], 1)
        out = model(inputs, index.to(x.device), content, images_only=alone).sample
        error = mse_per_sample(out, target_of(x, noise, lam, str(self.scheduler["prediction_type"])))
        return Losses(error, error.detach(), lam.to(x.device, torch.float32))

    @torch.no_grad()
    def depth(self, pixels: Tensor) -> Tensor:
        """What the structure estimator sees in clips [B, 3, F, H, W]: [B, 1, F, H, W] in [-1, 1]."""
        found = [estimator_named(self.structure)(frames) for frames in to_uint8(pixels)]
        return torch.cat([depth_video(f) for f in found])

    def pipeline(self, model: nn.Module, sampling: Mapping[str, Any]) -> Gen1Pipeline:
        settings: dict[str, Any] = {"sampling": dict(sampling), "structure": self.structure}
        return Gen1Pipeline(model, self.space.vae, self.scheduler, self.scorer, **settings)

    @torch.no_grad()
    def preview(self, model: nn.Module, prompts: list[str], sampling: Mapping[str, Any], clips: Tensor) -> np.ndarray:
        """Held-out clips, and each with the look of the next one."""
        pixels = self.space.decode(clips)
        depth, pipeline, rows = self.depth(pixels), self.pipeline(model, sampling), []
        for i in range(len(clips)):
            look = pixels[(i + 1) % len(clips)][None, :, 0]
            rows += [pixels[i : i + 1], pipeline(depth[i : i + 1], look, seed=0).samples]
        return to_uint8(torch.cat(rows))

    def save(self, model: Any, folder: Path, sampling: Mapping[str, Any]) -> None:
        model.save_pretrained(str(folder / "network"))
        named = {"image": self.image, "scorer": self.scorer_name, "prior": self.prior, "structure": self.structure}
        write_settings(folder, {**named, "scheduler": self.scheduler, "sampling": dict(sampling)})
        write_index(folder, "Gen1Pipeline", network=INFLATED_UNET)
