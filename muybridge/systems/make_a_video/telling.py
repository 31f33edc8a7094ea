"""How a decoder is told a picture's embedding: as a token of ours, or as a user's unCLIP folder has it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from muybridge.errors import UserError
from muybridge.library.catalogue import find_model, find_part
from muybridge.library.parts import load_picture_unet, scheduler_of
from muybridge.models.inflated_unet import InflatedUNet
from muybridge.models.latent.pixels import PixelSpace
from muybridge.models.latent.space import LatentSpace
from muybridge.models.projected_tokens import PROJECTION, in_blocks
from muybridge.models.text.prior import open_prior
from muybridge.models.text.scorers import CLIPScorer, ImageTextScorer
from muybridge.models.unclip import (
    STABLE_UNCLIP,
    StableUnCLIPTelling,
    UnCLIPPrior,
    UnCLIPTelling,
    kind_of,
    open_decoder,
    table_of,
)
from muybridge.nn.frames import batch_to_frames, frames_to_batch
from muybridge.pipelines.picture_token import as_token


def reads(name: str) -> bool:
    """Whether a picture network's layer reads the embedding, or says how much of a channel is heard."""
    return "attn2." in name or "norm" in name or name.endswith(".bias") or name == PROJECTION


class TokenTelling(nn.Module):
    """The embedding as tokens of the cross-attention, zero where it is not told: itself as the one token, or as many as
    the network projects it to.

    Args:
        network: a picture network, or one behind temporal layers.
    """

    def __init__(self, network: nn.Module):
        super().__init__()
        config: Any = getattr(network, "image", network).config
        self.projected = int(config.encoder_hid_dim or 0)
        self.width = int(config.cross_attention_dim)

    def forward(self, embedding: Tensor, kept: Tensor) -> tuple[Tensor, None]:
        """Embeddings [B, E] and which of them are told, bool [B] -> (text [B, tokens, width], no class labels)."""
        size, width = embedding.shape[1], self.projected or self.width
        if size > width or self.projected % size:
            raise UserError(f"the scorer's embeddings have {size} values, the network's attention takes {width}")
        tokens = in_blocks(embedding, width) if self.projected else as_token(embedding, width)
        return tokens * kept[:, None, None].to(embedding), None


class PictureModel:
    """What a decoder keeps of the picture model that it came from: its space, its table, how it is told.

    Args:
        name: a bundled image model, a Stable Diffusion folder, or an unCLIP folder.
    """

    def __init__(self, name: str):
        self.name, self.folder = name, find_model(name)
        self.unclip = kind_of(self.folder)

    def unet(self) -> Any:
        """Its picture network, float32."""
        return open_decoder(self.folder) if self.unclip else load_picture_unet(self.name)

    def table(self) -> dict[str, Any]:
        """Its noise table and prediction type."""
        return table_of(self.folder) if self.unclip else scheduler_of(self.name)

    def space(self) -> LatentSpace | PixelSpace:
        """Its latent space, or pixels where it has no autoencoder."""
        if self.unclip and not (self.folder / "vae").is_dir():
            return PixelSpace()
        return LatentSpace.open(find_part(f"{self.name}/vae"))

    def telling(self, network: nn.Module) -> nn.Module:
        """How `network` is told embeddings."""
        if self.unclip:
            return (StableUnCLIPTelling if self.unclip == STABLE_UNCLIP else UnCLIPTelling)(self.folder)
        return TokenTelling(network)

    def prior(self, named: str) -> Any:
        """The prior that is named, or an unCLIP folder's own; None where there is neither."""
        if named:
            return open_prior(find_part(named))
        return UnCLIPPrior(self.folder) if self.unclip else None

    def seen(self, scorer: ImageTextScorer, pictures: Tensor) -> Tensor:
        """The embedding that the decoder is told of pictures [B, 3, H, W], [B, E].

        Raises:
            UserError: an unCLIP decoder, and a scorer that is no CLIP.
        """
        if not self.unclip:
            return scorer.embed_pictures(pictures)
        if not isinstance(scorer, CLIPScorer):
            raise UserError(f"model.scorer: {self.name} is told CLIP's embeddings; give the folder of its CLIP")
        return scorer.raw_pictures(pictures)

    def embedding_width(self, scorer: ImageTextScorer) -> int:
        """How many values that embedding has."""
        return self.seen(scorer, torch.zeros(1, 3, 64, 64)).shape[1]


def predict_told(
    network: nn.Module,
    z: Tensor,
    index: Tensor,
    tokens: Tensor,
    labels: Tensor | None,
    conditions: Mapping[str, Tensor],
) -> Tensor:
    """A decoder's output for z [B, C, F, h, w]; of one that also says a variance (unCLIP's), what is no variance.

    Args:
        index: of the table, [B].
        tokens, labels: what it is told of a picture, one row a video.
        conditions: of the temporal layers; not read by a network of pictures.
    """
    tokens, labels = tokens.to(z), None if labels is None else labels.to(z)
    if isinstance(getattr(network, "module", network), InflatedUNet):
        out: Tensor = network(z, index, tokens, conditions=conditions, class_labels=labels).sample
        return out[:, : z.shape[1]]
    rows = [None if t is None else t.repeat_interleave(z.shape[2], 0) for t in (index, tokens, labels)]
    flat = network(frames_to_batch(z), rows[0], encoder_hidden_states=rows[1], class_labels=rows[2]).sample
    return batch_to_frames(flat, len(z))[:, : z.shape[1]]


def all_kept(embedding: Tensor) -> Tensor:
    """bool [B]: every embedding is told, but those that are zero, which are none."""
    return embedding.abs().amax(1) > 0


def none_kept(embedding: Tensor) -> Tensor:
    """bool [B]: no embedding is told."""
    return torch.zeros(len(embedding), dtype=torch.bool, device=embedding.device)
