"""A picture as one token of a network's cross-attention, as Stable Video Diffusion and Gen-1 are told it."""

from __future__ import annotations

import torch
from torch import Tensor

from muybridge.errors import UserError
from muybridge.models.text.scorers import ImageTextScorer


def context_of(scorer: ImageTextScorer, first_frame: Tensor, width: int) -> Tensor:
    """The given picture as one token of the cross-attention, [B, 1, width]; narrower embeddings are filled with zeros.

    Args:
        first_frame: [B, 3, 1, H, W] in [-1, 1].
    """
    embedded = scorer.embed_pictures(first_frame[:, :, 0])
    if embedded.shape[1] > width:
        raise UserError(
            f"the scorer's embeddings have {embedded.shape[1]} values, the network's attention takes {width}"
        )
    # unit rows have tiny entries: bring them to unit variance, as token embeddings are
    scaled = embedded * embedded.shape[1] ** 0.5
    return torch.nn.functional.pad(scaled, (0, width - scaled.shape[1]))[:, None]
