"""Numbers that a video network is told of a clip: its frame rate, how much it moves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from diffusers.models.embeddings import TimestepEmbedding, get_timestep_embedding
from torch import Tensor, nn

#: Channels of a sinusoid of a scalar condition (fps, motion bucket, ...).
SCALAR_CHANNELS = 256


class ScalarConditions(nn.Module):
    """Scalars a clip, each a sinusoid, together a vector that joins the time embedding. Source: Stable Video
    Diffusion."""

    def __init__(self, names: Sequence[str], time_channels: int, sinusoid: int = SCALAR_CHANNELS):
        super().__init__()
        self.names, self.sinusoid = tuple(names), sinusoid
        self.add_embedding = TimestepEmbedding(len(names) * sinusoid, time_channels)

    def forward(self, conditions: Mapping[str, Tensor], like: Tensor) -> Tensor:
        """Each condition [B] -> [B, E]."""
        missing = [n for n in self.names if n not in conditions]
        if missing:
            raise ValueError(
                f"conditions {', '.join(missing)} are missing; this network is told {', '.join(self.names)}"
            )
        values = torch.stack([conditions[n].to(like.device, torch.float32) for n in self.names], 1)
        waves = get_timestep_embedding(values.flatten(), self.sinusoid, flip_sin_to_cos=True, downscale_freq_shift=0)
        out: Tensor = self.add_embedding(waves.reshape(len(values), -1).to(like.dtype))
        return out
