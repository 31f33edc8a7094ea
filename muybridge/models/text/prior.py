"""From the embedding of words to that of a picture: a small diffusion prior (2204.06125 section 2.2, as a plain
MLP)."""

from __future__ import annotations

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from diffusers.models.embeddings import get_timestep_embedding
from torch import Tensor, nn
from torch.nn.functional import normalize

from muybridge.diffusion.noise import Noise
from muybridge.diffusion.samplers import sample_ddim
from muybridge.diffusion.schedule import CosineSchedule
from muybridge.diffusion.tables import level_grid

TIME_CHANNELS = 64
#: Levels the prior trains on and samples over.
SCHEDULE = CosineSchedule(-8.0, 8.0)
STEPS, DRAWS = 16, 4


class ContentPrior(ModelMixin, ConfigMixin):
    """Denoises a picture embedding, scaled to unit variance, under a text embedding; predicts the clean one.

    Args:
        width: of both embeddings.
        hidden: of the layers.
    """

    @register_to_config
    def __init__(self, width: int = 256, hidden: int = 512):
        super().__init__()
        self.enter = nn.Linear(2 * width + TIME_CHANNELS, hidden)
        self.middle = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(hidden), nn.Linear(hidden, hidden), nn.GELU(), nn.Linear(hidden, hidden))
            for _ in range(2)
        )
        self.leave = nn.Linear(hidden, width)

    def forward(self, z: Tensor, lam: Tensor, words: Tensor) -> Tensor:
        """z [B, D] noisy, lam [B] log-SNR, words [B, D] of unit length -> x_hat [B, D]."""
        scaled = words * words.shape[1] ** 0.5
        time = get_timestep_embedding(lam.float() * 50, TIME_CHANNELS).to(z)
        h = self.enter(torch.cat([z, scaled, time], 1))
        for layer in self.middle:
            h = h + layer(h)
        out: Tensor = self.leave(h)
        return out

    @torch.no_grad()
    def picture_embedding(self, words: Tensor, seed: int = 0) -> Tensor:
        """A picture embedding [1, D] of unit length for words [1, D]: the best by words of a few draws."""
        rows = words.expand(DRAWS, -1)
        noise = Noise([seed + i for i in range(DRAWS)])((words.shape[1],), "prior").to(words)
        lams = level_grid(SCHEDULE, STEPS)
        *_, last = sample_ddim(lambda z, lam: self(z, lam.to(z), rows), noise, lams)
        found = normalize(last.z, dim=-1)
        return found[(found @ words[0]).argmax()][None]
