"""Latent spaces with time in them: a causal autoencoder of ours, or a user's CogVideoX one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL
from torch import Tensor

from muybridge.errors import UserError
from muybridge.files import read_mapping
from muybridge.models.latent.causal_autoencoder import CausalAutoencoder, whole_lengths
from muybridge.models.latent.space import CHUNK_PIXELS, ON_ACCELERATOR, LatentSpace, open_whole, shrink_of, stand_by
from muybridge.models.weights.opening import open_network


class VideoSpace(LatentSpace):
    """Encodes videos of 1 + k T frames to 1 + k latent frames, of which the first is its first frame alone: a picture
    is a video of one frame.

    Args:
        vae: frozen here.
    """

    vae: Any

    def __init__(self, vae: Any):
        self.vae, self.decoder, self.chunk = vae.eval().requires_grad_(False), None, 0
        picture = vae.image if isinstance(vae, CausalAutoencoder) else vae
        self.scale, self.time = float(vae.config.scaling_factor), time_of(vae)
        self.shrink, self.channels = shrink_of(picture), int(picture.config.latent_channels)

    def shape(self, frames: int, height: int, width: int) -> tuple[int, int, int, int]:
        """[C, 1 + k, h, w] of the latents of [3, 1 + k T, height, width].

        Raises:
            UserError: another number of frames, or a size that is no multiple of the shrink factor.
        """
        if (frames - 1) % self.time:
            raise UserError(f"{frames} frames: this model takes {whole_lengths(frames, self.time)}")
        channels, _, rows, columns = super().shape(frames, height, width)
        return (channels, 1 + (frames - 1) // self.time, rows, columns)

    def _piece(self, pixels: int, device: torch.device) -> int:
        """Latent frames of one piece of frames of so many pixels: results do not depend on it beyond rounding, memory
        does."""
        most = CHUNK_PIXELS * (self.share if device.type == "cpu" else ON_ACCELERATOR)
        return max(1, most // (self.time * pixels))

    @torch.no_grad()
    def encode(self, video: Tensor) -> tuple[Tensor, Tensor]:
        """[B, 3, 1 + k T, H, W] in [-1, 1] -> mean and standard deviation of the latents, [B, C, 1 + k, h, w] each."""
        video = video.to(self.vae.device)
        self.shape(*video.shape[2:])
        found = [self._posterior(clip[None]) for clip in video]
        mean, std = (torch.cat([getattr(p, name) for p in found]) * self.scale for name in ("mean", "std"))
        return mean, std

    def _posterior(self, clip: Tensor) -> Any:
        return self.vae.encode(clip, self._piece(clip[0, 0, 0].numel(), clip.device)).latent_dist

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        """[B, C, 1 + k, h, w] -> [B, 3, 1 + k T, H, W]."""
        stand_by(self.vae, latents)
        return torch.cat([self._pixels(z[None] / self.scale) for z in latents])

    def _pixels(self, latents: Tensor) -> Tensor:
        pixels = latents[0, 0, 0].numel() * self.shrink**2
        out: Tensor = self.vae.decode(latents, self._piece(pixels, latents.device))
        return out


class CogVideoXSpace(VideoSpace):
    """The same with diffusers' AutoencoderKLCogVideoX, which goes through a video in pieces of its own: its numbers are
    diffusers'. Its group norms look at all frames of a piece, so that it is causal only from piece to piece."""

    def _posterior(self, clip: Tensor) -> Any:
        return self.vae.encode(clip).latent_dist

    def _pixels(self, latents: Tensor) -> Tensor:
        out: Tensor = self.vae.decode(latents).sample
        return out


def time_of(vae: Any) -> int:
    """How many frames a latent frame of this autoencoder stands for."""
    if isinstance(vae, CausalAutoencoder):
        return vae.time
    return int(getattr(vae.config, "temporal_compression_ratio", 1))


def space_of(vae: Any) -> LatentSpace:
    """The latent space of an autoencoder that is open."""
    if isinstance(vae, AutoencoderKL):
        return LatentSpace(vae)
    return VideoSpace(vae) if isinstance(vae, CausalAutoencoder) else CogVideoXSpace(vae)


def open_space(folder: Path) -> LatentSpace:
    """An autoencoder's folder, of pictures or of videos.

    Raises:
        UserError: incomplete, damaged, or of another kind.
    """
    from diffusers import AutoencoderKLCogVideoX

    kinds = {
        "AutoencoderKL": AutoencoderKL,
        "CausalAutoencoder": CausalAutoencoder,
        "AutoencoderKLCogVideoX": AutoencoderKLCogVideoX,
    }
    name = read_mapping(folder / "config.json").get("_class_name", "AutoencoderKL")
    if name not in kinds:
        raise UserError(f"{folder}: a {name}; expected an autoencoder: {', '.join(kinds)}")
    if kinds[name] is CausalAutoencoder:  # packed weights too, which diffusers does not read
        return VideoSpace(open_network(CausalAutoencoder, folder))
    return space_of(open_whole(kinds[name], folder))
