"""Training of the projection that tells a picture model a picture's embedding in the words that it reads."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from muybridge.errors import UserError
from muybridge.learning.contract import Losses, TrainingBatch
from muybridge.learning.draws import Draws
from muybridge.library.catalogue import find_part
from muybridge.models.image_projection import ImageProjection, first_and_last
from muybridge.models.text.encoder import TextConfig
from muybridge.models.text.prior import ContentPrior, drawn, open_prior
from muybridge.parts.content_prior import DROPPED, ContentPriorTraining

#: How far an embedding is moved at most, of its own length: a prior's answers lie near the embeddings of pictures (at a
#: cosine of .89 in emoji-clip's space, which is half a length), not on them.
NOISE = 0.5
#: How often the prior's answer to a caption stands in for its picture's embedding, where a prior is named.
ANSWERED = 0.5


class ImageProjectionTraining(ContentPriorTraining):
    """The system: a prior's way back, from the features of pictures to the states of their captions.

        L = mean over tokens of | f(e') - states |^2
        e' = normalize(e + s n),   s ~ U(0, NOISE), n a random direction,   or a draw of the prior

    A tenth of the samples have no embedding and the empty caption. Stable unCLIP noises embeddings for the same reason.

    Args:
        model: {"scorer": a bundled scorer or its folder, "prior": that of the decoder, or its folder, on whose answers
            half of the samples are learned (left out: none), ...arguments of ImageProjection}; `text` is the picture
            model's own encoder.
    """

    name = "image_projection"
    network_class = ImageProjection

    def __init__(self, model: Mapping[str, Any], objective: Mapping[str, Any] | None, text: TextConfig | None):
        super().__init__(model, objective, text)
        self.prior_name = str(self.model_config.pop("prior", ""))
        self.model_config.setdefault("text_encoder", self.text.encoder)

    @cached_property
    def prior(self) -> ContentPrior | None:
        """What answers captions, frozen.

        Raises:
            UserError: another model, or a prior that reads words one by one.
        """
        if not self.prior_name:
            return None
        found = open_prior(find_part(self.prior_name))
        if not isinstance(found, ContentPrior):
            raise UserError(f"model.prior: {self.prior_name} reads words one by one; expected a `content_prior`")
        return found.requires_grad_(False)

    def losses(self, model: nn.Module, batch: TrainingBatch) -> Losses:
        if batch.text is None or batch.null_text is None:
            raise UserError("text: an image projection learns from captions, but the batch has none")
        scorer = self.scorer.network.to(batch.video.device)
        with torch.no_grad():
            pictures, words, _ = scorer(batch.video[:, :, 0, 0, 0], batch.text.pooled[:, 0])
        dropped = (Draws(batch, "drop").shares() < DROPPED).to(pictures.device)
        draws = Draws(batch, "noise")
        moved = NOISE * draws.uniform(1) * normalize(draws.normal(pictures.shape[1:]), dim=1)
        seen = self.answered(normalize(pictures + moved.to(pictures), dim=1), words, batch)
        text, none = batch.text, batch.null_text
        tokens = torch.where(dropped[:, None, None], none.tokens, text.tokens[:, 0])
        mask = torch.where(dropped[:, None], none.mask, text.mask[:, 0])
        said = model(seen * ~dropped[:, None])
        error = (said - first_and_last(tokens, mask, said.shape[1])).square().mean((1, 2))
        return Losses(error, error.detach(), torch.full_like(error, torch.inf))

    @torch.no_grad()
    def answered(self, seen: Tensor, words: Tensor, batch: TrainingBatch) -> Tensor:
        """Embeddings [B, D], some of them the prior's answers to words [B, D] instead.

        Raises:
            UserError: a prior for another scorer.
        """
        prior = self.prior
        if prior is None:
            return seen
        wanted, answers = seen.shape[1], prior.config.width
        if answers != wanted:
            raise UserError(
                f"model.prior: {self.prior_name} answers with {answers} values, the projection takes {wanted}"
            )
        prior = prior.to(seen.device)
        rows = torch.nonzero(Draws(batch, "answered").shares() < ANSWERED)[:, 0].to(seen.device)
        told, noise = words[rows].float(), Draws(batch, "prior").normal(seen.shape[1:]).to(seen.device)[rows]
        made = drawn(lambda z, lam: prior(z, lam.to(z), told), noise)
        return seen.index_copy(0, rows, made.to(seen))
