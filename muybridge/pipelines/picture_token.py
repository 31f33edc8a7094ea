"""A picture as one token of a network's cross-attention, as Stable Video Diffusion and Gen-1 are told it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL
from torch import Tensor

from muybridge.errors import UserError
from muybridge.library.catalogue import find_part
from muybridge.library.index import settings_of
from muybridge.models.inflated_unet import InflatedUNet
from muybridge.models.latent.space import LatentSpace
from muybridge.models.text.scorers import ImageTextScorer, open_scorer
from muybridge.models.weights.opening import open_network
from muybridge.nn.text_conditioning import TextCondition


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
    return as_token(embedded, width)


def as_token(embedded: Tensor, width: int) -> Tensor:
    """Unit rows [B, D] as tokens [B, 1, width], at unit variance as token embeddings are; narrower ones are filled with zeros."""
    scaled = embedded * embedded.shape[1] ** 0.5
    return torch.nn.functional.pad(scaled, (0, width - scaled.shape[1]))[:, None]


def only_token(token: Tensor) -> TextCondition:
    """A picture's token [B, 1, D] where a network expects a caption."""
    return TextCondition(token[:, 0], token, torch.ones(token.shape[:2], dtype=torch.bool, device=token.device))


def opened_parts(
    folder: Path, dtype: torch.dtype
) -> tuple[InflatedUNet, AutoencoderKL, ImageTextScorer, dict[str, Any]]:
    """Of a folder that `muybridge train` wrote: its network, what it names (the picture model's autoencoder and the
    scorer), and its settings.

    Raises:
        UserError: a part that is not there.
    """
    settings = settings_of(folder)
    network: InflatedUNet = open_network(InflatedUNet, folder / "network", dtype)
    vae = LatentSpace.open(find_part(f"{settings['image']}/vae")).vae
    return network, vae, open_scorer(find_part(settings["scorer"])), settings
