"""Training of the projection that tells a picture model a picture's embedding in the words that it reads."""

from __future__ import annotations

import torch
from torch import nn

from muybridge.errors import UserError
from muybridge.learning.contract import Losses, TrainingBatch
from muybridge.learning.draws import Draws
from muybridge.models.image_projection import ImageProjection, first_and_last
from muybridge.parts.content_prior import DROPPED, ContentPriorTraining


class ImageProjectionTraining(ContentPriorTraining):
    """The system: a prior's way back, from the features of pictures to the states of their captions.

        L = mean over tokens of | f(e) - states |^2

    A tenth of the samples have no embedding and the empty caption.

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
        text, none = batch.text, batch.null_text
        tokens = torch.where(dropped[:, None, None], none.tokens, text.tokens[:, 0])
        mask = torch.where(dropped[:, None], none.mask, text.mask[:, 0])
        said = model(pictures * ~dropped[:, None])
        error = (said - first_and_last(tokens, mask, said.shape[1])).square().mean((1, 2))
        return Losses(error, error.detach(), torch.full_like(error, torch.inf))
