"""A small image-text scorer: a contrastive loss over pairs in a batch (2103.00020), on frozen features."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from muybridge.errors import UserError
from muybridge.learning.contract import Losses, System, TrainingBatch
from muybridge.models import built
from muybridge.models.text.encoder import TextConfig
from muybridge.models.text.scorers import DualEncoder
from muybridge.models.vision.picture_features import FeatureSpace

#: Captions whose pooled vectors are this alike are the same caption: no negatives of each other.
SAME = 0.999


class ImageText(System):
    """The system: pictures (clips of one frame) and their captions.

    Args:
        model: arguments of DualEncoder.
    """

    name = "image_text"
    network_class = DualEncoder
    section = "objective"

    def __init__(self, model: Mapping[str, Any], objective: Mapping[str, Any] | None, text: TextConfig | None):
        if text is None:
            raise UserError("text: a scorer reads captions; add `text: {encoder: all-MiniLM-L6-v2}`")
        if objective:
            raise UserError(f"objective: unknown key {next(iter(objective))!r}; this system has no settings there")
        self.model_config, self.text = dict(model), text

    @cached_property
    def space(self) -> FeatureSpace:
        return FeatureSpace()

    def build(self) -> nn.Module:
        made: nn.Module = built(DualEncoder, self.model_config)
        return made

    def losses(self, model: nn.Module, batch: TrainingBatch) -> Losses:
        """Cross entropy both ways over the batch, captions that are the same left out of each other's negatives."""
        assert batch.text is not None
        words = batch.text.pooled[:, 0]
        pictures, texts, factor = model(batch.video[:, :, 0, 0, 0], words)
        scores = factor * pictures @ texts.T
        same = words @ words.T > SAME
        same.fill_diagonal_(False)
        scores = scores.masked_fill(same, -torch.inf)
        truth = torch.arange(len(scores), device=scores.device)
        loss = 0.5 * sum(nn.functional.cross_entropy(s, truth, reduction="none") for s in (scores, scores.T))
        assert isinstance(loss, Tensor)
        return Losses(loss, loss.detach(), torch.full_like(loss, torch.inf))
