"""How a decoder is told a picture's embedding: as a token of ours, or as a user's unCLIP folder has it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from muybridge.errors import UserError
from muybridge.library.catalogue import find_model, find_part
from muybridge.library.index import settings_of
from muybridge.library.parts import load_picture_unet, scheduler_of
from muybridge.models.image_projection import open_projection
from muybridge.models.inflated_unet import InflatedUNet
from muybridge.models.latent.pixels import PixelSpace
from muybridge.models.latent.space import LatentSpace
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
    return "attn2." in name or "norm" in name or name.endswith(".bias")


class TokenTelling(nn.Module):
    """The embedding as tokens of the cross-attention: itself as one, zero where it is not told, or what a projection
    says of it, or of zero.

    Args:
        network: a picture network, or one behind temporal layers.
        projection: a bundled image projection, or its folder; "" for none.
        encoder: the text encoder that the picture network reads; "" where it is not known.

    Raises:
        UserError: a projection to tokens of another width, or to the states of another encoder.
    """

    def __init__(self, network: nn.Module, projection: str = "", encoder: str = ""):
        super().__init__()
        config: Any = getattr(network, "image", network).config
        self.width = int(config.cross_attention_dim)
        self.projection = open_projection(find_part(projection)) if projection else None
        if self.projection is not None and self.projection.config.token_dim != self.width:
            raise UserError(
                f"model.projection: {projection} says tokens of {self.projection.config.token_dim} values, the picture "
                f"model's attention takes {self.width}; train one with its text encoder"
            )
        said = self.projection.config.text_encoder if self.projection is not None else ""
        if said and encoder and said != encoder:
            raise UserError(
                f"model.projection: {projection} says the states of {said}, the picture model reads those of "
                f"{encoder}; train one with its text encoder"
            )

    def forward(self, embedding: Tensor, kept: Tensor) -> tuple[Tensor, None]:
        """Embeddings [B, E] and which of them are told, bool [B] -> (text [B, tokens, width], no class labels)."""
        size, told = embedding.shape[1], embedding * kept[:, None].to(embedding)
        if self.projection is None:
            if size > self.width:
                raise UserError(
                    f"the scorer's embeddings have {size} values, the network's attention takes {self.width}"
                )
            return as_token(told, self.width), None
        if size != self.projection.config.width:
            wanted = self.projection.config.width
            raise UserError(f"the scorer's embeddings have {size} values, model.projection takes {wanted}")
        return self.projection.to(told.device)(told), None


class PictureModel:
    """What a decoder keeps of the picture model that it came from: its space, its table, how it is told.

    Args:
        name: a bundled image model, a Stable Diffusion folder, or an unCLIP folder.
        projection: from embeddings to tokens that it reads, by name; "" for none.
    """

    def __init__(self, name: str, projection: str = ""):
        self.name, self.folder, self.projection = name, find_model(name), projection
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
        return TokenTelling(network, self.projection, str(settings_of(self.folder).get("text_encoder", "")))

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
