"""The space of networks that see pixels: what a latent space is to others, without an autoencoder."""

from __future__ import annotations

import torch
from torch import Tensor


class PixelSpace:
    """Pixels as they are, in the words of `LatentSpace`."""

    scale, shrink, channels = 1.0, 1, 3

    def shape(self, frames: int, height: int, width: int) -> tuple[int, int, int, int]:
        """[C, F, H, W]."""
        return (self.channels, frames, height, width)

    def encode(self, video: Tensor) -> tuple[Tensor, Tensor]:
        """[B, 3, F, H, W] -> the same, and a standard deviation of zero."""
        return video, torch.zeros_like(video)

    def decode(self, samples: Tensor) -> Tensor:
        """[B, 3, F, H, W] -> the same."""
        return samples
