"""A user's Stable Video Diffusion folder, as diffusers keeps it: SVD (14 frames) and SVD-XT (25)."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from muybridge.errors import UserError
from muybridge.files import read_mapping
from muybridge.library.catalogue import find_model
from muybridge.library.index import CONFIG, INDEX, index_of, settings_of, write_settings
from muybridge.models.latent.space import LatentSpace
from muybridge.models.latent.video_autoencoder import load_stable_video_autoencoder
from muybridge.models.weights.for_diffusers import stable_video_unet
from muybridge.models.weights.opening import open_encoder
from muybridge.models.weights.stable_video import load_stable_video_unet
from muybridge.systems.stable_video.pipeline import ImageToVideoPipeline

#: What the official pipeline samples with; 7 frames a second, of which the network is told one less.
SAMPLING: dict[str, Any] = {
    "height": 576, "width": 1024, "fps": 7.0, "num_inference_steps": 25, "guidance_scale": 3.0, "sampler": "ddim",
    "threshold": "none",
}  # fmt: skip


class PublishedEncoder(nn.Module):
    """CLIP's image embedding as Stable Video was trained with it: raw, neither of unit length nor scaled.

    Args:
        folder: of the model, with image_encoder/ and feature_extractor/.
    """

    def __init__(self, folder: Path):
        super().__init__()
        from transformers import CLIPVisionModelWithProjection

        self.encoder: Any = open_encoder(CLIPVisionModelWithProjection, folder / "image_encoder")
        settings = read_mapping(folder / "feature_extractor" / "preprocessor_config.json")
        for name in ("mean", "std"):
            value = torch.tensor(settings[f"image_{name}"]).reshape(1, 3, 1, 1)
            self.register_buffer(name, value, persistent=False)
        self.size = int(self.encoder.config.image_size)

    @torch.no_grad()
    def forward(self, pictures: Tensor) -> Tensor:
        """[N, 3, H, W] in [-1, 1] -> [N, D]."""
        from diffusers.pipelines.stable_video_diffusion import pipeline_stable_video_diffusion as published

        there = pictures.to(self.get_buffer("mean"))
        small = (published._resize_with_antialiasing(there, (self.size, self.size)) + 1) / 2
        out: Tensor = self.encoder((small - self.get_buffer("mean")) / self.get_buffer("std")).image_embeds
        return out


def raw_token(encoder: nn.Module, frame: Tensor, width: int) -> Tensor:
    """Pictures [B, 3, 1, H, W] as the published network is told them, [B, 1, width]."""
    raw: Tensor = encoder(frame[:, :, 0])
    return pad(raw, (0, width - raw.shape[1]))[:, None]


def published_folder(name: str) -> Path | None:
    """The folder of a user's Stable Video model; None for other models, and for none."""
    with suppress(UserError):
        folder = find_model(name)
        return folder if index_of(folder).get("_class_name") == "StableVideoDiffusionPipeline" else None
    return None


def save_published(network: Any, source: Path, folder: Path, sampling: Mapping[str, Any]) -> None:
    """Write a network that was trained from a user's folder as such a folder: diffusers loads it, and `animate`."""
    folder.mkdir(parents=True, exist_ok=True)
    for part in sorted(p for p in source.iterdir() if p.is_dir() and p.name != "unet"):
        shutil.copytree(part, folder / part.name, dirs_exist_ok=True)
    shutil.copy2(source / INDEX, folder / INDEX)
    frames = int(sampling.get("num_frames") or read_mapping(source / "unet" / CONFIG).get("num_frames", 14))
    stable_video_unet(network, frames).save_pretrained(str(folder / "unet"))
    write_settings(folder, {"sampling": dict(sampling)})


class StableVideoDiffusionFolder(ImageToVideoPipeline):
    """Image to video with a user's weights: `muybridge animate --model FOLDER`."""

    @classmethod
    def from_folder(cls, folder: Path, dtype: torch.dtype = torch.float32) -> Self:
        """Open unet/, vae/ (a decoder with time), image_encoder/ and feature_extractor/."""
        for part in ("image_encoder", "feature_extractor"):
            if not (folder / part).is_dir():
                raise UserError(f"{folder}: has no {part} folder; a Stable Video model needs it")
        network = load_stable_video_unet(folder / "unet", dtype)
        decoder = load_stable_video_autoencoder(folder / "vae")
        frames = int(read_mapping(folder / "unet" / CONFIG).get("num_frames", 14))
        own = settings_of(folder).get("sampling", {})  # of what was trained here, or a preset of the user's
        made = cls(network, decoder.image, PublishedEncoder(folder), {**SAMPLING, "num_frames": frames, **own})
        made.space = LatentSpace(decoder.image, decoder=decoder)
        return made

    def around(self, network: nn.Module, sampling: Mapping[str, Any]) -> Self:
        """The same parts around another network."""
        made = type(self)(network, self.vae, self.scorer, dict(sampling))
        made.space = self.space
        return made

    def embedded(self, first_frame: Tensor) -> Tensor:
        encoder: Any = self.scorer
        return raw_token(encoder.to(self.device), first_frame, int(self.network.image.config.cross_attention_dim))

    def told_fps(self, fps: float) -> float:
        return max(0.0, fps - 1)  # micro-conditioning of the published training: fps - 1
