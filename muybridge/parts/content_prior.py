"""Training of the prior that lets words stand in for a picture's embedding (Gen-1 uses one as unCLIP has it)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from muybridge.diffusion.process import diffuse
from muybridge.errors import UserError
from muybridge.learning.contract import Losses, System, TrainingBatch
from muybridge.learning.draws import Draws
from muybridge.library.catalogue import find_part
from muybridge.models import built
from muybridge.models.text.encoder import TextConfig
from muybridge.models.text.prior import SCHEDULE, CausalPrior, ContentPrior
from muybridge.models.text.scorers import SmallScorer, open_scorer
from muybridge.models.vision.picture_features import FeatureSpace

#: How often a causal prior's caption is dropped, and an image projection's embedding.
DROPPED = 0.1


class ContentPriorTraining(System):
    """The system: captions and the features of their pictures, both in a scorer's space.

    Args:
        model: {"scorer": a bundled scorer or its folder, ...arguments of ContentPrior}.
    """

    name = "content_prior"
    network_class: type[Any] = ContentPrior
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
        made: nn.Module = built(self.network_class, self.model_config)
        return made

    def losses(self, model: nn.Module, batch: TrainingBatch) -> Losses:
        assert batch.text is not None
        network = self.scorer.network.to(batch.video.device)
        with torch.no_grad():
            pictures, words, _ = network(batch.video[:, :, 0, 0, 0], batch.text.pooled[:, 0])
        x = pictures * pictures.shape[1] ** 0.5
        draws = Draws(batch)
        lam, noise = SCHEDULE(draws.times()), draws.normal(x.shape[1:]).to(x)
        told = self.told(words, batch)
        error = (model(diffuse(x, noise, lam), lam.to(x.device, torch.float32), *told) - x).square().mean(1)
        return Losses(error, error.detach(), lam.to(x.device, torch.float32))

    def told(self, words: Tensor, batch: TrainingBatch) -> tuple[Tensor, ...]:
        """What the network is told of captions beside the level: their embedding [B, D]."""
        return (words,)


class CausalPriorTraining(ContentPriorTraining):
    """The system: the same, told the captions' words one by one too (2204.06125).

    Captions are dropped in a tenth of the samples, as the paper has it: their embedding is zero, and no word is real.

    Args:
        model: {"scorer": a bundled scorer or its folder, ...arguments of CausalPrior}.
    """

    name = "causal_prior"
    network_class = CausalPrior

    def trainable(self, model: Any) -> Sequence[tuple[str, nn.Parameter]]:
        """All but the statistics of CLIP that diffusers' transformer keeps for others; nothing here reads them."""
        return [(n, p) for n, p in model.named_parameters() if not n.endswith((".clip_mean", ".clip_std"))]

    def told(self, words: Tensor, batch: TrainingBatch) -> tuple[Tensor, ...]:
        assert batch.text is not None
        kept = (Draws(batch, "drop").shares() >= DROPPED).to(words.device)
        return words * kept[:, None], batch.text.tokens[:, 0], batch.text.mask[:, 0] & kept[:, None]


def likeness(
    prior: ContentPrior, scorer: SmallScorer, captions: Sequence[str], pictures: Tensor
) -> tuple[float, float]:
    """Mean cosine to the pictures' embeddings: of the prior's answers, and of the bare words'."""
    words, seen = scorer.embed_texts(captions), scorer.embed_pictures(pictures)
    made = torch.cat([prior.picture_embedding(w[None]) for w in words])
    return float((normalize(made, dim=-1) * seen).sum(1).mean()), float((words * seen).sum(1).mean())
