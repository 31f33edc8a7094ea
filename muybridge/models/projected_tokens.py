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

#: diffusers' name of the projection.
PROJECTION = "encoder_hid_proj.weight"


def with_tokens(picture: UNet2DConditionModel, width: int) -> UNet2DConditionModel:
    """The same network behind a projection of tokens of `width` values; its weights copied, those of the projection
    drawn."""
    own = {k: v for k, v in picture.config.items() if not k.startswith("_")}
    told = {"encoder_hid_dim": width, "encoder_hid_dim_type": "text_proj"}
    made: UNet2DConditionModel = UNet2DConditionModel.from_config(own | told)
    made.load_state_dict(picture.state_dict(), strict=False)
    return made


def with_tokens_of(picture: UNet2DConditionModel, changed: Mapping[str, Tensor]) -> UNet2DConditionModel:
    """The network that weights of these names belong to: `picture`, or the same behind their projection."""
    return with_tokens(picture, changed[PROJECTION].shape[1]) if PROJECTION in changed else picture


def in_blocks(embedding: Tensor, width: int) -> Tensor:
    """Unit rows [B, E] as the tokens [B, N, width] that the projection expects, at unit variance; width = N E.

    Raises:
        ValueError: a width that E does not divide.
    """
    count, left = divmod(width, embedding.shape[1])
    if left:
        raise ValueError(f"embeddings of {embedding.shape[1]} values, for a projection of {width}")
    scaled = embedding * embedding.shape[1] ** 0.5
    own = torch.eye(count, dtype=scaled.dtype, device=scaled.device)
    return (own[None, :, :, None] * scaled[:, None, None, :]).flatten(2)
