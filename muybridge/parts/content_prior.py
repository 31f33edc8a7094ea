"""Training of the prior that lets words stand in for a picture's embedding (Gen-1 uses one as unCLIP has it)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from muybridge.diffusion.noise import generator_for
from muybridge.diffusion.process import diffuse
from muybridge.diffusion.schedule import stratified_times
from muybridge.errors import UserError
from muybridge.learning.contract import Losses, TrainingBatch
from muybridge.library.catalogue import find_part
from muybridge.models.text.encoder import TextConfig
from muybridge.models.text.prior import SCHEDULE, ContentPrior
from muybridge.models.text.scorers import SmallScorer, open_scorer
from muybridge.models.vision.picture_features import FeatureSpace


class ContentPriorTraining:
    """The system: captions and the features of their pictures, both in a scorer's space.

    Args:
        model: {"scorer": a bundled scorer or its folder, ...arguments of ContentPrior}.
    """

    name = "content_prior"
    section = "objective"

    def __init__(self, model: Mapping[str, Any], objective: Mapping[str, Any] | None, text: TextConfig | None):
        if text is None:
            raise UserError("text: a prior reads captions; add `text: {encoder: all-MiniLM-L6-v2}`")
        if objective:
            raise UserError(f"objective: unknown key {next(iter(objective))!r}; this system has no settings there")
        self.model_config, self.text = dict(model), text
        self.scorer_name = str(self.model_config.pop("scorer", "emoji-clip"))

    @cached_property
    def space(self) -> FeatureSpace:
        return FeatureSpace()

    @cached_property
    def scorer(self) -> SmallScorer:
        found = open_scorer(find_part(self.scorer_name))
        if not isinstance(found, SmallScorer):
            raise UserError(f"model.scorer: {self.scorer_name} is no scorer of muybridge")
        return found

    def build(self) -> nn.Module:
        try:
            return ContentPrior(**self.model_config)
        except TypeError as error:
            raise UserError(f"model: {error}") from error

    def trainable(self, model: nn.Module) -> Sequence[tuple[str, nn.Parameter]]:
        return list(model.named_parameters())

    def losses(self, model: nn.Module, batch: TrainingBatch) -> Losses:
        assert batch.text is not None
        network = self.scorer.network.to(batch.video.device)
        with torch.no_grad():
            pictures, words, _ = network(batch.video[:, :, 0, 0, 0], batch.text.pooled[:, 0])
        x = pictures * pictures.shape[1] ** 0.5
        times, noises = [], []
        for place in batch.places:
            generator = generator_for(batch.seed, "train", batch.step, place)
            times.append(stratified_times(torch.rand(1, generator=generator, dtype=torch.float64), place, batch.total))
            noises.append(torch.randn(x.shape[1:], generator=generator))
        lam = SCHEDULE(torch.cat(times)).to(x.device)
        error = (model(diffuse(x, torch.stack(noises).to(x), lam), lam, words) - x).square().mean(1)
        return Losses(error, error.detach(), lam.float())

    def preview(self, model: nn.Module, prompts: list[str], sampling: Mapping[str, Any], clips: Tensor) -> np.ndarray:
        raise UserError("training.sample_every: a prior draws nothing; set it to 0")

    def save(self, model: Any, folder: Any, sampling: Mapping[str, Any]) -> None:
        model.save_pretrained(str(folder))


def likeness(
    prior: ContentPrior, scorer: SmallScorer, captions: Sequence[str], pictures: Tensor
) -> tuple[float, float]:
    """Mean cosine to the pictures' embeddings: of the prior's answers, and of the bare words'."""
    words, seen = scorer.embed_texts(captions), scorer.embed_pictures(pictures)
    made = torch.cat([prior.picture_embedding(w[None]) for w in words])
    return float((normalize(made, dim=-1) * seen).sum(1).mean()), float((words * seen).sum(1).mean())
