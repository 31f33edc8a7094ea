"""Gen-1 (2302.03011): structure and content told apart, so that any video can be given another look without tuning on it.

The network sees the depth of the video, blurred to a level it is told, and the embedding of one of its frames. It trains on
videos and on their frames alone, so that it is an image model whenever its temporal layers are passed by.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
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
from muybridge.diffusion.schedule import stratified_times
from muybridge.diffusion.tables import DiscreteSchedule
from muybridge.errors import UserError
from muybridge.learning.contract import Losses, TrainingBatch
from muybridge.learning.latent_diffusion import SCHEDULER
from muybridge.library.catalogue import find_part
from muybridge.library.index import INFLATED_UNET, write_index, write_settings
from muybridge.library.parts import load_picture_unet
from muybridge.models.inflated_unet import InflatedUNet
from muybridge.models.latent.space import LatentSpace
from muybridge.models.text.encoder import TextConfig
from muybridge.models.text.scorers import ImageTextScorer, open_scorer
from muybridge.models.vision.structure import estimator_named
from muybridge.models.vision.structure_level import LEVEL_CHANNELS, LEVELS
from muybridge.models.weights.widened import with_more_inputs
from muybridge.nn.frames import to_uint8
from muybridge.pipelines.picture_token import context_of
from muybridge.systems.gen1.pipeline import Gen1Pipeline, depth_video, structure_latents


@dataclass(frozen=True)
class Gen1Config:
    """Training settings.

    Attributes:
        image_share: how often a batch is its frames alone, the temporal layers passed by (the paper: 12.5 %).
        max_level: structure levels are drawn from 0 .. this; 0 is the paper's third stage, 7 its fourth.
        drop: how often the content is dropped (the paper does not say).
    """

    image_share: float = 0.125
    max_level: int = LEVELS - 1
    drop: float = 0.1

    def __post_init__(self) -> None:
        if not 0 <= self.image_share <= 1 or not 0 <= self.drop < 1:
            raise UserError("diffusion.image_share must be in [0, 1] and drop in [0, 1)")
        if not 0 <= self.max_level < LEVELS:
            raise UserError(f"diffusion.max_level must be in 0..{LEVELS - 1}, got {self.max_level}")


class Gen1:
    """The system.

    Args:
        model: {"image": the picture model it starts from, "scorer": whose picture embedding is the content,
            "prior": a bundled prior from words or its folder, "structure": a name of models.vision.structure.ESTIMATORS}.
    """

    name = "gen1"
    section = "diffusion"
    #: the trainer hands over the clips' pixels
    wants_pixels = True
    #: a batch of images leaves the temporal layers without gradients, which several processes must be told
    find_unused_parameters = True

    def __init__(self, model: Mapping[str, Any], diffusion: Mapping[str, Any] | None, text: TextConfig | None):
        values = dict(model)
        if text is not None:
            raise UserError("text: this system is told a picture's embedding; words come in by the prior: leave it out")
        if "image" not in values:
            raise UserError("model.image: name the picture model it starts from: a bundled one or a folder")
        self.image = str(values.pop("image"))
        self.scorer_name, self.prior = str(values.pop("scorer", "emoji-clip")), str(values.pop("prior", "emoji-prior"))
        self.structure = str(values.pop("structure", "depth"))
        self.temporal = {"type": "gen1", **values.pop("temporal", {})}
        if values:
            raise UserError(
                f"model: unknown key {next(iter(values))!r}; known: image, scorer, prior, structure, temporal"
            )
        self.config = from_mapping(Gen1Config, diffusion, "diffusion")
        self.table = DiscreteSchedule.from_config(SCHEDULER)

    @cached_property
    def space(self) -> LatentSpace:
        return LatentSpace.open(find_part(f"{self.image}/vae"))

    @cached_property
    def scorer(self) -> ImageTextScorer:
        return open_scorer(find_part(self.scorer_name))

    def build(self) -> InflatedUNet:
        picture = with_more_inputs(load_picture_unet(self.image), self.space.channels + LEVEL_CHANNELS)
        return InflatedUNet.from_image_model(picture, self.temporal)

    def trainable(self, model: nn.Module) -> Sequence[tuple[str, nn.Parameter]]:
        return list(model.named_parameters())

    def losses(self, model: Any, batch: TrainingBatch) -> Losses:
        """E | v - v_theta(z, t, s, c) |^2, structure and content of the same clip."""
        x = batch.video
        if batch.pixels is None:
            raise UserError("this system needs the clips' pixels beside the latents")
        times, noises, levels, chosen, kept = [], [], [], [], []
        for place in batch.places:
            generator = generator_for(batch.seed, "train", batch.step, place)
            uniform = torch.rand(3, generator=generator, dtype=torch.float64)
            times.append(stratified_times(uniform[:1], place, batch.total))
            levels.append(int(torch.randint(self.config.max_level + 1, (), generator=generator)))
            chosen.append(int(torch.randint(x.shape[2], (), generator=generator)))
            kept.append(float(uniform[1] >= self.config.drop))
            noises.append(torch.randn(x.shape[1:], generator=generator))
        index = (torch.cat(times) * len(self.table.table)).long()
        lam = self.table.table[index].to(x.device)
        noise = torch.stack(noises).to(x)
        rows = torch.arange(len(x))
        frame = batch.pixels[rows, :, torch.tensor(chosen)][:, :, None]
        width = int(getattr(model, "module", model).image.config.cross_attention_dim)
        content = context_of(self.scorer, frame, width) * torch.tensor(kept).to(x)[:, None, None]
        structure = structure_latents(self.space, self.depth(batch.pixels), torch.tensor(levels)).to(x)
        z = diffuse(x, noise, lam)
        # a whole batch is images or videos, never both: the draw is the step's, the same on every process
        alone = (
            float(torch.rand((), generator=generator_for(batch.seed, "images", batch.step))) < self.config.image_share
        )
        inputs = torch.cat([z, structure], 1)
        out = model(inputs, index.to(x.device), content, images_only=alone).sample
        error = mse_per_sample(out, target_of(x, noise, lam, str(SCHEDULER["prediction_type"])))
        return Losses(error, error.detach(), lam.float())

    @torch.no_grad()
    def depth(self, pixels: Tensor) -> Tensor:
        """What the structure estimator sees in clips [B, 3, F, H, W]: [B, 1, F, H, W] in [-1, 1]."""
        found = [estimator_named(self.structure)(frames) for frames in to_uint8(pixels)]
        return torch.cat([depth_video(f) for f in found])

    def pipeline(self, model: nn.Module, sampling: Mapping[str, Any]) -> Gen1Pipeline:
        return Gen1Pipeline(model, self.space.vae, SCHEDULER, self.scorer, sampling=dict(sampling))

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
        write_settings(folder, {**named, "scheduler": SCHEDULER, "sampling": dict(sampling)})
        write_index(folder, "Gen1Pipeline", network=INFLATED_UNET)
