"""Training of the projection that tells a picture model a picture's embedding in the words that it reads."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.functional import normalize

from muybridge.errors import UserError
from muybridge.learning.contract import Losses, TrainingBatch
from muybridge.learning.draws import Draws
from muybridge.models.image_projection import ImageProjection, first_and_last
from muybridge.parts.content_prior import DROPPED, ContentPriorTraining

#: How far an embedding is moved at most, of its own length: a prior's answers lie near the embeddings of pictures (at a
#: cosine of .89 in emoji-clip's space, which is half a length), not on them.
NOISE = 0.5


class ImageProjectionTraining(ContentPriorTraining):
    """The system: a prior's way back, from the features of pictures to the states of their captions.

        L = mean over tokens of | f(normalize(e + s n)) - states |^2,   s ~ U(0, NOISE), n a random direction

    A tenth of the samples have no embedding and the empty caption. Stable unCLIP noises embeddings for the same reason.

    Args:
        model: {"scorer": a bundled scorer or its folder, ...arguments of ImageProjection}; `text` is the picture
            model's own encoder.
    """

    name = "image_projection"
    network_class = ImageProjection

    def losses(self, model: nn.Module, batch: TrainingBatch) -> Losses:
        if batch.text is None or batch.null_text is None:
            raise UserError("text: an image projection learns from captions, but the batch has none")
        scorer = self.scorer.network.to(batch.video.device)
        with torch.no_grad():
            pictures, _, _ = scorer(batch.video[:, :, 0, 0, 0], batch.text.pooled[:, 0])
        dropped = (Draws(batch, "drop").shares() < DROPPED).to(pictures.device)
        draws = Draws(batch, "noise")
        moved = NOISE * draws.uniform(1) * normalize(draws.normal(pictures.shape[1:]), dim=1)
        seen = normalize(pictures + moved.to(pictures), dim=1)
        text, none = batch.text, batch.null_text
        tokens = torch.where(dropped[:, None, None], none.tokens, text.tokens[:, 0])
        mask = torch.where(dropped[:, None], none.mask, text.mask[:, 0])
        said = model(seen * ~dropped[:, None])
        error = (said - first_and_last(tokens, mask, said.shape[1])).square().mean((1, 2))
        return Losses(error, error.detach(), torch.full_like(error, torch.inf))
