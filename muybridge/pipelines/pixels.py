"""Words to video in pixels, with any network of this project that is told log-SNR: a diffusers `DiffusionPipeline`."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn

from muybridge.diffusion.schedule import schedule_from_name
from muybridge.diffusion.tables import sampling_grid
from muybridge.errors import UserError
from muybridge.library.index import changed_sampling, index_of
from muybridge.models.weights.opening import open_network
from muybridge.pipelines.base import VideoPipeline
from muybridge.pipelines.settings import SamplingConfig
from muybridge.pipelines.words import ToldLogSNR


class TextToVideoPipeline(ToldLogSNR, VideoPipeline):
    """Words to video in pixels.

    Args:
        network: predicts eps, x or v from (z, log-SNR, text); its config holds `prediction_type`.
        schedule, schedule_options: the continuous noise schedule.
        text_encoder: its name or folder; None for a model without text. It is loaded at the first prompt and is not
            part of the saved folder.
        text_max_length: tokens a caption.
        sampling: default values of SamplingConfig.
    """

    def __init__(
        self,
        network: nn.Module,
        schedule: str = "cosine",
        schedule_options: dict[str, Any] | None = None,
        text_encoder: str | None = None,
        text_max_length: int = 16,
        sampling: dict[str, Any] | None = None,
    ):
        super().__init__()
        self.register_modules(network=network)
        self.register_to_config(
            schedule=schedule,
            schedule_options=dict(schedule_options or {}),
            text_encoder=text_encoder,
            text_max_length=text_max_length,
            sampling=dict(sampling or {}),
        )

    @classmethod
    def from_folder(cls, folder: Path, dtype: torch.dtype = torch.float32) -> Self:
        """Open what `save_pretrained` wrote."""
        index = index_of(folder)
        module, name = index["network"]
        found = getattr(importlib.import_module(module), name, None)
        if not isinstance(found, type):
            raise UserError(f"{folder}: component network is a {module}.{name}; expected a network of muybridge")
        network: nn.Module = open_network(found, folder / "network", dtype)
        sampling = {**index.get("sampling", {}), **changed_sampling(folder)}
        options = {"torch_dtype": torch.float32, "local_files_only": True, "sampling": sampling}
        return cls.from_pretrained(str(folder), network=network, **options)

    @property
    def prediction_type(self) -> str:
        return str(self.network.config.prediction_type)

    def levels(self, steps: int, sampler: str = "ddim") -> Tensor:
        return sampling_grid(schedule_from_name(self.config.schedule, self.config.schedule_options), steps)

    def sample_shape(self, settings: SamplingConfig) -> tuple[int, ...]:
        return (self.network.config.out_channels, settings.num_frames, settings.height, settings.width)
