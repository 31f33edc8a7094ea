"""What small networks that map pictures to pictures share when they train: L1 on pixels and on their differences."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from muybridge.errors import UserError
from muybridge.learning.contract import Losses, System, TrainingBatch
from muybridge.models import built
from muybridge.models.text.encoder import TextConfig
from muybridge.nn.frames import to_uint8


class PixelRegression(System):
    """Base of systems whose clips hold both question and answer.

    Args:
        model: arguments of `network_class`.
        objective, text: must be empty.
    """

    name = ""
    section = "objective"

    def __init__(self, model: Mapping[str, Any], objective: Mapping[str, Any] | None, text: TextConfig | None):
        if text is not None or objective:
            raise UserError(f"{self.name}: reads neither `text` nor `objective`; leave the sections out")
        self.model_config = dict(model)

    def build(self) -> nn.Module:
        assert self.network_class is not None
        made: nn.Module = built(self.network_class, self.model_config)
        return made

    def answer(self, model: nn.Module, clips: Tensor) -> tuple[Tensor, Tensor]:
        """Clips [B, C, F, H, W] in [-1, 1] -> what the network says and what is right, pictures [B, C, H, W]."""
        raise NotImplementedError

    def losses(self, model: nn.Module, batch: TrainingBatch) -> Losses:
        said, right = self.answer(model, batch.video)
        wrong = said - right
        edges = wrong.diff(dim=-1).abs().flatten(1).mean(1) + wrong.diff(dim=-2).abs().flatten(1).mean(1)
        error = wrong.abs().flatten(1).mean(1)
        return Losses(error + edges, error.detach(), torch.full_like(error, torch.inf))

    @torch.no_grad()
    def preview(self, model: nn.Module, prompts: list[str], sampling: Mapping[str, Any], clips: Tensor) -> np.ndarray:
        """What the network says, and what is right, one under the other."""
        said, right = self.answer(model, clips)
        pairs = torch.stack([said, right], 1).flatten(0, 1).expand(-1, 3, -1, -1)
        return to_uint8(pairs[:, :, None] * 2 - 1)
