"""Sampling Stable Video's text-to-video model (its stages I to III)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Self

import torch
from torch import Tensor

from muybridge.diffusion.tables import karras_levels
from muybridge.library.catalogue import find_part
from muybridge.library.index import settings_of
from muybridge.models.inflated_unet import InflatedUNet
from muybridge.models.latent.space import LatentSpace
from muybridge.models.weights.opening import open_network
from muybridge.pipelines.inflated import InflatedPipeline, VideoCondition
from muybridge.pipelines.settings import SamplingConfig
from muybridge.systems.stable_video.pipeline import RHO, SIGMA_MAX, SIGMA_MIN


class StableVideoWordsPipeline(InflatedPipeline):
    """Words to video at EDM's noise levels, told the rate and how much moves. Arguments as of InflatedPipeline."""

    takes_picture_model = False
    draws_from_words = True  # type: ignore[assignment]
    told_by = ("motion_bucket",)

    @classmethod
    def from_folder(cls, folder: Path, dtype: torch.dtype = torch.float32) -> Self:  # type: ignore[override]
        """Open what `muybridge train` wrote: the network, and by name the picture model's autoencoder."""
        settings = settings_of(folder)
        network: InflatedUNet = open_network(InflatedUNet, folder / "network", dtype)
        return cls(network, LatentSpace.open(find_part(f"{settings['image']}/vae")).vae, {}, **settings)

    def condition(  # type: ignore[override]
        self, prompts: Sequence[str | None], settings: SamplingConfig, motion_bucket: float = 127.0
    ) -> VideoCondition:
        """What the network is told.

        Args:
            motion_bucket: 0 (the stillest of the training clips) to 255.
        """
        return super().condition(prompts, settings, {"motion_bucket": torch.full((len(prompts),), motion_bucket)})

    @property
    def prediction_type(self) -> str:
        return "v_prediction"

    def index_of(self, lam: Tensor, z: Tensor) -> Tensor:
        return (-lam / 8).to(z.device, torch.float32)  # 0.25 ln sigma

    def levels(self, steps: int, sampler: str = "ddim") -> Tensor:
        return karras_levels(steps, SIGMA_MIN, SIGMA_MAX, RHO)
