"""A picture's embedding as several tokens of a picture network's cross-attention, by its own first projection.

    token_i = W_i e + b,  i = 1 ... N

The projection is diffusers' `encoder_hid_proj`, a layer of one input token: e lies in the i-th block of N of the i-th
token, whose other blocks are zero, so that each block of its weight is one W_i. unCLIP has four tokens (2204.06125
section 2.1).
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor

from muybridge.models.reconfigured import reconfigured

#: diffusers' name of the projection.
PROJECTION = "encoder_hid_proj.weight"


def with_tokens(picture: UNet2DConditionModel, width: int) -> UNet2DConditionModel:
    """The same network behind a projection of tokens of `width` values; its weights copied, those of the projection
    drawn."""
    made: UNet2DConditionModel = reconfigured(picture, encoder_hid_dim=width, encoder_hid_dim_type="text_proj")
    return made


def with_tokens_of(picture: UNet2DConditionModel, changed: Mapping[str, Tensor]) -> UNet2DConditionModel:
    """The network that weights of these names belong to: `picture`, or the same behind their projection."""
    return with_tokens(picture, changed[PROJECTION].shape[1]) if PROJECTION in changed else picture


def in_blocks(embedding: Tensor, width: int) -> Tensor:
    """Unit rows [B, E] as the tokens [B, N, width] that the projection expects, at unit variance; width = N E."""
    size = embedding.shape[1]
    own = torch.eye(width // size, dtype=embedding.dtype, device=embedding.device)
    return (own[None, :, :, None] * embedding[:, None, None, :] * size**0.5).flatten(2)
