"""How well a picture fits words: one interface, a small scorer of our own, and a user's CLIP behind it.

The small one stands in for CLIP on the bundled data (emoji) and knows nothing of photographs.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import Tensor, nn
from torch.nn.functional import normalize

from muybridge.errors import UserError
from muybridge.files import read_mapping
from muybridge.models.text.encoder import TextConfig, TextEncoder
from muybridge.models.vision.picture_features import WIDTH, PictureFeatures
from muybridge.models.weights.opening import open_encoder, open_part

#: What a matched pair is divided by at the start: e^2.5, as CLIP's 1/0.07 in size.
START_TEMPERATURE = 2.5


class ImageTextScorer(nn.Module):
    """Pictures and words in one space; rows have unit length, and their products are the scores. Frozen.

    Pictures may lie on any device: they are embedded where the scorer is, and the rows come back to where they were.
    """

    def embed_pictures(self, pictures: Tensor) -> Tensor:
        """[N, 3, H, W] in [-1, 1] -> [N, D], float32."""
        raise NotImplementedError

    def embed_texts(self, texts: Sequence[str]) -> Tensor:
        """[N, D], float32 on the CPU."""
        raise NotImplementedError


class DualEncoder(ModelMixin, ConfigMixin):
    """Two small networks over frozen features: of pictures (MobileNetV2) and of captions (MiniLM's pooled vector).

    Args:
        picture_dim, text_dim: widths of the features.
        hidden, width: of the networks and of the common space.
        dropout: in the hidden layers.
    """

    @register_to_config
    def __init__(
        self, picture_dim: int = WIDTH, text_dim: int = 384, hidden: int = 768, width: int = 256, dropout: float = 0.3
    ):
        super().__init__()
        self.standardise = nn.BatchNorm1d(picture_dim, affine=False, momentum=0.01)
        self.picture = nn.Sequential(
            nn.Linear(picture_dim, hidden), nn.GELU(), nn.Dropout(dropout), nn.Linear(hidden, width)
        )
        self.words = nn.Sequential(
            nn.Linear(text_dim, hidden), nn.GELU(), nn.Dropout(dropout), nn.Linear(hidden, width)
        )
        self.temperature = nn.Parameter(torch.tensor(START_TEMPERATURE))

    def forward(self, features: Tensor, pooled: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """features [N, picture_dim], pooled [M, text_dim] -> unit rows of both [., width], and the scores' factor."""
        pictures = normalize(self.picture(self.standardise(features)), dim=-1)
        return pictures, normalize(self.words(pooled), dim=-1), self.temperature.exp().clamp(max=100.0)


class SmallScorer(ImageTextScorer):
    """`emoji-clip` and its like: a DualEncoder with the feature networks before it."""

    def __init__(self, network: DualEncoder, text: TextConfig = TextConfig()):
        super().__init__()
        self.network = network.eval().requires_grad_(False)
        self.features, self.encoder = PictureFeatures(), TextEncoder(text)

    @torch.no_grad()
    def embed_pictures(self, pictures: Tensor) -> Tensor:
        there = pictures.to(self.network.temperature)
        features = self.network.standardise(self.features(there))
        return normalize(self.network.picture(features), dim=-1).to(pictures.device)

    @torch.no_grad()
    def embed_texts(self, texts: Sequence[str]) -> Tensor:
        pooled = torch.cat([self.encoder([text]).pooled for text in texts])
        return normalize(self.network.words(pooled.to(self.network.temperature)), dim=-1).cpu()


class CLIPScorer(ImageTextScorer):
    """A user's CLIP from a transformers folder (config.json, safetensors, tokenizer, preprocessor_config.json)."""

    def __init__(self, folder: Path):
        super().__init__()
        from transformers import AutoTokenizer, CLIPImageProcessor, CLIPModel

        self.model: Any = open_encoder(CLIPModel, folder)
        self.tokenizer = AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
        settings = CLIPImageProcessor.get_image_processor_dict(str(folder), local_files_only=True)[0]
        for name in ("image_mean", "image_std"):
            self.register_buffer(name, torch.tensor(settings[name]).reshape(1, 3, 1, 1), persistent=False)
        self.size = int(self.model.config.vision_config.image_size)

    def embed_pictures(self, pictures: Tensor) -> Tensor:
        return normalize(self.raw_pictures(pictures), dim=-1)

    @torch.no_grad()
    def raw_pictures(self, pictures: Tensor) -> Tensor:
        """[N, 3, H, W] in [-1, 1] -> [N, D] as CLIP projects them, not of unit length: what unCLIP's decoders take."""
        mean, std = self.get_buffer("image_mean"), self.get_buffer("image_std")
        x = nn.functional.interpolate(
            pictures.to(mean), (self.size, self.size), mode="bicubic", align_corners=False, antialias=True
        )
        hidden = self.model.vision_model(pixel_values=((x.clamp(-1, 1) + 1) / 2 - mean) / std).pooler_output
        projected: Tensor = self.model.visual_projection(hidden)
        return projected.to(pictures.device)

    @torch.no_grad()
    def embed_texts(self, texts: Sequence[str]) -> Tensor:
        tokens = self.tokenizer(list(texts), padding=True, truncation=True, return_tensors="pt")
        hidden = self.model.text_model(**tokens.to(self.get_buffer("image_mean").device)).pooler_output
        return normalize(self.model.text_projection(hidden), dim=-1).cpu()


def open_scorer(folder: Path) -> ImageTextScorer:
    """A scorer from a folder: one of ours (`muybridge train`) or a CLIP of transformers.

    Raises:
        UserError: neither.
    """
    try:
        config = read_mapping(folder / "config.json")
    except UserError as error:
        raise UserError(f"{folder}: no readable config.json there: {error}") from error
    if config.get("_class_name") == "DualEncoder":
        return SmallScorer(open_part(DualEncoder, folder))
    if config.get("model_type") == "clip":
        return CLIPScorer(folder)
    raise UserError(f"{folder}: neither a scorer of muybridge nor a CLIP model of transformers")
